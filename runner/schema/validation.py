"""Checks values against a JSON Schema, with jsonschema-rs. Nothing is fetched: references to other documents are refused."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NoReturn

from runner.errors import UsageError
from runner.model import Json

_MOST = 3
"""Faults of one answer that are told."""
_SHOWN = 300
_SHOWN_OF_VALUE = 60
_CONDITIONAL = frozenset({"then", "else"})
"""Keywords that hold, or do not, by what ``if`` finds."""
_MASK = "\0"
"""Stands for a value in a message: no JSON Schema holds it by accident."""


class _NotFetchedError(Exception):
    """A schema refers to another document."""


class Validator:
    """A compiled schema. Raises UsageError for one that cannot be used; ``schema`` is what the user gave."""

    def __init__(self, schema: Mapping[str, Json]) -> None:
        library, self.schema = _library(), schema
        try:
            self._validator = library.validator_for(dict(schema), retriever=_refuse, validate_formats=True, mask=_MASK)
        except (ValueError, TypeError, OverflowError) as error:
            raise UsageError(f"the schema cannot be used: {_reason(error)}") from None

    def faults(self, value: Json) -> list[str]:
        """Return why a value does not fit, each as where and what; an empty list if it fits."""
        if self._validator.is_valid(value):
            return []
        return [_sentence(error) for error in islice(self._validator.iter_errors(value), _MOST)]

    def found(self, value: Json) -> Iterator[tuple[str, tuple[str | int, ...], str]]:
        """Yield the faults of a value that can grow: the keyword that does not hold, where, and in words.

        What a condition asks for is left out: a field that is still to come may decide it.
        """
        if not self._validator.is_valid(value):
            for error in self._validator.iter_errors(value):
                if _CONDITIONAL.isdisjoint(error.evaluation_path):
                    yield error.kind.name, tuple(error.instance_path), _sentence(error)


def _library() -> Any:
    try:
        # imported here: few jobs have a schema
        import jsonschema_rs
    except ImportError:
        raise UsageError(
            "answers with a schema need one package more: pip install 'prompt-runner[schema]' (or: pip install jsonschema-rs)"
        ) from None
    return jsonschema_rs


def _refuse(uri: str) -> NoReturn:
    raise _NotFetchedError(uri)


def _reason(error: Exception) -> str:
    """Return why a schema cannot be compiled, in one sentence."""
    words = str(error).partition("\n")[0].strip()
    if _NotFetchedError.__name__ in words:
        address = words.rpartition(f"{_NotFetchedError.__name__}: ")[2]
        return f"it refers to another document, {_cut(address)}, and none is fetched; put the definition under $defs"
    return _sentence(error) if hasattr(error, "instance_path") else _cut(words)


def _sentence(error: Any) -> str:
    """Return where something does not fit, and what. error: the library's."""
    value = json.dumps(error.instance, ensure_ascii=False)
    # the message may hold the whole answer
    short = value if len(value) <= _SHOWN_OF_VALUE else value[: _SHOWN_OF_VALUE - 1] + "…"
    words = _cut(error.message.partition("\n")[0].replace(_MASK, short))
    return f"at {place(error.instance_path)}: {words}" if error.instance_path else words


def place(path: Sequence[str | int]) -> str:
    """Return where something lies in a value: ``tags[2].name``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def _cut(text: str) -> str:
    # a long value stands before what is said of it
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 3]}…{text[-2 * _SHOWN // 3 :]}"
