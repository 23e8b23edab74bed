"""Kills the process that has loaded it at one of its points, in a fork of ``runner`` (``forks.BEFORE``).

A point is an instant before, within or behind what changes something that outlives the process:

* each request of a batch API: before it, in the middle of what it sends, when it is sent, when its answer begins, and behind it;
* each transaction of the store's writer: before it, when it is about to be committed, and behind it;
* each file in the folder of batches: before it is made, renamed or deleted.

A point has a name and a number, counted among those of its name, so that it is the same one in all sessions that go the same way.
"""

import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio

POINT, LOG, SPEED, ROWS = "KILL_POINT", "KILL_LOG", "KILL_SPEED", "KILL_ROWS"
"""Variables: the point; the file to which the names of all points go; how many times faster the waits of batches are; and rows
of a file of requests."""
PART = 2
"""Results that are imported in one transaction, so that a batch takes several."""
MARGINS = 300.0
"""How many times smaller the margins of the policy of mixed runs are."""
LEAST_PIECE, STEP_S = 2, 0.2
_SENT = {
    "http11.send_request_headers.started": "before",
    "http11.send_request_body.complete": "sent",
    "http11.receive_response_headers.complete": "answered",
    "http11.receive_response_body.complete": "over",
}
_FILES = ("os.remove", "os.rename", "os.rmdir", "os.mkdir")


class Points:
    """Counts the points of this process."""

    def __init__(self, wanted: str, log: Path) -> None:
        self._wanted = wanted
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def at(self, name: str) -> None:
        """Count a point, and kill this process if it is the one."""
        with self._lock:
            self._counts[name] += 1
            point = f"{name} #{self._counts[name]}"
            os.write(self._log, f"{point}\n".encode())
            if point == self._wanted:
                os.kill(os.getpid(), signal.SIGKILL)
                # nothing more is done while the signal is on its way
                signal.pause() if threading.current_thread() is threading.main_thread() else threading.Event().wait()


def install() -> None:
    """Have the code of ``runner`` in this process come by the points."""
    environ = os.environ
    points = Points(environ.pop(POINT, ""), Path(environ.pop(LOG)))
    _watch_requests(points)
    _watch_commits(points)
    _watch_files(points)
    _hurry(float(environ.pop(SPEED, "1")), int(environ.pop(ROWS, "0")))


def _watch_requests(points: Points) -> None:
    from runner.providers.batch import transport

    def built(self: Any, method: str, url: str, **parts: Any) -> Any:
        name = f"{method} {_shape(urlsplit(url).path)}"

        async def trace(event: str, _info: Any) -> None:
            if event in _SENT:
                points.at(f"{name} {_SENT[event]}")

        request = build(self, method, url, **parts)
        request.extensions = {**request.extensions, "trace": trace}
        return request

    async def pieces(*given: Any) -> AsyncIterator[bytes]:
        async for piece in cut(*given):
            half = len(piece) // 2
            yield piece[:half]
            if half > 100:
                points.at("file half sent")
            yield piece[half:]

    build, cut = transport.Transport._request, transport._pieces
    transport.Transport._request = built
    transport._pieces = pieces


def _shape(path: str) -> str:
    """Return a path without the ids in it."""
    return "/".join("*" if any(sign in part for sign in ("-", "_", "%")) else part for part in path.split("/"))


def _watch_commits(points: Points) -> None:
    from runner.store.connection import Connection

    def watched(method: Any) -> Callable[..., Awaitable[Any]]:
        async def turn(self: Any, work: Callable[..., Any]) -> Any:
            if not self._write:
                return await method(self, work)
            name = f"commit {_name(work)}"
            points.at(f"{name} before")
            if method is in_one_turn:

                def worked(driver: Any) -> Any:
                    result = work(driver)
                    points.at(f"{name} in")
                    return result
            else:

                async def worked(connection: Any) -> Any:
                    result = await work(connection)
                    points.at(f"{name} in")
                    return result

            result = await method(self, worked)
            points.at(f"{name} behind")
            return result

        return turn

    transaction, in_one_turn = Connection.transaction, Connection.in_one_turn
    Connection.transaction = watched(transaction)
    Connection.in_one_turn = watched(in_one_turn)


def _name(work: Any) -> str:
    work = work.func if isinstance(work, partial) else work
    parts = [part for part in work.__qualname__.split(".") if not part.startswith("<")]
    return ".".join(parts[-2:])


def _watch_files(points: Points) -> None:
    def seen(event: str, values: tuple[Any, ...]) -> None:
        if event not in _FILES or ".batches" not in (path := os.fsdecode(values[0]) if not isinstance(values[0], int) else ""):
            return
        name = Path(path).name
        kind = "folder" if name.endswith(".batches") else "results" if ".results-" in name else "requests"
        points.at(f"{event} {kind}{name[name.index('.jsonl') + 6 :] if '.jsonl' in name else ''}")

    sys.addaudithook(seen)


def _hurry(speed: float, rows: int) -> None:
    """Let the waits of batches pass faster, and make their files and parts of results small."""
    import time

    from runner.engine.batch import importing, parts, policy
    from runner.engine.clock import Clock
    from runner.providers.batch import download
    from runner.session import batch_view, batching

    def clock(**given: Any) -> Clock:
        return Clock(monotonic=lambda: time.monotonic() * speed, sleep=lambda seconds: anyio.sleep(seconds / speed), **given)

    for name in (name for name in vars(policy) if name.endswith("_S") and name.isupper()):
        # a session that is to be done in seconds has margins of hours otherwise
        setattr(policy, name, getattr(policy, name) / MARGINS)
    policy.LEAST_PIECE = LEAST_PIECE
    batch_view.View = partial(batch_view.View, step_s=STEP_S)
    batching.Clock = clock
    download.PAUSE_S /= speed
    importing.AT_ONCE = PART
    if rows:
        parts.Plan = partial(parts.Plan, rows=rows)
