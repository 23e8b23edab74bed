"""Checks a complete answer: its JSON, and whether that fits the schema."""

from collections.abc import Callable, Mapping

from msgspec import structs

from runner.answer_shape import arguments_of
from runner.errors import InvalidAnswerError
from runner.model import Completion, Json
from runner.schema.growing import Growing
from runner.schema.strict_json import FaultError, parse
from runner.schema.validation import Validator

_OPENERS = {"object": ("{",), "array": ("[",)}
_SHOWN = 200


class AnswerCheck:
    """Checks the answers of a run. Raises UsageError for a broken schema.

    is_cut: tells of a finish reason whether it means that the answer ends at a limit of its length.
    """

    def __init__(self, schema: Mapping[str, Json], is_cut: Callable[[str], bool] = lambda _: False) -> None:
        self._validator, self._is_cut = Validator(schema), is_cut
        kind = schema.get("type")
        both = ("{", "[") if kind is None else ()
        # of a value that is neither, nothing tells where it begins among words
        self._openers = _OPENERS.get(kind, ()) if isinstance(kind, str) else both

    def growing(self) -> Growing:
        """Return what looks at answers while they come. Raises UsageError if its library is not installed."""
        return Growing(self._validator, self._openers)

    def __call__(self, completion: Completion) -> Completion | InvalidAnswerError:
        """Return an answer with its JSON as text, or the error that says why it does not fit."""
        text, extra = completion.text, completion.extra
        if extra and (call := arguments_of(extra)) is not None:
            text = call
            extra = {name: value for name, value in extra.items() if name != "tool_calls"}
        try:
            parsed = parse(text, self._openers)
        except FaultError as fault:
            return self._invalid(completion, text, f"the answer {fault}")
        if faults := self._validator.faults(parsed.value):
            return self._invalid(completion, text, f"the answer does not fit the schema: {'; '.join(faults)}")
        if parsed.text is completion.text:
            return completion
        return structs.replace(completion, text=parsed.text, extra=extra, notes=(*completion.notes, *parsed.notes))

    def _invalid(self, completion: Completion, text: str, words: str) -> InvalidAnswerError:
        """Return the error of an answer. What would most likely come once more is not asked for again: it would cost the same."""
        if refusal := completion.extra.get("refusal"):
            return InvalidAnswerError(f"the model declined: {str(refusal)[:_SHOWN]}", text=text, mendable=False)
        if self._is_cut(completion.finish_reason):
            reason = f"{words}; it ends at the limit of its length (finish reason {completion.finish_reason[:_SHOWN]!r})"
            return InvalidAnswerError(reason, text=text, mendable=False)
        return InvalidAnswerError(words, text=text)

    def fits(self, text: str) -> bool:
        """Return True if a stored answer fits as it is, with nothing to take off."""
        try:
            parsed = parse(text, self._openers)
        except FaultError:
            return False
        return not parsed.notes and not self._validator.faults(parsed.value)
