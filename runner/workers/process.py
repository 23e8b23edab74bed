"""The process of a worker: says who it is, does what its driver asks for, and ends with it."""

import asyncio
import gc
import os
import resource
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from time import monotonic, process_time
from typing import NoReturn

import uvloop

from runner.errors import UsageError
from runner.frames import Link, join
from runner.text import clean
from runner.version import __version__
from runner.workers.ends import Ends
from runner.workers.hands import READ_S, Hands
from runner.workers.protocol import (
    BEAT_S,
    DIE_S,
    PROTOCOL,
    Beat,
    Bye,
    Cancel,
    Hello,
    ToWorker,
    Tries,
    Welcome,
    decode_for_worker,
    encode,
    fingerprint,
)

STILL_S = 4.5
"""Seconds between two beats after which its driver may have given a worker up: it ends."""
OWN_FILES = 40
"""Open files other than connections."""
MOST_OF_DRIVER = 1 << 30
"""Bytes of a frame of the driver: files of a request are at most half of that."""
TOLD_S = 0.5
"""Seconds for the last words to leave."""


class Worker:
    """One worker. own: another base URL than that of the driver. host: its machine; empty for that of the driver."""

    def __init__(self, environment: Mapping[str, str], own: str | None, host: str) -> None:
        self._environment, self._own, self._host = environment, own, host
        # a request may hold files, and nobody but the driver sends them
        self.link = Link(self._take, self._gone, most=MOST_OF_DRIVER)
        self._hands: Hands | None = None
        # why it is to end; and whether its driver is gone, so that nobody waits for what is under way
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._alone = asyncio.Event()
        self._beat_at = monotonic()
        # what has come behind a long silence, and is not begun yet; None: nothing is held back
        self._held: list[Tries | Cancel] | None = None
        self.ends: Ends | None = None

    async def work(self) -> str:
        """Work until the end. Return why it has ended, a sentence; empty if the driver has ended it."""
        beating = asyncio.get_running_loop().create_task(self._beat())
        reason = await self._ended
        beating.cancel()
        if self._hands is not None and not self.link.ended:
            loop = asyncio.get_running_loop()
            ends = {loop.create_task(self._hands.end()), loop.create_task(self._alone.wait())}
            _, left = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for task in left:
                task.cancel()
        self.link.send(encode(Bye(reason)))
        self.link.end()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._alone.wait(), TOLD_S)
        if self.ends is not None:
            await self.ends.close()
        return reason

    def _gone(self, why: str | None) -> None:
        self._alone.set()
        self._end(f"its driver: {why}" if why is not None else "")

    def _end(self, reason: str) -> None:
        if not self._ended.done():
            self._ended.set_result(reason)
            # it is given back
            self._go_on()

    def _take(self, frame: bytes) -> None:
        now = monotonic()
        gap_s, self.link.gap_s = self.link.gap_s, 0.0
        if self._hands is not None and gap_s > STILL_S and self._held is None and not self._ended.done():
            # nothing came through: what comes now may have been given to others, which its driver says behind it
            self._held = []
            asyncio.get_running_loop().call_later(READ_S, self._go_on)
        if self._hands is not None and now - self._beat_at > STILL_S:
            # what has come meanwhile was given to others
            self._end(_stood_still(now - self._beat_at))
        message = decode_for_worker(frame)
        if self._held is not None and isinstance(message, Tries | Cancel):
            self._held.append(message)
        else:
            self._do(message)

    def _go_on(self) -> None:
        """Do what was held back."""
        held, self._held = self._held or [], None
        for message in held:
            self._do(message)

    def _do(self, message: ToWorker) -> None:
        if isinstance(message, Tries) and self._hands is not None:
            (self._hands.refuse if self._ended.done() else self._hands.take)(message)
        elif isinstance(message, Cancel) and self._hands is not None:
            self._hands.cancel(message.numbers)
        elif isinstance(message, Beat) and self._hands is not None:
            self._hands.looking.want(texts=message.texts)
        elif isinstance(message, Welcome):
            self._greet(message)
        elif isinstance(message, Bye):
            self._end(f"the run has ended this worker: {clean(message.reason, 500)}" if message.reason else "")

    def _greet(self, welcome: Welcome) -> None:
        trouble = ""
        if (welcome.protocol, welcome.version) == (PROTOCOL, __version__):
            try:
                self._prepare(welcome)
            except UsageError as error:
                trouble = str(error)
        values = {name: self._environment.get(name, "").strip() for name in welcome.variables}
        keys = {name: fingerprint(welcome.session, value) for name, value in values.items() if value}
        hello = Hello(PROTOCOL, __version__, self._host, os.getpid(), connections(), keys, trouble)
        self.link.send(encode(hello))

    def _prepare(self, welcome: Welcome) -> None:
        """Make what is needed to send requests. Raises UsageError."""
        assert welcome.setup is not None
        secrets = {name: self._environment.get(name, "").strip() for name in welcome.variables}
        self.ends = Ends(welcome.setup, secrets, self._own)
        self._hands = Hands(self.link, self.ends, secrets, self._too_late)

    def _too_late(self) -> bool:
        """Return True once its driver may have given up this worker, which may stop and go on between any two steps."""
        return self._ended.done() or monotonic() - self._beat_at > STILL_S

    @property
    def _out(self) -> int:
        return self._hands.out if self._hands is not None else 0

    async def _beat(self) -> None:
        # coming in may have taken long
        self._beat_at = monotonic()
        pause_s = BEAT_S
        while True:
            await asyncio.sleep(pause_s)
            now = monotonic()
            deaf_s, planned_s = now - self.link.read_at, pause_s
            # a worker that hears nothing says so often, as its driver is to know it in time
            pause_s = BEAT_S if deaf_s < 2 * BEAT_S else BEAT_S / 4
            gap_s, self._beat_at = now - self._beat_at, now
            if gap_s > STILL_S:
                self._end(_stood_still(gap_s))
            elif deaf_s > DIE_S:
                self._end(f"nothing was heard of the driver for {DIE_S:g} s")
            elif not self._ended.done():
                self.link.send(encode(Beat(process_time(), max(0.0, gap_s - planned_s), self._out, deaf_s)))


def _stood_still(seconds: float) -> str:
    return f"it stood still for {seconds:.0f} s"


def connections() -> int:
    """Return how many connections the limit of open files allows; it is raised as far as it goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return 1_000_000 if soft == resource.RLIM_INFINITY else max(1, soft - OWN_FILES)


def main(number: int) -> NoReturn:
    """Work for the driver that has started this process. number: of an open socket."""
    # as the command: objects of imports live until the end
    gc.set_threshold(500_000, 20, 20)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        reason = loop.run(_serve(socket.socket(fileno=number)))
        leave(reason)


async def _serve(end: socket.socket) -> str:
    worker = Worker(dict(os.environ), None, "")
    await join(worker.link, end, at_once=True)
    return await worker.work()


def leave(reason: str) -> NoReturn:
    """End the process at once: connections to servers are closed with it."""
    if reason:
        sys.stderr.write(f"runner: {reason}\n")
    sys.stderr.flush()
    os._exit(1 if reason else 0)
