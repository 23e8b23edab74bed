"""One event that asks a run to end, with its reason.

It ends every wait that costs nothing (for a slot, for a retry) at once, and gives work in flight a grace time.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from runner.errors import RunStoppedError


class Stop:
    """Asked once; later requests change nothing, except that a shorter grace time wins.

    reason: one sentence, None until asked.
    error: why the provider made going on pointless, None for a wish of the user.
    grace_s: seconds that work in flight may still take.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self.error: RunStoppedError | None = None
        self.grace_s = 0.0
        self._event = anyio.Event()
        self._waits: set[anyio.CancelScope] = set()

    @property
    def requested(self) -> bool:
        """True once somebody asked."""
        return self.reason is not None

    def request(self, reason: str, *, grace_s: float, error: RunStoppedError | None = None) -> None:
        """Ask the run to end."""
        if self.reason is not None:
            self.grace_s = min(self.grace_s, grace_s)
            return
        self.reason, self.error, self.grace_s = reason, error, grace_s
        self._event.set()
        for scope in self._waits:
            scope.cancel()

    async def wait(self) -> None:
        """Return when somebody has asked."""
        await self._event.wait()

    @contextmanager
    def interrupts(self) -> Iterator[anyio.CancelScope]:
        """Run a wait that a stop ends; ``cancelled_caught`` of the scope tells whether it did."""
        with anyio.CancelScope() as scope:
            if self.requested:
                scope.cancel()
            self._waits.add(scope)
            try:
                yield scope
            finally:
                self._waits.discard(scope)
