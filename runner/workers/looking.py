"""A worker's look at its open answers, while somebody watches the session: what they have said goes to the driver as it comes."""

import asyncio
from collections.abc import Callable

from runner.engine.voice import Kind, Voices
from runner.interfaces import Decoder
from runner.text import Redactor
from runner.workers.protocol import Said

LOOK_S = 0.1
"""Seconds between two looks."""


class Looking:
    """The open answers of a worker. tell: gives the driver a piece."""

    def __init__(self, redactor: Redactor, tell: Callable[[Said], None]) -> None:
        self._redactor, self._tell = redactor, tell
        self._open: dict[int, Decoder] = {}
        # None: nobody wants to know
        self._voices: dict[int, Voices] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, number: int, decoder: Decoder) -> None:
        """Take a request that goes out."""
        self._open[number] = decoder
        if self._voices is not None:
            self._voices[number] = self._voice(number, decoder)

    def end(self, number: int) -> None:
        """Drop a request that has ended. The driver gets the whole answer."""
        self._open.pop(number, None)
        if self._voices is not None:
            self._voices.pop(number, None)

    def want(self, *, texts: bool) -> None:
        """Look from now on, or no longer. Said with each sign of life of the driver."""
        if texts and self._voices is None:
            self._voices = {number: self._voice(number, decoder) for number, decoder in self._open.items()}
            self._look()
        elif not texts and self._timer is not None:
            self._timer.cancel()
            self._timer = self._voices = None

    def _look(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)
        for voices in (self._voices or {}).values():
            voices.look()

    def _voice(self, number: int, decoder: Decoder) -> Voices:
        def say(kind: Kind, text: str, at: int) -> None:
            self._tell(Said(number, kind == "reasoning", at, text))

        return Voices(decoder, say, self._redactor)
