"""Attempts at prompts whose answers somebody watches as they come, each on its own: a person before a page, or a program.

They differ from those of a run. An error that would stop a run ends only its own prompt. Nothing begins anew behind the first
piece of an answer that was shown. And whoever does not read holds up the server's sending.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

from msgspec import structs

from runner.engine.giving_up import CANCELLED
from runner.engine.listening import HeardAttempts, TellingDecoder
from runner.engine.outcomes import failed
from runner.engine.task import Task
from runner.errors import AttemptError, Verdict
from runner.interfaces import Decoder, Emit, Exchange
from runner.model import Item, Outcome

E = TypeVar("E", bound=Exchange)


class Viewer:
    """Who watches one answer. told: the number of the newest attempt of which a piece was told; 0: none was."""

    def __init__(self) -> None:
        self.told = 0
        self._given_up: tuple[str, str] | None = None
        self._end: Callable[[], None] | None = None

    async def room(self) -> None:
        """Wait until there is room for more of the answer."""

    def give_up(self, code: str, words: str) -> None:
        """End the request, if it is open, and send none any more. The first call decides. What it cost is booked."""
        if self._given_up is None:
            self._given_up = code, words
            if self._end is not None:
                self._end()

    def why(self) -> tuple[str, str] | None:
        """Return why nothing more is wanted, an error code and a sentence; None while more is wanted."""
        return self._given_up

    def follow(self, end: Callable[[], None]) -> None:
        """Call a function when nothing more is wanted."""
        self._end = end


class ViewedAttempts(HeardAttempts[E]):
    """The attempts at prompts that have viewers."""

    _viewers: Mapping[str, Viewer] = {}

    def show(self, viewers: Mapping[str, Viewer]) -> None:
        """Have each item watched by its viewer. viewers: by key, as they come and go."""
        self._viewers = viewers

    async def handle(self, item: Item, emit: Emit) -> Outcome | None:
        """Send the item until it has an outcome, or its viewer gives it up: then it has failed, and its attempts are booked."""
        viewer = self._viewers.get(item.key)
        if viewer is None:
            return await super().handle(item, emit)
        if (why := viewer.why()) is not None:
            return failed(item, item.attempts_before, None, *why)
        viewer.follow(lambda: self._give_up(item.key))
        outcome = await super().handle(item, emit)
        if outcome is None or outcome.error_code != CANCELLED or (why := viewer.why()) is None:
            return outcome
        (code, words), attempt = why, outcome.attempt
        attempt = structs.replace(attempt, error=words) if attempt is not None else None
        return structs.replace(outcome, error_code=code, error=words, attempt=attempt)

    def _give_up(self, key: str) -> None:
        if self.rows.at_work(key):
            self.rows.give_up(key)
        else:
            self.rows.give_up_ahead(key)

    def _telling(self, task: Task) -> Decoder:
        decoder, viewer = super()._telling(task), self._viewers.get(task.item.key)
        if viewer is not None and isinstance(decoder, TellingDecoder):
            decoder.room = viewer.room
        return decoder

    def _verdict(self, task: Task, error: AttemptError) -> Verdict:
        verdict, viewer = super()._verdict(task, error), self._viewers.get(task.item.key)
        shown = viewer is not None and viewer.told == task.standing.number
        return "fail" if verdict == "stop" or shown else verdict
