"""Attempts at prompts whose answers somebody watches as they come, each on its own: a person before a page, or a program.

They differ from those of a run: one can be ended while the others go on. An error that would stop a run ends only its own prompt.
Nothing begins anew behind the first piece of an answer that was shown. And whoever does not read holds up the server's sending.
"""

from collections.abc import Mapping
from typing import TypeVar

import anyio
from msgspec import structs

from runner.admission import Reservation
from runner.engine.listening import HeardAttempts, TellingDecoder
from runner.engine.outcomes import failed
from runner.engine.task import Task
from runner.errors import AttemptError, Verdict
from runner.interfaces import Decoder, Emit, Exchange
from runner.model import Attempt, Item, Outcome

E = TypeVar("E", bound=Exchange)


class Viewer:
    """Who watches one answer. told: the number of the newest attempt of which a piece was told; 0: none was."""

    def __init__(self) -> None:
        self.told = 0
        # why nothing more is wanted: an error code and a sentence
        self.given_up: tuple[str, str] | None = None
        self._scope: anyio.CancelScope | None = None

    async def room(self) -> None:
        """Wait until there is room for more of the answer."""

    def give_up(self, code: str, words: str) -> None:
        """End the request, if it is open, and send none any more. The first call decides."""
        if self.given_up is None:
            self.given_up = code, words
            if self._scope is not None:
                self._scope.cancel()

    def follow(self, scope: anyio.CancelScope) -> anyio.CancelScope:
        """Have the work in a scope cancelled when nothing more is wanted, and return the scope."""
        self._scope = scope
        if self.given_up is not None:
            scope.cancel()
        return scope


class ViewedAttempts(HeardAttempts[E]):
    """The attempts at prompts that have viewers."""

    _viewers: Mapping[str, Viewer] = {}

    def show(self, viewers: Mapping[str, Viewer]) -> None:
        """Have each item watched by its viewer. viewers: by key, as they come and go."""
        self._viewers = viewers

    async def handle(self, item: Item, emit: Emit) -> Outcome | None:
        """Send the item until it has an outcome, or its viewer gives it up: then it has failed, and its attempts are booked."""
        viewer = self._viewers.get(item.key) or Viewer()
        number = item.attempts_before

        async def booked(entry: Attempt | Reservation) -> None:
            nonlocal number
            if isinstance(entry, Attempt):
                number = entry.number
                if entry.error_code == "cancelled" and viewer.given_up is not None:
                    entry = structs.replace(entry, error=viewer.given_up[1])
            await emit(entry)

        with viewer.follow(anyio.CancelScope()):
            return await super().handle(item, booked)
        assert viewer.given_up is not None
        code, words = viewer.given_up
        return failed(item, number, None, code, words)

    def _telling(self, task: Task) -> Decoder:
        decoder, viewer = super()._telling(task), self._viewers.get(task.item.key)
        if viewer is not None and isinstance(decoder, TellingDecoder):
            decoder.room = viewer.room
        return decoder

    def _verdict(self, task: Task, error: AttemptError) -> Verdict:
        verdict, viewer = super()._verdict(task, error), self._viewers.get(task.item.key)
        shown = viewer is not None and viewer.told == task.standing.number
        return "fail" if verdict == "stop" or shown else verdict
