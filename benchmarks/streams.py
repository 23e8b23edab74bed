"""A streaming server in a separate process: the same answer to every request, in one write or paced.

It serves to measure clients: it needs much less CPU than any of them, and reports what it has served when it ends. It shares
no code with ``runner``.
"""

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple, Self

import uvloop

from benchmarks import child
from benchmarks.process import environment
from benchmarks.stub import Connection

_WORDS = (
    "Every",
    " number",
    " has",
    " its",
    " own",
    " story",
    ",",
    " and",
    " few",
    " are",
    " told",
    ".",
    " Let",
    " me",
    " try",
    ": ",
)
# a thousand connections may arrive within one turn of the event loop; a full queue would cost a second
_BACKLOG = 4096
_FILES = 8192
_GRACE_S = 10.0
_STAMP = b"@@@@@@@@@@@@@@@@@"
"""Stands in each piece for the time when it leaves the server, as many characters as that has."""
# the headers of OpenAI, with limits too high to be reached, so that a client parses them as usual
_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n"
    b"x-request-id: req_0123456789abcdef0123456789abcdef\r\nopenai-processing-ms: 12\r\n"
    b"x-ratelimit-limit-requests: 100000000\r\nx-ratelimit-remaining-requests: 99999999\r\nx-ratelimit-reset-requests: 1ms\r\n"
    b"x-ratelimit-limit-tokens: 1000000000\r\nx-ratelimit-remaining-tokens: 999999999\r\nx-ratelimit-reset-tokens: 1ms\r\n\r\n"
)


class Served(NamedTuple):
    """The server's own counts and times."""

    # answers that were written to the last byte
    answers: int
    # answers whose connection was lost before the last byte
    broken: int
    # the most answers in progress at once
    most: int
    # from the first request to the end of the last answer
    wall_s: float
    # its CPU time from the first request on
    cpu_s: float


def text(chunks: int) -> str:
    """Return the text of an answer of this many chunks."""
    return "".join(_words(chunks))


def answer(chunks: int) -> bytes:
    """Return the whole answer of this many chunks."""
    return b"".join(_pieces(chunks))


def _words(chunks: int) -> Iterator[str]:
    return (_WORDS[number % len(_WORDS)] for number in range(chunks))


