"""What a driver has for an answer that a worker decodes: the place where the completion is put."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import structs

from runner.errors import ProviderError
from runner.interfaces import Decoder, Provider
from runner.model import Completion, HttpCall, Request, ServerSentEvent, Stage
from runner.passing import Pieces
from runner.workers.protocol import Done, Said

_NOTHING = Completion(text="", finish_reason="")


class HeldDecoder:
    """The decoder of one attempt at a driver.

    As long as nobody looks at the answer while it comes, the worker decodes it, and the completion is put here. Whoever looks
    asks for the pieces first (``passing.PassingDecoder``): from then on a decoder of the provider takes the events as they come.
    """

    def __init__(self, make: Callable[[], Decoder]) -> None:
        self._make = make
        self._real: Decoder | None = None
        self._completion = _NOTHING
        self._said: Pieces = ([[]], [[]])
        self.stage = Stage.OPEN
        self.ended = self.started = False
        self.text_chars = 0

    @property
    def watched(self) -> bool:
        """True if somebody looks at the answer as it comes."""
        return self._real is not None

    def __getattr__(self, name: str) -> Any:
        if name not in ("pieces", "arguments"):
            raise AttributeError(name)
        # asked for once, by whoever is to look
        return getattr(self._own(), name)

    def so_far(self) -> Pieces | None:
        """Return the pieces so far, as far as they are known here; to ask for them changes nothing. None: there are none."""
        if self._real is None:
            return self._said
        pieces: Callable[[], Pieces] | None = getattr(self._real, "pieces", None)
        return pieces() if pieces is not None else None

    def say(self, said: Said) -> None:
        """Take what a worker tells of the answer, while somebody watches."""
        pieces = self._said[said.reasoning]
        if said.at < sum(map(len, pieces[0])):
            # it starts over there
            pieces[0] = ["".join(pieces[0])[: said.at]]
        pieces[0].append(said.text)
        self.text_chars += len(said.text)

    def _own(self) -> Decoder:
        if self._real is None:
            self._real = self._make()
        return self._real

    def put(self, done: Done) -> None:
        """Take what the worker has decoded."""
        if self._real is not None:
            return
        self.stage, self.ended, self.started, self.text_chars = Stage(done.stage), done.ended, done.started, done.chars
        if done.answer is not None:
            extra = json.loads(done.extra) if done.extra else None
            self._completion = done.answer if extra is None else structs.replace(done.answer, extra=extra)

    @property
    def complete(self) -> bool:
        """As ``interfaces.Decoder``."""
        return self.stage is not Stage.OPEN

    def feed(self, event: ServerSentEvent) -> None:
        """Take one event of an answer that is watched."""
        self.feed_all((event,))

    def feed_all(self, events: Sequence[ServerSentEvent]) -> None:
        """Take the events of one read of an answer that is watched."""
        real = self._own()
        try:
            real.feed_all(events)
        finally:
            self._follow(real)

    def whole(self, body: bytes) -> None:
        """Take an answer in one piece that is watched."""
        real = self._own()
        try:
            real.whole(body)
        finally:
            self._follow(real)

    def _follow(self, real: Decoder) -> None:
        self.stage, self.ended, self.started, self.text_chars = real.stage, real.ended, real.started, real.text_chars

    def completion(self) -> Completion:
        """Return what was decoded."""
        return self._completion if self._real is None else self._real.completion()


class HeldProvider:
    """A provider whose answers are decoded by workers."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def encode(self, request: Request) -> HttpCall:
        """Return the POST for a request."""
        return self._provider.encode(request)

    def decoder(self) -> Decoder:
        """Return the place for one answer."""
        return HeldDecoder(self._provider.decoder)

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        """Classify an answer whose status is not 2xx."""
        return self._provider.error(status, headers, body)
