"""Workers that answer at once, or after a time that they draw, without HTTP: ``python -m benchmarks.instant HOST:PORT``.

They come in, prove the token (``RUNNER_WORKER_TOKEN``) and speak with the driver by the product's own code; only the hands, which
would make exchanges, are others. So what is measured is the driver. When it has ended them they write what they have done, as
JSON. ``--pair N`` is a local worker with the number of its socket, which a driver starts that ``benchmarks.driver`` has prepared.
"""

import argparse
import asyncio
import json
import os
import random
import socket
import sys
import time
from collections.abc import Iterable
from typing import NamedTuple, cast

import uvloop

from runner.errors import StreamError
from runner.frames import Batch, Link, join
from runner.model import Completion, Usage
from runner.text import Redactor
from runner.workers import tokens
from runner.workers.door import split
from runner.workers.faults import fault_of
from runner.workers.hands import Hands
from runner.workers.joining import _let_in
from runner.workers.looking import Looking
from runner.workers.process import Worker
from runner.workers.protocol import Back, Done, Heard, Tries, Welcome, encode

ANSWER = "All work and no play makes a long answer. " * 72
"""3 kB."""


class Told(NamedTuple):
    """What the workers of a process have done. first, last: by the monotonic clock. most: requests at once, at one of them."""

    answers: int
    first: float
    last: float
    most: int


class Instant:
    """Hands that make nothing, and say that it was done after ``pause_s``, drawn up to half more or less."""

    def __init__(self, link: Link, text: str, pause_s: float) -> None:
        self._link, self._pause_s = link, pause_s
        usage = Usage(input_tokens=500, output_tokens=len(text) // 4)
        self._answer = Completion(text=text, finish_reason="stop", usage=usage, served_model="m", response_id="r")
        self._draw = random.Random(id(self))  # noqa: S311 - a time
        self._loop = asyncio.get_running_loop()
        self._batch = Batch(self._flush)
        # a beat says whether somebody watches; there is no text to tell
        self.looking = Looking(Redactor(), lambda _: None)
        self._heard: list[Heard] = []
        self._done: list[Done] = []
        self._open: dict[int, asyncio.TimerHandle | None] = {}
        self.answers = self.most = 0
        self.first = self.last = 0.0

    @property
    def out(self) -> int:
        """How many are going on."""
        return len(self._open)

    def take(self, tries: Tries) -> None:
        """Begin them."""
        self.first = self.first or time.monotonic()
        for one in tries.tries:
            self._open[one.number] = None
            if self._pause_s:
                seconds = self._pause_s * self._draw.uniform(0.5, 1.5)
                self._open[one.number] = self._loop.call_later(seconds, self._end, one.number, seconds)
            else:
                self._end(one.number, 0.0)
        self.most = max(self.most, len(self._open))

    refuse = take

    def _end(self, number: int, seconds: float, *, cancelled: bool = False) -> None:
        del self._open[number]
        fault = fault_of(StreamError("the exchange was ended", code="cancelled")) if cancelled else None
        self._heard.append(Heard(number, 200))
        self._done.append(
            Done(
                number=number, status=200, connected=True, received=4_000, first_s=seconds / 2, answered_s=seconds,
                tail_lost=False, stage=0 if cancelled else 2, ended=not cancelled, started=True, chars=len(self._answer.text),
                answer=None if cancelled else self._answer, fault=fault,
            )
        )  # fmt: skip
        self.answers += not cancelled
        self._batch.due()

    def cancel(self, numbers: Iterable[int]) -> None:
        """End some of them."""
        for number in numbers:
            handle = self._open.get(number)
            if handle is not None:
                handle.cancel()
                self._end(number, 0.0, cancelled=True)

    async def end(self) -> None:
        """End all of them."""
        self.cancel(list(self._open))
        self._batch.now()

    def _flush(self) -> None:
        heard, done = self._heard, self._done
        self._heard, self._done = [], []
        self.last = time.monotonic()
        self._link.send(encode(Back(heard, [], done)))


class InstantWorker(Worker):
    """A worker with such hands."""

    def __init__(self, text: str, pause_s: float) -> None:
        super().__init__(dict(os.environ), None, "node")
        self._text, self._pause_s = text, pause_s
        self.hands: Instant | None = None

    def _prepare(self, _: Welcome) -> None:
        self.hands = Instant(self.link, self._text, self._pause_s)
        # they answer to the same calls
        self._hands = cast("Hands", self.hands)


async def _joined(place: str, number: int, text: str, pause_s: float) -> list[Instant]:
    token = tokens.read(os.environ[tokens.VARIABLE])
    workers = [InstantWorker(text, pause_s) for _ in range(number)]
    host = split(place, "the address")
    await asyncio.gather(*(_let_in(worker.link, host, token) for worker in workers))
    await asyncio.gather(*(worker.work() for worker in workers))
    return [worker.hands for worker in workers if worker.hands is not None]


async def _paired(number: int, text: str, pause_s: float) -> None:
    worker = InstantWorker(text, pause_s)
    await join(worker.link, socket.socket(fileno=number))
    await worker.work()


def main() -> None:
    """Parse the command line and work."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instant", description=__doc__)
    parser.add_argument("place", help="HOST:PORT of the driver")
    parser.add_argument("--links", type=int, default=1, help="workers in this process (1)")
    parser.add_argument("--pause-s", type=float, default=0.0, help="mean time of an answer (0)")
    parser.add_argument("--bytes", type=int, default=len(ANSWER), help=f"length of an answer ({len(ANSWER)})")
    args = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        found = loop.run(_joined(args.place, args.links, ANSWER[: args.bytes], args.pause_s))
    worked = [one for one in found if one.answers]
    first, last = min((one.first for one in worked), default=0.0), max((one.last for one in worked), default=0.0)
    told = Told(sum(one.answers for one in worked), first, last, max((one.most for one in worked), default=0))
    sys.stdout.write(json.dumps(told._asdict()))


def pair(number: int) -> None:
    """Be a local worker. number: of its socket."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.run(_paired(number, ANSWER, 0.0))


if __name__ == "__main__":
    main()
