"""``python -m benchmarks.page_day``: 24 hours of events through a session's socket and the page's server, as fast as they go.

A session -> its socket -> ``runner web`` -> a viewer that leaves and comes back 50 times, each with the id of the last event that
it has seen. Beside it, one viewer reads another stream, and one never reads. The session waits where it is further ahead than the
server keeps frames, since a day passes in minutes.

No event may be lost or doubled, and the memory of both processes is to be flat.
"""

import argparse
import asyncio
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO

import runner
from benchmarks import books, rows
from benchmarks.feed_day import DAY_S, GROWTH, RECONNECTS, Day
from benchmarks.process import environment, interrupted, say
from runner.control.messages import Hello, Reply, Request
from runner.control.place import listen
from runner.control.server import ControlServer
from runner.session.feed import TICK_S
from runner.web.token_file import token_of

AHEAD = 1_500
"""Frames by which the session is ahead of the viewer, at most; it makes as many while the viewer is away."""
_AWAY_S = 0.05
_EVENT = re.compile(rb"(?:id: (\d+)-(\d+)-(\d+)\n)?event: (\w+)\ndata: ([^\n]*)\n\n")
_NOTE = re.compile(rb'"note":"note (\d+)"')
_LIMIT_S = 60.0


class _Pace:
    """Says how far the viewer is: it writes the number of the last frame that it has seen to the standard input."""

    def __init__(self) -> None:
        self.seen = -1
        self._more = asyncio.Event()

    async def begin(self) -> None:
        """Read from now on."""
        loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        self._task = loop.create_task(self._read(reader))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            self.seen = int(line)
            self._more.set()

    async def until(self, number: int) -> None:
        """Return when the viewer has seen a frame."""
        while self.seen < number and not self._task.done():
            self._more.clear()
            more = asyncio.ensure_future(self._more.wait())
            await asyncio.wait({more, self._task}, return_when=asyncio.FIRST_COMPLETED)
            more.cancel()


async def _answer(_: Request, by: str) -> Reply:
    return Reply(number=0, error=f"nothing can be steered here, {by}")


async def _session(store: Path, turns: int) -> None:
    """Be the session of the first run of a store for so many turns."""
    day, pace = Day(), _Pace()
    day.feed.run = 1
    server = ControlServer(listen(store, 1), Hello(run=1, session=1, pid=os.getpid()), _answer, day.feed)
    server.begin()
    await pace.begin()
    await pace.until(0)
    for number in range(turns):
        day.pass_(number)
        await asyncio.sleep(0)
        await pace.until(day.feed.newest - AHEAD)
    await pace.until(day.feed.newest)
    await server.aclose()
    day.feed.close()


class _Viewer:
    """Reads the stream of all runs, and holds it to what is promised. told: where it says how far it is."""

    def __init__(self, port: int, token: str, told: IO[bytes]) -> None:
        self._port, self._token, self._told = port, token, told
        self.last, self.note, self.kinds = b"", -1, Counter[str]()
        self.faults: list[str] = []

    @property
    def number(self) -> int:
        """Of the last frame."""
        return int(self.last.rpartition(b"-")[2] or 0)

    def come(self) -> None:
        """Open the stream behind what was seen last."""
        self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_LIMIT_S)
        more = {"Last-Event-ID": self.last.decode()} if self.last else {}
        self._connection.request("GET", "/api/events", headers={"Authorization": f"Bearer {self._token}", **more})
        self._answer, self._rest = self._connection.getresponse(), b""
        if self._answer.status != http.client.OK:
            raise RuntimeError(f"the stream answers {self._answer.status}")

    def leave(self) -> None:
        """End the connection, and stay away for a while."""
        self._answer.close()
        self._connection.close()
        time.sleep(_AWAY_S)

    def read(self) -> None:
        """Take what has come."""
        piece = self._answer.read1(1 << 18)
        if not piece:
            raise RuntimeError("the stream has ended")
        text, end = self._rest + piece, 0
        for event in _EVENT.finditer(text):
            end = event.end()
            self._take(event)
        self._rest = text[end:]
        # the session begins when the state has come
        if self.last:
            self.say(self.number)

    def say(self, number: int) -> None:
        """Let the session go on as far as it may."""
        # at the end, the session has gone
        with suppress(BrokenPipeError):
            self._told.write(b"%d\n" % number)
            self._told.flush()

    def _take(self, event: re.Match[bytes]) -> None:
        kind = event[4].decode()
        self.kinds[kind] += 1
        if event[3] is None:
            if kind != "runs":
                self.faults.append(f"{kind} behind {self.number}")
            return
        if kind == "state":
            if self.last:
                self.faults.append(f"a state behind {self.number}")
        elif int(event[3]) != self.number + 1:
            self.faults.append(f"frame {int(event[3])} behind {self.number}")
        self.last = b"%b-%b-%b" % event.group(1, 2, 3)
        if kind == "note":
            found = _NOTE.search(event[5])
            if found is None or int(found[1]) != self.note + 1:
                self.faults.append(f"{event[5]!r} behind note {self.note}")
            self.note += 1


