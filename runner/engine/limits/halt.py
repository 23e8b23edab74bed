"""What a person has paused: no further request goes out, in no lane, until they say so. Requests that are open go on."""

import anyio


class Halt:
    """Paused by a person, or not. words: what is shown as the reason why requests wait; empty: nothing is paused.

    at: when it was paused, in seconds since the epoch.
    """

    def __init__(self) -> None:
        self.words, self.at = "", 0.0
        self._over = anyio.Event()

    @property
    def on(self) -> bool:
        """True while no request may go out."""
        return bool(self.words)

    def begin(self, words: str, at: float) -> None:
        """Send nothing further."""
        self.words, self.at, self._over = words, at, anyio.Event()

    def end(self) -> None:
        """Send requests again."""
        self.words = ""
        self._over.set()

    async def over(self) -> None:
        """Wait until requests may go out."""
        while self.on:
            await self._over.wait()
