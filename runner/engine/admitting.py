"""What a request waits for before it goes out: its delay, a permit, room in memory for its files, and a budget if there is one.

With a budget, a request holds the most that it can use, from before it goes out until its attempt is saved. That is in the store
before it goes out, so that it counts even if the process is killed meanwhile. Without one, the requests of a session have a
reservation together (``collective``).

A request takes its amount with its permit. Where the budget is short, it waits for the amount first, and holds no slot meanwhile.
It holds the amount while it waits for its permit.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Protocol

import anyio
from msgspec import structs

from runner.admission import Amounts, Permit, Reservation
from runner.engine.bounds import Bounds, bounds
from runner.engine.clock import Clock
from runner.engine.collective import QUOTE_S, Collective
from runner.engine.limits.budget import Budget
from runner.engine.limits.halt import Halt
from runner.engine.lost import interrupts
from runner.engine.patience import fall_back
from runner.engine.retry import phrase
from runner.engine.sending import Sender, expected
from runner.engine.stop import Stop
from runner.engine.task import Task
from runner.engine.way import Way
from runner.interfaces import Emit
from runner.model import Attempt, Item
from runner.money import Price


class Quote(NamedTuple):
    """The most that a request can use of a budget. price: the highest rates that it can reach."""

    amounts: Amounts
    output_bound: int
    price: Price


class Purse(Protocol):
    """A budget, and what requests use of it."""

    @property
    def budget(self) -> Budget:
        """The budget of the session."""
        ...

    def quote(self, model: str, bound: Bounds, at: float) -> Quote:
        """Return the most that a request can use that goes out within an hour. Raises AttemptError if that is not known.

        at: seconds since the epoch.
        """
        ...

    def used(self, attempt: Attempt, reserved: Reservation) -> Amounts:
        """Return what an attempt has used, or may have."""
        ...

    def correct(self, was: Attempt, now: Attempt) -> None:
        """Count an attempt as it is known now. was: as it was counted."""
        ...


class Senders(Protocol):
    """Who sends the requests of a client that does not send them itself."""

    @property
    def ready(self) -> bool:
        """True if one of them can send another request; or if none ever will, which is told where it is to be sent."""
        ...

    async def wait(self) -> None:
        """Wait until that is so."""
        ...


class Admitting:
    """Lets requests out. purse: of the session; None: there is no budget. ways: where they can go, by number.

    senders: None: the client sends by itself.
    """

    def __init__(self, sender: Sender, ways: Sequence[Way], stop: Stop, clock: Clock, senders: Senders | None = None) -> None:
        self._sender, self.ways, self._stop = sender, ways, stop
        self._acquired = self._of_lane if senders is None else partial(self._sendable, senders)
        self._sleep, self._wall, self._clock = clock.sleep, clock.wall, clock.monotonic
        self.purse: Purse | None = None
        # what is reserved where there is no budget; None: nothing is
        self.collective: Collective | None = None
        # what a person has paused; None: nobody can
        self.halt: Halt | None = None
        # called when a row cannot go out in this session any more, since too little of the budget is left for it
        self.passed: Callable[[Item], None] = lambda _: None
        # how many items wait for a retry, by the number of their next attempt
        self._retrying: Counter[int] = Counter()

    def retrying(self, attempts: int) -> str | None:
        """Return a phrase about the rows that wait for a retry; None if there are none. attempts: how many a row may use."""
        return phrase(self._retrying, attempts)

    async def admitted(self, task: Task, wait_s: float | None, emit: Emit) -> Permit | None:
        """Wait for the delay of a retry, then for a permit and the rest.

        Return None if the run stops first, if the item is given up, or if an answer comes to it.

        Raises AttemptError if there is a budget, and nobody knows what the request can use of it.
        """
        if task.given_up:
            return None
        permit: Permit | None = None
        number = task.lane.counted(task.standing) + 1 if wait_s is not None else 1
        if wait_s is not None:
            self._retrying[number] += 1
        try:
            with self._stop.interrupts() as task.wait, interrupts(task.lost):
                if wait_s and not task.standing.elsewhere:
                    with task.lane.resting(task.standing):
                        await self._sleep(wait_s)
                permit = await self._permit(task)
                if task.files is not None:
                    await self._sender.enter(task)
                if task.reserved is not None:
                    await _written(task.reserved, emit)
                else:
                    await self._covered(task, emit)
                await self._released(task, emit)
        finally:
            if wait_s is not None:
                self._retrying[number] -= 1
        if permit is not None and (self._stop.requested or task.given_up or task.answered):
            await self._give_back(task, permit, emit)
            return None
        if permit is not None:
            permit.sent_at = self._clock()
        return permit

    async def _give_back(self, task: Task, permit: Permit, emit: Emit) -> None:
        """Give back all that a request holds that is not to go out after all."""
        self._sender.leave(task)
        task.lane.release(permit, unused=True)
        if task.share is not None:
            task.share.end()
        if task.reserved is not None and self.purse is not None:
            self.purse.budget.settle(task.reserved.amounts, Amounts())
            await _voided(task.reserved, emit)

    async def _released(self, task: Task, emit: Emit) -> None:
        """Wait while a person has paused the session: the request has waited for room in memory, or for the store."""
        if self.halt is not None and self.halt.on:
            try:
                await self.halt.over()
            except BaseException:
                if task.reserved is not None:
                    await _voided(task.reserved, emit)
                raise

    async def _covered(self, task: Task, emit: Emit) -> None:
        """Wait until the store has what the request may use, among others. It is the one that goes out then."""
        self._encode_again(task)
        if (collective := self.collective) is not None:
            while not collective.take(task):
                await collective.widen(task, emit)
                self._encode_again(task)

    def _encode_again(self, task: Task) -> None:
        """Encode a request again if a parameter was learned while its item waited, or it goes elsewhere now."""
        provider = task.way.provider
        if task.revision != provider.revision:
            task.revision, task.call = provider.revision, provider.encode(task.item.request)

    def settle(self, reserved: Reservation, attempt: Attempt) -> None:
        """Give back what an attempt has held of the budget and not used. It has been saved."""
        if self.purse is not None:
            self.purse.budget.settle(reserved.amounts, self.purse.used(attempt, reserved))

    def spend(self, attempt: Attempt) -> None:
        """Count an attempt that has held nothing of the budget. It has been saved."""
        if self.purse is not None:
            self.purse.correct(structs.replace(attempt, sent=False), attempt)

    async def _permit(self, task: Task) -> Permit:
        """Wait for a permit; with a budget, also for an amount of it, which the task holds then."""
        purse = self.purse
        if purse is None:
            return await self._acquired(task)
        while True:
            reserved, permit = self._reservation(task, purse), None
            need, first = reserved.amounts, not purse.budget.has_room(reserved.amounts)
            if first:
                with task.lane.resting(task.standing, "budget"):
                    await purse.budget.wait(need, partial(self._pass, task))
                # it may have left, and have its amount all the same: a person has raised the budget
                task.lane.come(task.standing)
            try:
                permit = await self._acquired(task)
                reserved = self._renewed(task, purse, reserved)
            except BaseException:
                if first:
                    purse.budget.settle(need, Amounts())
                if permit is not None:
                    task.lane.release(permit, unused=True)
                raise
            if purse.budget.change(need, reserved.amounts) if first else purse.budget.take(reserved.amounts):
                task.reserved = reserved
                return permit
            # others were quicker, or it may cost more by now
            if first:
                purse.budget.settle(need, Amounts())
            task.lane.release(permit, unused=True)
            task.standing.admitted_at = None

    async def _sendable(self, senders: Senders, task: Task) -> Permit:
        """Wait for a permit, which uses up limits: not before somebody can send the request."""
        while True:
            if not senders.ready:
                with task.lane.resting(task.standing, "workers"):
                    await senders.wait()
            permit = await self._of_lane(task)
            if senders.ready:
                return permit
            # the last of them has gone meanwhile
            task.lane.release(permit, unused=True)
            task.standing.admitted_at = None

    async def _of_lane(self, task: Task) -> Permit:
        """Wait for a permit of the lane, of the standard tier if flex has had no capacity for the row for long enough."""
        most, until = task.item.request.params.max_tokens, task.standing.flex_until
        while until is not None:
            if (left_s := until - self._clock()) > 0:
                with anyio.move_on_after(left_s):
                    return self._led(task, await task.lane.acquire(task.standing, expected(task), most))
            if self.halt is not None and self.halt.on:
                # while nothing goes out, its time does not pass
                await self.halt.over()
            if (later := task.standing.flex_until) == until:
                fall_back(task)
                later = None
            until = later
        return self._led(task, await task.lane.acquire(task.standing, expected(task), most))

    def _led(self, task: Task, permit: Permit) -> Permit:
        """Have the request made for the endpoint that the permit is for."""
        if permit.endpoint != task.way.number:
            task.way, task.revision = self.ways[permit.endpoint], -1
        return permit

    def _pass(self, task: Task) -> None:
        """Let a row out of its lane that cannot go out in this session any more: what is left of the budget is too small."""
        task.lane.leave(task.standing)
        self.passed(task.item)

    def _renewed(self, task: Task, purse: Purse, reserved: Reservation) -> Reservation:
        """Return a reservation as it is now: the wait for the permit may have been long, or a parameter was learned meanwhile."""
        if task.revision == task.way.provider.revision and self._wall() - reserved.started_at <= QUOTE_S:
            return reserved
        return self._reservation(task, purse)

    def _reservation(self, task: Task, purse: Purse) -> Reservation:
        """Return what the next attempt may use at most. Raises AttemptError if that is not known."""
        task.reserved = None
        self._encode_again(task)
        bound, at = bounds(task.call, task.files), self._wall()
        quote = purse.quote(task.item.request.model, bound, at)
        return Reservation(
            key=task.item.key,
            number=task.standing.number + 1,
            started_at=at,
            amounts=quote.amounts,
            input_bound=bound.input,
            output_bound=quote.output_bound,
            price=quote.price,
            cache_1h_bound=bound.hour,
        )


async def _written(reserved: Reservation, emit: Emit) -> None:
    """Pass a reservation to the writer, and wait until it is in the store."""
    try:
        await emit(reserved)
        await reserved.written.wait()
    except BaseException:
        await _voided(reserved, emit)
        raise


async def _voided(reserved: Reservation, emit: Emit) -> None:
    """Take a reservation out of the store again, for which no request has gone out."""
    if not reserved.void:
        reserved.void = True
        await emit(reserved)
