"""The places for requests in flight that all lanes of a session share. Also wakes tasks that wait for a change."""

import anyio

from runner.engine.limits.fallback import Fallback
from runner.engine.limits.ledger import Ledger


class Places:
    """Limits the requests in flight to ``ceiling`` over all lanes, even if the lanes would allow more. ledger: of the session."""

    def __init__(self, ceiling: int, ledger: Ledger) -> None:
        self.ceiling, self.ledger = ceiling, ledger
        self.out = 0
        # True while a person has paused the session: nothing is free then
        self.halted = False
        # of the lanes in which flex has had no capacity
        self.fallbacks: list[Fallback] = []
        self._change: anyio.Event | None = None

    @property
    def free(self) -> bool:
        """True if one more request may be sent. Some places are kept for rows that fall back from flex to the standard tier."""
        if self.halted:
            return False
        if not self.fallbacks:
            return self.out < self.ceiling
        # where many lanes keep some, the other requests still have half
        kept = min(sum(fallback.kept for fallback in self.fallbacks), max(1, self.ceiling // 2))
        return self.out + kept < self.ceiling

    @property
    def any(self) -> bool:
        """True if one more request may be sent by such a row."""
        return self.out < self.ceiling and not self.halted

    def take(self) -> None:
        """Occupy a place."""
        self.out += 1

    def give_back(self) -> None:
        """Release a place."""
        self.out -= 1
        self.notify()

    def notify(self) -> None:
        """Wake all tasks that wait for a change; each checks again whether it may continue."""
        if self._change is not None:
            self._change.set()
            self._change = None

    async def change(self, most_s: float) -> None:
        """Wait for the next ``notify``, but at most ``most_s`` seconds."""
        if self._change is None:
            self._change = anyio.Event()
        with anyio.move_on_after(most_s):
            await self._change.wait()
