"""Gives permits to the rows of a lane, first come, first served. The base class of ``Lane``."""

from functools import partial

from anyio.lowlevel import checkpoint

from runner.admission import Permit, Standing
from runner.engine.clock import Clock
from runner.engine.limits.gate import Gate
from runner.engine.limits.headers import Kind
from runner.engine.limits.members import Members
from runner.engine.limits.places import Places
from runner.engine.limits.rates import Rates
from runner.engine.limits.slots import Slots
from runner.model import Attempt

RECHECK_S = 1.0
"""Longest sleep, in seconds, before checking whether the end of a pause or the next probe has moved."""
OPENING_S = 0.005
"""Interval of checks, in seconds, while slots open by the passing of time."""


class Permits(Members):
    """Admits requests, subject to these in order: pause and outage, slot, requests per minute, tokens per minute."""

    def __init__(self, slots: Slots, places: Places, per_minute: dict[Kind, float], clock: Clock) -> None:
        super().__init__(slots, places, clock)
        self._sleep = clock.sleep
        self._rates = Rates(per_minute, clock.monotonic, self._waits_for)
        self._gate = Gate()
        places.gates.append(self._gate)

    def release(self, permit: Permit, attempt: Attempt | None = None, *, unused: bool = False) -> None:
        """Release a permit: after its attempt has been saved, or because no attempt was made (``unused``)."""
        raise NotImplementedError

    async def acquire(self, standing: Standing, size: int, most: int | None) -> Permit:
        """Wait for a permit, which the caller must release.

        size: bytes of the request. most: limit of the answer's output tokens, None if unknown.
        """
        standing.size, standing.most = size, most
        permit = Permit(admitted_at=0.0, size=size, most=most, standard=standing.standard)
        if standing.standard:
            with self._falling_back.waits():
                await self._queue(permit, standing, self._falling_back.gate)
        else:
            await self._queue(permit, standing, self._gate)
        standing.admitted_at = permit.admitted_at
        return permit

    async def _queue(self, permit: Permit, standing: Standing, gate: Gate) -> None:
        tried = standing.ended is not None
        # those of the standard tier wait elsewhere, so nobody can let them go first
        unsent = not (tried or permit.standard)
        self._unsent += unsent
        line = self._line(permit)
        line.join(at_once=not gate.busy)
        try:
            while True:
                if await gate.enter(permit, again=tried):
                    break
                try:
                    if (admitted := await self._admitted(permit, gate, tried=tried)) and self._places.only_for(gate):
                        gate.serve(partial(self._let_too, permit.admitted_at))
                finally:
                    gate.leave()
                if admitted:
                    break
                if permit.patient_until is not None:
                    self._unsent -= unsent
                    unsent = False
                    await self._save_up(permit, standing, gate, tried=tried)
                    break
                # back to the end of the queue; rows that were served leave it with the next turn of the event loop
                await checkpoint()
        except BaseException:
            if permit.issued:
                # another row let it go with itself, at the moment of the cancellation
                self.release(permit, unused=True)
            raise
        finally:
            self._unsent -= unsent
            if not permit.issued:
                line.leave()

    async def _save_up(self, permit: Permit, standing: Standing, gate: Gate, *, tried: bool) -> None:
        """Wait for the permit of a request that would hold others up: they go first, and as long as it is patient always."""
        assert permit.patient_until is not None
        self._savers[permit] = standing
        back = False
        try:
            while True:
                await gate.enter_last(permit.patient_until, back=back)
                try:
                    if await self._admitted(permit, gate, tried=tried):
                        return
                finally:
                    gate.leave()
                back = True
        except BaseException:
            # what is saved is there for others; a row that falls back from flex is cancelled here
            self._rates.unused(permit)
            raise
        finally:
            del self._savers[permit]

    async def _admitted(self, permit: Permit, gate: Gate, *, tried: bool) -> bool:
        """Wait for a permit at the head of the queue. Return False to let another item go first.

        In an outage, the first attempt of an untried item shows more than another attempt of a failed one. A request that would
        hold others up for long saves up for its tokens.
        """
        saves = permit.patient_until is not None
        while True:
            await self._open(permit)
            # rows of the standard tier have a queue of their own, and none of them is untried
            if tried and self._unsent and self._outage.likely and not saves and not permit.standard:
                return False
            limited = saves or self._rates.limited
            if saves:
                if not await self._rates.save_up(permit, gate):
                    return False
            elif limited:
                if self._rates.postpones(permit):
                    return False
                await self._rates.reserve(permit)
            # the wait for the rates may have been long, so check again
            if limited and (self._closed() or not self._free(permit)):
                if not saves:
                    self._rates.unused(permit)
                continue
            if self._savers and not saves:
                self._rates.shares = dict(permit.reserved)
                gate.take_turns(self._clock())
            self._let(permit)
            return True

    def _let_too(self, at: float, permit: Permit) -> bool:
        """Let a request go out that waits behind one which has just gone, if nothing holds it up. Return False if it is to wait.

        at: when that one has gone, by the lane's clock. Each of them would find the same in a turn of the event loop of its own.
        Where there is more to look at, it does.
        """
        # no pause has begun since that one went, as nothing else has run
        if self._rates.limited or self._savers or self._outage.likely or not self._free(permit):
            return False
        self._let(permit, at)
        return True

    def _let(self, permit: Permit, at: float | None = None) -> None:
        """Let a request go out. at: if that is known, when it goes out."""
        permit.admitted_at = self._clock() if at is None else at
        if self._outage.since is not None:
            self._outage.send_probe(permit)
        if self._streak.watching:
            self._streak.sent(permit)
        self._pool(permit).take(permit)
        self._places.take()
        self._line(permit).took(permit)

    async def _open(self, permit: Permit) -> None:
        """Wait until a request may be sent, except for the rates."""
        while True:
            probe_s = self._outage.probe_in_s if self._outage.since is not None else None
            if (wait_s := max(self._pause.left_s, probe_s or 0.0)) > 0:
                self._waits_for(permit, self._barrier(permit))
                await self._sleep(min(wait_s, RECHECK_S))
            elif self._closed() or not self._free(permit) or self._goes_after(permit):
                self._waits_for(permit, self._barrier(permit))
                if self._pool(permit).opening and not self._closed():
                    await self._sleep(OPENING_S)
                elif permit.standard:
                    with self._falling_back.held_up(closed=self._closed() or self._goes_after(permit)):
                        await self._places.change(RECHECK_S)
                else:
                    await self._places.change(RECHECK_S)
            else:
                self._waits_for(permit, None)
                return
