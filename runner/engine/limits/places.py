"""Places in flight that all lanes of a session share; also wakes those who wait for a change."""

import anyio


class Places:
    """At most ``ceiling`` requests are out, whatever their lanes would allow."""

    def __init__(self, ceiling: int) -> None:
        self.ceiling = ceiling
        self.out = 0
        self._change: anyio.Event | None = None

    @property
    def free(self) -> bool:
        """One more may go out."""
        return self.out < self.ceiling

    def take(self) -> None:
        """Take a place."""
        self.out += 1

    def give_back(self) -> None:
        """Give it back."""
        self.out -= 1
        self.notify()

    def notify(self) -> None:
        """Wake those who wait; each looks for itself."""
        if self._change is not None:
            self._change.set()
            self._change = None

    async def change(self, most_s: float) -> None:
        """Return when something has changed, or after ``most_s`` seconds."""
        if self._change is None:
            self._change = anyio.Event()
        with anyio.move_on_after(most_s):
            await self._change.wait()
