"""The short form of a schema: ``sentiment: good|bad|mixed, reason: str, score: int, tags: list[str], maybe: str?``. Pure.

A field has a name and a type: ``str``, ``int``, ``float``, ``bool``, ``list[TYPE]``, or words or numbers of which one is to be
chosen, with ``|`` between them. A ``?`` behind it means that it may be null. What holds a special character stands in quotation
marks.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from runner.errors import UsageError
from runner.text import nearest

Schema: TypeAlias = dict[str, Any]

TYPES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
"""The names of types, each with its name in JSON Schema."""
_OTHER_NAMES = {
    "string": "str", "text": "str", "integer": "int", "number": "float", "boolean": "bool", "array": "list[str]",
    "list": "list[str]", "null": "a type with ?", "none": "a type with ?", "dict": "--schema", "object": "--schema",
}  # fmt: skip
_EXAMPLE = 'such as "sentiment: good|bad|mixed, reason: str"'
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")
_SPECIAL = re.compile(r"[\[\]?:|,\"']")
_WHOLE = re.compile(r"-?[0-9]{1,18}")
_DECIMAL = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,15})?")
_LONGEST = 64


def schema_of(text: str) -> Schema:
    """Return the JSON Schema that a short form stands for. Every field is required, no other is allowed. Raises UsageError."""
    properties: dict[str, Schema] = {}
    for part in _split(text, ","):
        name, of = _named(part, text)
        if name in properties:
            raise UsageError(f"fields names {name!r} twice; give each field once")
        properties[name] = of
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


def _named(part: str, whole: str) -> tuple[str, Schema]:
    """Return the name and the schema of one field."""
    if not part.strip():
        where = "is empty" if not whole.strip() else "has a comma with no field beside it"
        raise UsageError(f"fields {where}; write each field as name: type, {_EXAMPLE}")
    colon = next(_places(part, ":"), None)
    if colon is None:
        raise UsageError(f"fields: {part.strip()!r} has no type; write it as name: type, {_EXAMPLE}")
    name = _word(part[:colon], f"the name in {part.strip()!r}")
    if len(name) > _LONGEST:
        raise UsageError(f"fields: the name {name[:20]!r}... has more than {_LONGEST} characters")
    if not part[colon + 1 :].strip():
        raise UsageError(f"fields: {name!r} has no type; write it as {name}: str, or see --help")
    return name, _type(part[colon + 1 :].strip(), name)


def _type(text: str, name: str) -> Schema:
    """Return the schema of a type. name: of the field, for messages."""
    if text.endswith("?") and not _in_quotes(text, len(text) - 1):
        inner = text[:-1].strip()
        if not inner or inner.endswith("?"):
            raise UsageError(f"fields: the type of {name!r} is {text!r}; write one ? behind a type, such as str?")
        return {"anyOf": [_type(inner, name), {"type": "null"}]}
    if text.startswith("list["):
        if not text.endswith("]"):
            raise UsageError(f"fields: the type of {name!r} is {text!r}; write a list as list[str]")
        return {"type": "array", "items": _type(text[5:-1].strip(), name)}
    words = _split(text, "|")
    if len(words) > 1:
        return _choice([_word(word, f"the type of {name!r}") for word in words], words, name)
    if text in TYPES:
        return {"type": TYPES[text]}
    if _QUOTED.fullmatch(text):
        return {"type": "string", "enum": [text[1:-1]]}
    raise UsageError(f"fields: the type of {name!r} is {text!r}, which is none; {_hint(text)}")


def _hint(text: str) -> str:
    if text.lower() in _OTHER_NAMES:
        return f"write {_OTHER_NAMES[text.lower()]}"
    near = nearest(text, TYPES)
    types = f"types are {', '.join(TYPES)}, list[...] and words with | between them, such as good|bad"
    return f"did you mean {near}? The {types}" if near is not None else f"the {types}"


def _choice(words: list[str], written: list[str], name: str) -> Schema:
    """Return the schema of words of which one is to be chosen. written: the words as they were, with quotation marks."""
    types = [word.strip() for word in written if word.strip() in TYPES]
    if types:
        if len(types) < len(words):
            raise UsageError(
                f"fields: {name!r} has the type {types[0]} among words; write '{types[0]}' in quotation marks if it is a word"
            )
        return {"anyOf": [{"type": TYPES[word]} for word in dict.fromkeys(words)]}
    twice = next((word for word in words if words.count(word) > 1), None)
    if twice is not None:
        raise UsageError(f"fields: {name!r} has the word {twice!r} twice; give each word once")
    numbers = [word.strip() for word in written]
    if all(map(_WHOLE.fullmatch, numbers)):
        return _of_numbers("integer", [int(word) for word in numbers], name)
    if all(map(_DECIMAL.fullmatch, numbers)):
        return _of_numbers("number", [int(word) if _WHOLE.fullmatch(word) else float(word) for word in numbers], name)
    return {"type": "string", "enum": words}


def _of_numbers(kind: str, numbers: Sequence[int | float], name: str) -> Schema:
    twice = next((number for number in numbers if numbers.count(number) > 1), None)
    if twice is not None:
        raise UsageError(f"fields: {name!r} has the number {twice} twice; give each number once")
    return {"type": kind, "enum": [*numbers]}


def _word(text: str, what: str) -> str:
    """Return a name or a word, without its quotation marks. Raises UsageError for an empty one, and for special characters."""
    bare = text.strip()
    if _QUOTED.fullmatch(bare):
        bare = bare[1:-1]
    elif (special := _SPECIAL.search(bare)) is not None:
        raise UsageError(f"fields: {what} holds {special[0]!r}; put a word that holds it in quotation marks")
    if not bare.strip():
        raise UsageError(f"fields: {what} is empty; give it a name")
    return bare


def _split(text: str, mark: str) -> list[str]:
    """Split a text at a mark, outside of quotation marks and brackets."""
    parts, begin = [], 0
    for at in _places(text, mark):
        parts.append(text[begin:at])
        begin = at + 1
    return [*parts, text[begin:]]


def _places(text: str, mark: str) -> Iterator[int]:
    """Yield where a mark stands outside of quotation marks and brackets."""
    depth, at = 0, 0
    while at < len(text):
        if (quoted := _QUOTED.match(text, at)) is not None:
            at = quoted.end()
            continue
        depth += {"[": 1, "]": -1}.get(text[at], 0)
        if text[at] == mark and depth <= 0:
            yield at
        at += 1


def _in_quotes(text: str, place: int) -> bool:
    return any(quoted.start() <= place < quoted.end() for quoted in _QUOTED.finditer(text))