def _beside(port: int, token: str, *, reads: bool) -> socket.socket:
    """Open the stream of the run; what comes is thrown away, or never read."""
    end = socket.create_connection(("127.0.0.1", port), _LIMIT_S)
    head = f"GET /api/runs/1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
    end.sendall(head.encode())

    def read() -> None:
        with suppress(OSError):
            while end.recv(1 << 18):
                pass

    if reads:
        threading.Thread(target=read, daemon=True).start()
    return end


def _mib(pid: int) -> float:
    """Return the resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))


def _started(stack: ExitStack, *words: str) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(  # noqa: S603 - our own commands
        (sys.executable, "-m", *words), env=environment(), stdin=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def _free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _until(port: int, path: Path) -> None:
    """Return when the page is served and the session listens."""
    end = time.monotonic() + _LIMIT_S
    while time.monotonic() < end:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            if path.exists():
                return
        time.sleep(0.05)
    raise RuntimeError("the page is not served")


def _pass_day(turns: int) -> tuple[_Viewer, list[tuple[float, float]]]:
    """Return the viewer, and the memory of session and server in MiB at each tenth."""
    sizes: list[tuple[float, float]] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="runner-bench-")))
        rows.write(folder, rows.plain(1))
        store = folder / books.STORE
        runner.run(folder / "prompts.jsonl", provider="simulator", db=store)
        port = _free()
        web = _started(stack, "runner", "web", "--db", str(store), "--port", str(port))
        session = _started(stack, "benchmarks.page_day", "--session", str(store), "--turns", str(turns))
        _until(port, store.with_name(f"{store.name}-run1.sock"))
        assert session.stdin is not None
        viewer = _Viewer(port, token := token_of(store), session.stdin)
        for part in range(RECONNECTS):
            viewer.come()
            others = [_beside(port, token, reads=reads) for reads in (True, False)]
            while viewer.note + 1 < turns * (part + 1) // RECONNECTS:
                viewer.read()
            viewer.leave()
            for end in others:
                end.close()
            if part % (RECONNECTS // 10) == RECONNECTS // 10 - 1:
                sizes.append((_mib(session.pid), _mib(web.pid)))
                say(
                    f"{100 * (part + 1) // RECONNECTS} %: {viewer.number:,} frames, session {sizes[-1][0]:.1f} MiB, "
                    f"server {sizes[-1][1]:.1f} MiB, {len(viewer.faults)} faults"
                )
    return viewer, sizes


def main() -> int:
    """Parse the command line, measure, print; return 1 if an event was lost or doubled, or if the memory has grown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page_day", description=__doc__)
    parser.add_argument("--turns", type=int, default=round(DAY_S / TICK_S), help="tenths of a second (864,000, a day)")
    parser.add_argument("--session", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, interrupted)
    if args.session is not None:
        asyncio.run(_session(args.session, args.turns))
        return 0
    began = time.monotonic()
    viewer, sizes = _pass_day(args.turns)
    _print(viewer, sizes, args.turns, time.monotonic() - began)
    grown = [sizes[-1][place] / sizes[0][place] - 1 for place in range(2)]
    return int(bool(viewer.faults) or max(grown) > GROWTH)


def _print(viewer: _Viewer, sizes: Sequence[tuple[float, float]], turns: int, took_s: float) -> None:
    hours = turns * TICK_S / 3600
    print(f"{hours:.1f} hours in {took_s:.0f} s: {sum(viewer.kinds.values()):,} events, {RECONNECTS} connections")
    print("; ".join(f"{count:,} {kind}" for kind, count in sorted(viewer.kinds.items())))
    for place, name in enumerate(("session", "server")):
        early, middle, last = (sizes[tenth][place] for tenth in (0, 4, 9))
        print(f"{name}: {early:.1f} MiB at 10 %, {middle:.1f} at 50 %, {last:.1f} at the end")
    print(f"lost or doubled: {len(viewer.faults)}", *viewer.faults[:5], sep="\n")


if __name__ == "__main__":
    sys.exit(main())