def _pieces(chunks: int, *, stamped: bool = False) -> list[bytes]:
    """Return the answer, one piece per content chunk; the first includes the head, the last all that follows the content."""
    words = [f"{_STAMP.decode()} "] * chunks if stamped else _words(chunks)
    content = [_event(choices=[{"index": 0, "delta": {"content": word}, "finish_reason": None}]) for word in words]
    role = _event(choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
    end = _event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
    usage = _event(choices=[], usage={"prompt_tokens": 15, "completion_tokens": chunks, "total_tokens": 15 + chunks})
    content[0] = _HEAD + role + content[0]
    content[-1] += end + usage + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
    return content


def _event(**fields: object) -> bytes:
    shape = {"id": "chatcmpl-0123456789abcdef01234567", "object": "chat.completion.chunk", "created": 1_800_000_000}
    whole = {**shape, "model": "m-2026-01-01", "system_fingerprint": "fp_0123456789", **fields}
    return _chunk(b"data: %b\n\n" % json.dumps(whole, separators=(",", ":")).encode())


def _chunk(data: bytes) -> bytes:
    """Wrap an event as one chunk of HTTP's transfer coding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Streams:
    """A context manager that runs the server's process. If our process ends, the server's standard input closes, and it ends too.

    first_s: seconds until the first chunk. gap_s: seconds between two. With both 0, the whole answer is one write. stamped: each
    piece of a paced answer is the time when it leaves, in seconds of the monotonic clock, which all processes of a machine share.
    """

    def __init__(
        self, chunks: int, *, first_s: float = 0.0, gap_s: float = 0.0, cpu: int | None = None, stamped: bool = False
    ) -> None:
        self.chunks = chunks
        self._pace = (str(chunks), str(first_s), str(gap_s), *(["--stamped"] if stamped else []))
        self._cpu = cpu

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(  # noqa: S603 - our own command
            (sys.executable, "-m", "benchmarks.streams", *self._pace),
            env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        child.pin(self._process.pid, self._cpu)
        assert self._process.stdout is not None
        self.base_url = self._process.stdout.readline().strip()
        if not self.base_url:
            self.__exit__(None, None, None)
            raise RuntimeError("the server did not start")
        return self

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        with self._process:
            if self._process.poll() is None:
                self._process.kill()

    def end(self) -> Served:
        """End the server; return what it has served."""
        report, _ = self._process.communicate(timeout=_GRACE_S)
        return Served(**json.loads(report))


class _Counts:
    """Counts what has been served so far."""

    def __init__(self) -> None:
        self._first_at: float | None = None
        self._last_at = self._cpu = 0.0
        self._under_way = self._answers = self._broken = self._most = 0

    def began(self) -> None:
        if self._first_at is None:
            self._first_at, self._cpu = time.monotonic(), time.process_time()
        self._under_way += 1
        self._most = max(self._most, self._under_way)

    def ended(self, *, whole: bool) -> None:
        self._under_way -= 1
        self._answers += whole
        self._broken += not whole
        self._last_at = time.monotonic()

    def served(self) -> Served:
        first_at = self._last_at if self._first_at is None else self._first_at
        return Served(
            self._answers, self._broken + self._under_way, self._most, self._last_at - first_at, time.process_time() - self._cpu
        )


class _AtOnce(Connection):
    """Sends every answer in one write."""

    def __init__(self, counts: _Counts, whole: bytes) -> None:
        super().__init__()
        self._counts, self._whole = counts, whole

    def requested(self) -> None:
        self._counts.began()
        self.transport.write(self._whole)
        self._counts.ended(whole=True)


class _Paced(Connection):
    """Sends one chunk a write, each at a fixed time after the request, so that a late chunk does not delay those after it."""

    def __init__(self, counts: _Counts, pieces: list[bytes], first_s: float, gap_s: float) -> None:
        super().__init__()
        self._counts, self._pieces, self._first_s, self._gap_s = counts, pieces, first_s, gap_s
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def requested(self) -> None:
        self._counts.began()
        self._next = 0
        self._begin = self._loop.time() + self._first_s
        self._timer = self._loop.call_at(self._begin, self._step)

    def _step(self) -> None:
        self.transport.write(self._pieces[self._next].replace(_STAMP, b"%017.6f" % time.monotonic()))
        self._next += 1
        if self._next < len(self._pieces):
            self._timer = self._loop.call_at(self._begin + self._next * self._gap_s, self._step)
        else:
            self._timer = None
            self._counts.ended(whole=True)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's own signature
        if self._timer is not None:
            self._timer.cancel()
            self._counts.ended(whole=False)


async def _serve(chunks: int, first_s: float, gap_s: float, *, stamped: bool) -> None:
    """Serve until standard input ends."""
    loop, end, counts, pieces = asyncio.get_running_loop(), asyncio.Event(), _Counts(), _pieces(chunks, stamped=stamped)
    whole = answer(chunks)
    server = await loop.create_server(
        lambda: _Paced(counts, pieces, first_s, gap_s) if first_s or gap_s else _AtOnce(counts, whole),
        "127.0.0.1", 0, backlog=_BACKLOG,
    )  # fmt: skip
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    loop.add_reader(sys.stdin.fileno(), end.set)
    await end.wait()
    loop.remove_reader(sys.stdin.fileno())
    server.close()
    # if the parent was killed, nobody reads the pipe
    with suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), json.dumps(counts.served()._asdict()).encode())


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streams", description=__doc__)
    parser.add_argument("chunks", type=int)
    parser.add_argument("first_s", type=float)
    parser.add_argument("gap_s", type=float)
    parser.add_argument("--stamped", action="store_true")
    args = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY and hard < _FILES else _FILES, hard))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.run(_serve(args.chunks, args.first_s, args.gap_s, stamped=args.stamped))


if __name__ == "__main__":
    main()
