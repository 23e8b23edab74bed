"""What workers tell of requests that were given up: it is taken where the row is still open, else booked."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeAlias

from runner.entries import LateUsage
from runner.errors import StoreError
from runner.workers.member import Member
from runner.workers.protocol import Done
from runner.workers.trial import Trial

BookLate: TypeAlias = Callable[[Sequence[LateUsage]], Awaitable[None]]


class LateAnswers:
    """What has come late and is not booked yet. book: writes down what attempts have used."""

    def __init__(self, book: BookLate) -> None:
        self._book = book
        self.waiting: list[LateUsage] = []

    def take(self, trial: Trial, done: Done, members: Iterable[Member]) -> None:
        """Take what has become of a request that was given up. members: the workers that may have the row by now."""
        of, answer = trial.of, done.answer
        if not done.connected and of is not None:
            self.waiting.append(LateUsage(*of, None))
        if not done.whole or answer is None:
            return
        if not trial.watched and (taken := next(filter(None, (member.settle(trial, done) for member in members)), None)):
            if taken == "unsent" and of is not None:
                # the answer is booked with the attempt that takes it, and no other request has gone out for that one
                self.waiting.append(LateUsage(*of, None))
            return
        if of is None:
            return
        late = LateUsage(*of, answer)
        trial.told(done)
        if not trial.offered(partial(self._used, late)):
            self._used(late, taken=False)

    def _used(self, late: LateUsage, taken: bool) -> None:
        """Book an answer that was offered to its row. taken: it is booked already, with an attempt of its own."""
        if taken:
            self.waiting.append(LateUsage(late.key, late.number, None))
        elif late.answer is not None and late.answer.usage is not None:
            self.waiting.append(late)

    async def book(self) -> None:
        """Write down what waits for it. A store that cannot be written is told by the session itself."""
        late, self.waiting = self.waiting, []
        with suppress(StoreError):
            await self._book(late)
