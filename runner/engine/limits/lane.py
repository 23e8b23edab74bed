"""One endpoint, model and key: joins slots, rates, pause and outage into one admission, first come first served."""

from collections.abc import Iterable

from runner.admission import Failure, Permit, Standing
from runner.engine.clock import Clock
from runner.engine.limits.gate import Gate
from runner.engine.limits.headers import Kind
from runner.engine.limits.outage import Here, Outage, soft
from runner.engine.limits.pause import Pause, Refusals
from runner.engine.limits.places import Places
from runner.engine.limits.rates import Rates
from runner.engine.limits.slots import Slots
from runner.engine.limits.waiting import waiting
from runner.errors import AttemptError
from runner.model import LaneState, Usage

LOOK_S = 1.0
"""How long somebody who waits for a point in time sleeps at most: the point may have moved."""
OPENING_S = 0.005
UNREACHED = ("connect", "timeout_connect", "timeout_first_byte")
"""Errors that tell nothing of how many requests the server had taken, and that fewer at a time may help against."""


class Lane:
    """Admission in this order: pause and outage, slot, requests per minute, tokens per minute.

    given: limits per minute, by kind. places: shared by the lanes of a session.
    """

    def __init__(
        self,
        model: str,
        slots: Slots,
        places: Places,
        given: dict[Kind, float],
        clock: Clock,
    ) -> None:
        self.model = model
        self._slots, self._places = slots, places
        self._clock, self._wall, self._sleep = clock.monotonic, clock.wall, clock.sleep
        self._random = clock.random
        self._rates = Rates(given, clock.monotonic)
        self._pause = Pause(clock.monotonic)
        self._outage = Outage(clock.monotonic, clock.random)
        self._refusals = Refusals(clock.random)
        self._gate = Gate()
        self._standings: set[Standing] = set()
        # items at the gate that have not been sent yet
        self._untried = 0
        self.succeeded_at = float("-inf")

    # -- who is in the lane

    def enter(self, number: int) -> Standing:
        """Begin an item's standing. number: its attempts in earlier sessions."""
        standing = Standing(number=number)
        self._standings.add(standing)
        return standing

    def leave(self, standing: Standing) -> None:
        """End it."""
        self._standings.discard(standing)

    @property
    def slots(self) -> int:
        """Requests that may be in flight now."""
        return self._slots.limit

    @property
    def waiting_items(self) -> int:
        """Items in the lane that have no permit."""
        return max(0, len(self._standings) - self._slots.out)

    @property
    def tried_items(self) -> int:
        """Items that an outage may hold up and that tell nothing more of it."""
        if not self._outage.likely:
            return 0
        return sum(standing.ended is not None for standing in self._standings)

    @property
    def paused_s(self) -> float:
        """Seconds that are left of a pause, 0 when there is none."""
        return self._pause.left_s

    @property
    def asked_s(self) -> float:
        """Seconds that are left of a pause which the server has asked for, 0 when there is none."""
        return self._pause.left_s if self._pause.asked else 0.0

    @property
    def occupied(self) -> bool:
        """There are items in it."""
        return bool(self._standings)

    @property
    def blocked(self) -> bool:
        """Nothing goes out at present, whatever comes back."""
        return self._pause.left_s > 0 or self._outage.since is not None

    @property
    def out_of_service_s(self) -> float:
        """How long the present outage lasts already, in seconds; 0 when there is none."""
        return 0.0 if self._outage.since is None else self._clock() - self._outage.since

    def excused(self, failure: Failure) -> bool:
        """Tell whether a failure fell into an outage."""
        return self._outage.excuses(failure)

    def counted(self, standing: Standing) -> int:
        """Count an item's failures that are its own."""
        return self._outage.counted(standing.failures)

    def singled_out(self, standing: Standing, since: float) -> bool:
        """Tell whether an item's failures since then are its own: others were answered meanwhile, or no other one fails."""
        others = any(other is not standing and other.failures for other in self._standings)
        return self.succeeded_at > since or not others

    # -- admission

    async def acquire(self, standing: Standing, size: int, most: int | None) -> Permit:
        """Wait for a permit; the caller owes ``release``.

        size: bytes of the request. most: output tokens that the answer may have, None when unknown.
        """
        tried = standing.ended is not None
        self._untried += not tried
        try:
            while True:
                await self._gate.enter(again=tried)
                try:
                    permit = await self._admitted(size, most, tried=tried)
                finally:
                    self._gate.leave()
                # else to the end of the queue
                if permit is not None:
                    return permit
        finally:
            self._untried -= not tried

    async def _admitted(self, size: int, most: int | None, *, tried: bool) -> Permit | None:
        """Wait at the gate; None to let an item go first that tells more of an outage, as it has not been tried yet."""
        while True:
            await self._open()
            if tried and self._untried and self._outage.likely:
                return None
            permit = Permit(admitted_at=0.0, size=size, most=most)
            await self._rates.reserve(permit)
            # the wait may have been long
            if self._closed() or not self._free:
                self._rates.unused(permit)
                continue
            permit.admitted_at = self._clock()
            if self._outage.since is not None:
                self._outage.send_probe(permit)
            self._slots.take(permit)
            self._places.take()
            return permit

    async def _open(self) -> None:
        """Wait until one may go out, but for the rates."""
        while True:
            probe_s = self._outage.probe_in_s if self._outage.since is not None else None
            if (wait_s := max(self._pause.left_s, probe_s or 0.0)) > 0:
                await self._sleep(min(wait_s, LOOK_S))
            elif self._closed() or not self._free:
                if self._slots.opening and not self._closed():
                    await self._sleep(OPENING_S)
                else:
                    await self._places.change(LOOK_S)
            else:
                return

    @property
    def _free(self) -> bool:
        return self._places.free and self._slots.may_take()

    def _closed(self) -> bool:
        if self._pause.left_s > 0:
            return True
        return self._outage.since is not None and self._outage.probe_in_s != 0.0

    # -- what became of it

    def release(self, permit: Permit, *, unused: bool = False) -> None:
        """Give the slot back: when the attempt is on the disk, or was never made (unused)."""
        if unused:
            self._outage.lost(permit)
            self._rates.unused(permit)
        self._slots.give_back(permit)
        self._places.give_back()

    def heard(self, permit: Permit, status: int, raw: Iterable[tuple[bytes, bytes]]) -> None:
        """Note that an answer has begun; ``raw`` are its headers."""
        self._rates.hear(raw, self._wall(), always=status != 200)
        if status == 200:
            self._accept(permit)
            if (
                permit.probe
                and self._outage.since is not None
                and not self._outage.late
                and self._outage.answered(permit, success=False)
            ):
                self._reopen()

    def succeeded(self, permit: Permit, usage: Usage | None) -> None:
        """Book a completion."""
        self.succeeded_at = self._clock()
        self._accept(permit)
        self._refusals.succeeded()
        self._rates.used(permit, usage, complete=True)
        if self._outage.answered(permit, success=True):
            self._reopen()

    def failed(self, permit: Permit, error: AttemptError, usage: Usage | None, *, throttled: bool, retried: bool) -> None:
        """Book a failed attempt. usage: what is known of it. throttled: refused by a rate limit. retried: another may follow."""
        if not error.sent:
            self._rates.unused(permit)
        elif throttled:
            self._rates.refused(permit)
        else:
            self._rates.used(permit, usage, complete=False)
        if throttled or not retried:
            if error.verdict == "fail" and error.sent and not throttled:
                self._accept(permit)
            # the endpoint is there, whatever it thinks of this request
            if error.sent and self._outage.answered(permit, success=False):
                self._reopen()
            self._outage.lost(permit)
        elif self._outage.failed(permit, error.code, self._here(), soft=soft(error), out=self._slots.out):
            self._places.notify()
        if self._outage.since is not None:
            # nothing is answered, so nothing can be said of the slots
            return
        if error.code == "overloaded":
            self._slots.refuse(permit)
        elif error.code in UNREACHED:
            self._slots.overload(permit)

    def told_nothing(self, permit: Permit) -> None:
        """Book an attempt that says nothing of the server; what was set aside for it was perhaps used."""
        self._outage.lost(permit)

    def throttle(self, permit: Permit, hint_s: float | None, status: int | None) -> None:
        """Take a rate limit in: fewer slots, and a pause for everybody; without a hint it grows from episode to episode."""
        words = str(status or 429)
        own_s = self._refusals.pause_s(hint_s, first=self._slots.refuse(permit))
        if hint_s is not None:
            self.pause(hint_s + self._random.uniform(0, min(0.25, hint_s / 4)), words, asked=True)
        self.pause(own_s, words)

    def pause(self, seconds: float, reason: str, *, asked: bool = False) -> None:
        """Let nothing new out for that many seconds. asked: by the server."""
        if self._pause.extend(seconds, f"{reason}, asked by the server" if asked else reason, asked=asked):
            self._slots.paused(seconds)

    def _accept(self, permit: Permit) -> None:
        if not permit.accepted:
            permit.accepted_at = self._clock()
            self._slots.accepted(permit)
            self._places.notify()

    def _reopen(self) -> None:
        self._slots.probing()
        self._places.notify()

    def _here(self) -> Here:
        innocent = [standing for standing in self._standings if not self._outage.suspects(standing)]
        return Here(
            innocent=len(innocent),
            failing=sum(standing.ended is not None for standing in innocent),
            untried=sum(standing.ended is None for standing in self._standings),
            unsent=self._untried,
        )

    # -- what it is doing

    def state(self) -> LaneState:
        """Tell what it is doing now."""
        return LaneState(
            model=self.model,
            slots=self._slots.limit,
            ceiling=self._slots.ceiling,
            in_flight=self._slots.out,
            limits={str(kind): limit for kind, limit in self._rates.per_minute.items()},
            waiting=waiting(self._pause, self._outage, self._rates, clock=self._clock(), wall=self._wall()),
            blocked=self.blocked,
        )
