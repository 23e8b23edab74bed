"""Answers that are ended before their end: by text that is not wanted, or because they can no longer fit the schema."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from runner.answer_shape import SHAPE_NAME, arguments_of
from runner.config.job import Job
from runner.errors import INVALID_OUTPUT, STOPPED_BY_RULE, AttemptError, InvalidAnswerError, UnwantedTextError
from runner.model import Completion
from runner.providers.watched import Watch
from runner.session import shaped
from runner.store.early import BEGINNINGS

if TYPE_CHECKING:
    from runner.schema.growing import Growing

_WINDOW = 4_000
"""Characters before new text in which a match may begin, while the answer comes. The whole answer is searched at its end."""
_SHORT, _GROWTH = 4_000, 1.02
"""A text that is longer is looked at again for its schema when it has grown by so much: in all, by few times its length."""
_LOOKS_AHEAD = re.compile(r"\(\?[=!]")
_SHOWN = 60


def check_of(job: Job) -> Callable[[Completion], Completion | AttemptError] | None:
    """Return what checks the complete answers of a job; None if nothing does. Raises UsageError."""
    check, rule = shaped.check_of(job), _rule(job)
    if rule is None:
        return check

    def checked(completion: Completion) -> Completion | AttemptError:
        # what the model says to the tool of the schema is its answer
        called = arguments_of(completion.extra) if check is not None else None
        for text in (completion.text, called or ""):
            if (found := rule.search(text)) is not None:
                return _unwanted(found, text, early=False)
        return completion if check is None else check(completion)

    return checked


def watch_of(job: Job) -> Callable[[], Watch] | None:
    """Return what makes for each attempt of a job what looks at its answer; None if nothing does. Raises UsageError."""
    rule, check = _rule(job), shaped.check_of(job) if job.fail_fast else None
    if rule is not None and _LOOKS_AHEAD.search(rule.pattern) is not None:
        # any text that is still to come may undo what it finds
        rule = None
    growing = check.growing() if check is not None else None
    if rule is None and growing is None:
        return None
    if job.schema is None:
        return lambda: Watch(_Looking(rule, None).look)
    shape = shaped.shape_of(job)
    # where the model has to call a tool, what it says besides is no answer
    said = None if shape is not None and shape.how == "tool" else growing
    return lambda: Watch(_Looking(rule, said).look, _Looking(rule, growing).look, SHAPE_NAME)


def _rule(job: Job) -> re.Pattern[str] | None:
    return re.compile(job.stop_when) if job.stop_when is not None else None


class _Looking:
    """Looks at one answer."""

    def __init__(self, rule: re.Pattern[str] | None, growing: "Growing | None") -> None:
        self._rule, self._growing = rule, growing
        self._start()

    def _start(self) -> None:
        # its end, in which the rule looks; and how long it is when its structure is looked at next
        self._pieces, self._size, self._next, self._end = list[str](), 0, 0, ""
        self._answer = self._growing.answer() if self._growing is not None else None

    def look(self, new: str, again: bool) -> None:
        """Take the text that is new, and look at the answer. Raises UnwantedTextError, InvalidAnswerError."""
        if again:
            self._start()
        self._pieces.append(new)
        self._size += len(new)
        if self._rule is not None and (found := self._found(self._rule, new)) is not None:
            raise _unwanted(found, "".join(self._pieces), early=True)
        if self._answer is not None and self._size >= self._next:
            # a long text is not put together for each of its pieces
            self._next = int(self._size * _GROWTH) if self._size > _SHORT else 0
            self._pieces = [text := "".join(self._pieces)]
            if (fault := self._answer.fault(text)) is not None:
                raise InvalidAnswerError(f"{BEGINNINGS[INVALID_OUTPUT]}{fault}", text=text, early=True)

    def _found(self, rule: re.Pattern[str], new: str) -> re.Match[str] | None:
        end, begin = self._end + new, max(0, len(self._end) - _WINDOW)
        # what is before the window is for a rule that looks behind; and ^ is found only where the answer begins
        self._end = end[-2 * _WINDOW :]
        found = rule.search(end, begin)
        if found is None or found.end() < len(end) - 1:
            return found
        # at the end of the text it may hold that a word ends, or the answer: what comes next must not undo that
        return found if all(rule.search(end + more, begin) for more in ("a", " ")) else None


def _unwanted(found: re.Match[str], text: str, *, early: bool) -> UnwantedTextError:
    words = found[0] if len(found[0]) <= _SHOWN else found[0][: _SHOWN - 1] + "…"
    begin = BEGINNINGS[STOPPED_BY_RULE] if early else "the whole answer has "
    return UnwantedTextError(f"{begin}{words!r}, which stop_when finds", text=text, early=early)
