"""Reads the JSON of an answer strictly. Pure.

What stands around it, a code fence or some words, is taken off and noted. What no other program would read in the same way is
refused: a key twice, NaN, numbers that do not fit, half of a surrogate pair, a second value.
"""

import json
import math
import re
from collections.abc import Collection
from typing import NamedTuple, NoReturn

from runner.model import Json
from runner.text import encodable

FENCED = "fenced"
"""The note on an answer from which a code fence was taken off."""
PROSE = "prose"
"""The note on an answer from which words around the JSON were taken off."""
_CLOSING = {"{": "}", "[": "]"}
_FENCE = re.compile(r"```[\w+-]*[ \t]*\r?\n?")
_MOST, _LEAST = 2**63 - 1, -(2**63)
_DEEPEST = 200
"""Levels, at most. Programs that read JSON differ in what they take."""
_SHOWN = 40


class FaultError(ValueError):
    """An answer is not the JSON that is asked for. The message says why, and follows the words "the answer"."""


class Parsed(NamedTuple):
    """The JSON of an answer. text: as the model wrote it. notes: what was taken off."""

    value: Json
    text: str
    notes: tuple[str, ...] = ()


def parse(text: str, openers: Collection[str] = ("{", "[")) -> Parsed:
    """Return the JSON value of an answer. Raises FaultError.

    openers: how the value begins that is looked for among words, ``{`` and ``[``; none: the whole text has to be the value.
    """
    bare = text.removeprefix("\ufeff").strip()
    if not bare:
        raise FaultError("is empty")
    inner, notes = _without_fence(bare) if openers else (bare, ())
    begin = _begin(inner, openers)
    value, end = _decoded(inner, begin)
    before, behind = inner[:begin], inner[end:].strip()
    if behind or before:
        _refuse_more(before + behind, openers)
        return Parsed(value, inner[begin:end], (*notes, PROSE) if PROSE not in notes else notes)
    return Parsed(value, inner[begin:end] if notes or text[:1] == "\ufeff" else text, notes)


def _without_fence(text: str) -> tuple[str, tuple[str, ...]]:
    """Return what is inside the code fence of a text, with notes; the text itself if the JSON is not inside of one."""
    fence = _FENCE.search(text)
    if fence is None or any(mark in text[: fence.start()] for mark in _CLOSING):
        return text, ()
    inner = text[fence.end() :]
    # the value may hold a fence in a text, so its end is looked for from behind
    end = inner.rfind("```")
    around = text[: fence.start()] + (inner[end + 3 :] if end >= 0 else "")
    if "```" in around or any(mark in around for mark in "{}"):
        raise FaultError("holds more than one code block")
    return (inner[:end] if end >= 0 else inner).strip(), (FENCED, PROSE) if around.strip() else (FENCED,)


def begin_of(text: str, openers: Collection[str]) -> int:
    """Return where the value of an answer begins that still grows; -1 if nothing tells it yet, or the openers are none."""
    if not openers:
        return -1
    fence = _FENCE.search(text)
    inside = fence is not None and not any(mark in text[: fence.start()] for mark in _CLOSING)
    at = fence.end() if fence is not None and inside else int(text[:1] == "\ufeff")
    at = len(text) - len(text[at:].lstrip())
    first = text[at : at + 1]
    if first in _CLOSING:
        return at
    if first == '"':
        # the value is a text, as ``_begin`` has it, and brackets in it are no beginning
        return -1
    return min((place for mark in openers if (place := text.find(mark, at)) >= 0), default=-1)


def _begin(text: str, openers: Collection[str]) -> int:
    """Return where the value begins: at once, unless words stand before it."""
    if not openers or text[:1] in _CLOSING or text[:1] == '"':
        return 0
    found = [at for mark in openers if (at := text.find(mark)) >= 0]
    return min(found, default=0)


def _decoded(text: str, begin: int) -> tuple[Json, int]:
    try:
        value, end = _DECODER.raw_decode(text, begin)
    except FaultError:
        raise
    except RecursionError:
        raise FaultError("is nested too deeply") from None
    except json.JSONDecodeError as error:
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated"):
            raise FaultError("ends in the middle of its JSON") from None
        if begin == error.pos:
            raise FaultError(f"is not JSON: it begins with {_quoted(text[begin:])}") from None
        # "Expecting ',' delimiter" -> "a ',' is missing" would be a guess; Python's own words are known
        raise FaultError(f"is not JSON: {error.msg} at character {error.pos + 1}, {_quoted(text[error.pos :])}") from None
    except ValueError:
        # more digits than Python reads
        raise FaultError("holds a number that is too large") from None
    _refuse_odd(value)
    return value, end


def _refuse_more(around: str, openers: Collection[str]) -> None:
    """Raise FaultError for what is no words around a value."""
    marks = [mark for opener in openers for mark in (opener, _CLOSING[opener])]
    if not openers or any(mark in around for mark in marks) or not any(char.isalpha() for char in around):
        raise FaultError(f"holds something else beside its JSON: {_quoted(around.strip())}")


def _refuse_odd(value: Json) -> None:
    """Raise FaultError for a text with half of a surrogate pair, and for too many levels."""
    inner: list[tuple[Json, int]] = [(value, 1)]
    while inner:
        part, depth = inner.pop()
        if isinstance(part, str):
            if part != encodable(part):
                raise FaultError("holds half of a surrogate pair, which is no character")
        elif isinstance(part, dict | list):
            if depth > _DEEPEST:
                raise FaultError(f"is nested more than {_DEEPEST} levels deep")
            inner += [(one, depth + 1) for one in ((*part, *part.values()) if isinstance(part, dict) else part)]


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise FaultError(f"has the key {_quoted(twice)} twice in one object")
    return made


def _constant(name: str) -> NoReturn:
    raise FaultError(f"holds {name}, which is no number in JSON")


def _whole(text: str) -> int:
    number = int(text)
    if not _LEAST <= number <= _MOST:
        raise FaultError(f"holds {_quoted(text)}, a whole number of more than 64 bits")
    return number


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise FaultError(f"holds {_quoted(text)}, a number that is too large")
    return number


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_int=_whole, parse_float=_float)
