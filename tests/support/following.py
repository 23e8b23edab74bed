"""A watcher of a session: puts the frames together, as a page does, and holds them to what is promised."""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from runner.control.client import connect
from runner.control.messages import Feed
from runner.errors import NotRunningError

Which = tuple[Any, int, int]
"""Id, attempt and number of an answer."""


class Follower:
    """What a watcher knows. room: how many more frames it takes; None: any number."""

    def __init__(self, room: int | None = None) -> None:
        self.room = room
        self.frames: list[Feed] = []
        self.kinds: Counter[str] = Counter()
        # what is open and what has ended, each with its text and its reasoning; the error codes of the second
        self.open: dict[Which, list[str]] = {}
        self.ended: dict[Which, list[str]] = {}
        self.codes: dict[Which, str | None] = {}
        self.rows: dict[Any, dict[str, Any]] = {}
        self.progress: dict[str, Any] = {}
        self.last: dict[str, Any] = {}
        self.after: int | None = None
        # how often an answer has started over
        self.restarts = 0

    def put(self, frame: Feed) -> bool:
        """Take a frame, as ``SessionFeed.subscribe`` has it."""
        if self.room is not None:
            if not self.room:
                return False
            self.room -= 1
        self.take(frame)
        return True

    def take(self, frame: Feed) -> None:
        self.frames.append(frame)
        self.kinds[frame.kind] += 1
        self.last = data = json.loads(frame.data)
        if frame.kind == "skipped":
            assert (frame.number, data) == (0, {})
            return
        if frame.kind == "state":
            assert frame.number >= (self.after or 0)
            self.open = {of(one): [one["text"] or "", one["reasoning"] or ""] for one in data["answers"]}
        else:
            assert self.after is not None, "the state comes first"
            assert frame.number > self.after, "no frame comes twice"
            getattr(self, f"_{frame.kind}", lambda _: None)(data)
        self.after = frame.number

    def _open(self, data: dict[str, Any]) -> None:
        for one in data["answers"]:
            assert of(one) not in self.open
            self.open[of(one)] = ["", ""]

    def _text(self, data: dict[str, Any]) -> None:
        for piece in data["pieces"]:
            which, place = self.open[of(piece)], piece["kind"] == "reasoning"
            assert piece["at"] <= len(which[place]), "nothing is missing"
            self.restarts += piece["at"] < len(which[place])
            which[place] = which[place][: piece["at"]] + piece["text"]

    def _closed(self, data: dict[str, Any]) -> None:
        for one in data["answers"]:
            self.ended[of(one)] = self.open.pop(of(one))
            self.codes[of(one)] = one["error_code"]

    def _rows(self, data: dict[str, Any]) -> None:
        self.rows |= {(one["id"], one["answer_number"]): one for one in data["rows"]}

    def _progress(self, data: dict[str, Any]) -> None:
        self.progress = data


def of(one: dict[str, Any]) -> Which:
    return one["id"], one["attempt"], one["answer_number"]


@contextmanager
def followed(store: Path) -> Iterator[Follower]:
    """Watch the first run of a store from a thread, from when it listens to its end. What is not as promised is raised here."""
    follower, given_up, faults = Follower(), threading.Event(), list[BaseException]()

    async def follow() -> None:
        while not given_up.is_set():
            with suppress(NotRunningError):
                connection = await connect(store, 1)
                async for frame in connection.watch():
                    follower.take(frame)
                return
            await asyncio.sleep(0.005)

    def main() -> None:
        try:
            asyncio.run(follow())
        except BaseException as error:  # noqa: BLE001 - raised in the test
            faults.append(error)

    thread = threading.Thread(target=main)
    thread.start()
    try:
        yield follower
    finally:
        given_up.set()
        thread.join(60)
        assert not thread.is_alive()
    for fault in faults:
        raise fault


def holds(pid: int, path: Path) -> bool:
    """Return True if a process holds a socket that listens, or has taken somebody in, at a path."""
    lines = Path("/proc/net/unix").read_text().splitlines()
    numbers = {f"socket:[{line.split()[6]}]" for line in lines if line.endswith(f" {path}")}
    found = set()
    for one in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.add(str(one.readlink()))
    return not numbers.isdisjoint(found)
