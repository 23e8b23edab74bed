"""Asks an item again whose answer does not fit the schema, with the reason.

It is asked with its own messages, the answer, and one more message that says what is wrong. A repair has its own budget; to the
lane it is one more request.
"""

from collections.abc import Callable

from msgspec import structs

from runner.admission import Permit
from runner.answer_shape import arguments_of
from runner.engine.task import Files, Task
from runner.errors import AttemptError, InvalidAnswerError, UnwantedTextError
from runner.model import Attempt, Completion, Message, Request

_WORDS = "Your answer cannot be used: {reason}. Answer again with nothing but the corrected JSON."


def repaired(
    task: Task,
    permit: Permit,
    attempt: Attempt,
    error: AttemptError,
    *,
    clock: Callable[[], float],
    most: int,
) -> bool:
    """Make the next request of an item ask for a better answer. Return False if it may not be asked again.

    To the lane, the one that came is an answer. clock: the engine's. most: how often it may be.
    """
    if not isinstance(error, InvalidAnswerError) or not error.mendable or task.repairs >= most:
        return False
    task.repairs += 1
    if task.asked is None:
        task.asked = task.item.request.messages
    if task.files is not None:
        if task.asked_whole is None:
            task.asked_whole = task.files.request.messages
        whole, tokens, size = task.files
        task.files = Files(_asking(whole, task.asked_whole, error), tokens, size)
    task.item = structs.replace(task.item, request=_asking(task.item.request, task.asked, error))
    task.call = task.way.provider.encode(task.item.request)
    task.fresh, task.standing.ended, task.standing.asked = False, clock(), False
    task.lane.succeeded(permit, attempt.usage)
    task.way.judge.success(task.item.request.model)
    return True


def answer_of(task: Task, error: AttemptError) -> Completion | None:
    """Return the answer to keep with a row that fails: what the model said, be it to a tool; None if none is kept."""
    return kept_of(task.answer, error)


def kept_of(answer: Completion | None, error: AttemptError) -> Completion | None:
    """Return what is kept of the answer of a row that fails. answer: what came, None: nothing did."""
    if not error.kept or answer is None:
        return None
    if not isinstance(error, InvalidAnswerError | UnwantedTextError) or error.text == answer.text:
        return answer
    if not error.early:
        return structs.replace(answer, text=error.text)
    # its own text may hold secrets, which the answer does not
    called = arguments_of(answer.extra)
    return answer if called is None else structs.replace(answer, text=called)


def _asking(request: Request, messages: tuple[Message, ...], error: InvalidAnswerError) -> Request:
    """Return a request for a better answer. messages: those of the item, without an earlier repair."""
    return structs.replace(request, messages=(*messages, *following(error)))


def following(error: InvalidAnswerError) -> tuple[Message, ...]:
    """Return the messages that ask for a better answer: they follow those of the item."""
    # providers refuse an answer without text
    answer: tuple[Message, ...] = ({"role": "assistant", "content": error.text},) if error.text.strip() else ()
    return (*answer, {"role": "user", "content": _WORDS.format(reason=error)})
