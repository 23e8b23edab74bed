"""Reads the value of one setting from text or a decoded file, and checks it against the setting's kind and bounds."""

import json
import math
import re
from collections.abc import Iterator
from datetime import date, time
from enum import Enum
from numbers import Integral, Real
from typing import Any

from runner import durations
from runner.config import due, fields, fleet_tables, schemas
from runner.config.settings import Setting, parse_count
from runner.errors import UsageError
from runner.prices import own
from runner.text import encodable

# each may be a delimiter
_BLANKS = (" ", "\t")
_NESTING = (dict, list, tuple)
_TOO_LARGE = 10**300
"""Beyond the range of a JSON number in most languages."""
DEEPEST = 200
"""Levels of a JSON value, at most: encoding it fails at about a thousand."""
_KINDS: dict[str, type | tuple[type, ...]] = {
    "text": str, "int": int, "float": float, "texts": (str, list), "json": dict, "slots": (int, str), "span": float,
    "choice": str, "bool": bool, "share": (int, str), "messages": list, "prices": (str, dict), "tables": list,
    "schema": (str, dict),
}  # fmt: skip
_ADDRESSES = ("base_url", "api_key_env")
_TEXT_OR_JSON = ("texts", "headers", "query", "prices")
_BOOLS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def parse(setting: Setting, text: str, where: str) -> Any:
    """Read the value of a setting from text and check it. where: where the text comes from, in words."""
    value: Any = text
    try:
        if setting.kind == "slots" and text.strip().casefold() == "auto":
            return "auto"
        if setting.kind in ("int", "float", "slots"):
            value = _number(setting, text)
        elif setting.kind == "bool":
            value = _BOOLS[text.strip().lower()]
        elif setting.kind in ("json", "messages", "tables") or (setting.kind in _TEXT_OR_JSON and text[:1] in "[{"):
            value = json.loads(text)
    except RecursionError:
        raise UsageError(f"{setting.key} is nested too deeply ({where})") from None
    except (KeyError, ValueError):
        shown = "this" if setting.kind == "headers" else repr(text)
        raise UsageError(f"{_requirement(setting)}, not {shown} ({where})") from None
    return check(setting, value, where)


def check(setting: Setting, value: Any, where: str) -> Any:
    """Return the value in the type of its setting. Raises UsageError if its kind or size is wrong."""
    original = value
    value = _plain(schemas.plain(value) if setting.kind == "schema" else value)
    if setting.kind in ("headers", "query"):
        return (fields.read_headers if setting.kind == "headers" else fields.read_query)(value, where)
    if setting.kind in ("int", "slots") and isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        # a whole number as pandas or a calculation writes it
        value = int(value)
    if isinstance(value, str) and _is_written(setting, value):
        return parse(setting, value, where)
    if setting.kind == "span" and isinstance(value, str):
        value = durations.parse_duration(value)
    if setting.kind == "share":
        value = _share(value)
    if setting.kind in ("float", "span") and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1e300:
        value = float(value)
    if setting.kind == "texts" and isinstance(value, tuple):
        value = list(value)
    if setting.kind == "texts" and isinstance(value, list) and len(value) == 1:
        value = value[0]
    if setting.name in _ADDRESSES and isinstance(value, list) and not all(one.strip() for one in value if isinstance(one, str)):
        raise UsageError(f"{setting.key} has a text that is empty ({where})")
    if (
        (setting.kind in ("text", "schema") or setting.name in _ADDRESSES)
        and setting.name != "system"
        and isinstance(value, str)
        and not value.strip()
        and value not in _BLANKS
        and (setting.name, value) != ("api_key_env", fleet_tables.NO_KEY)
    ):
        raise UsageError(f"{setting.key} must be a text that is not empty ({where})")
    if not _fits(setting, value):
        raise UsageError(f"{_requirement(setting)}, not {_shown(original)} ({where})")
    fault = _not_json(value) if setting.kind not in ("headers", "query") else None
    if fault is not None:
        raise UsageError(f"{setting.key} {fault} ({where})")
    value = _plain_tree(value) if setting.kind in ("json", "messages", "prices", "schema", "tables") else value
    return _checked_further(setting, value, where)


def _checked_further(setting: Setting, value: Any, where: str) -> Any:
    """Check what the kinds of a few settings ask for besides. Raises UsageError."""
    if setting.kind == "prices" and isinstance(value, dict):
        own.check(value)
    if setting.name == "endpoints":
        fleet_tables.check_endpoints(value, where)
    if setting.name == "fallback_on":
        fleet_tables.check_reasons(value, where)
    if setting.name == "by":
        due.check(value, where)
    if setting.name == "stop_when":
        _check_pattern(value, where)
    return schemas.checked(value, where) if setting.kind == "schema" else value


def _check_pattern(value: str, where: str) -> None:
    try:
        pattern = re.compile(value)
    except (re.error, RecursionError, OverflowError) as error:
        raise UsageError(f"stop_when must be a regular expression, not {_shown(value)}: {error} ({where})") from None
    if pattern.search("") is not None:
        raise UsageError(f"stop_when must be a regular expression that not every text fits, not {_shown(value)} ({where})")


def _is_written(setting: Setting, value: str) -> bool:
    """Return True for a text in which a value of another type is written."""
    if setting.kind == "slots":
        return value != "auto"
    if setting.kind == "prices":
        return value[:1] == "{"
    return setting.kind in ("json", "messages", "tables") or (setting.kind in ("int", "float") and _has_unit(value))


def _fits(setting: Setting, value: Any) -> bool:
    """Return True if a value has the type of its setting, and is within its bounds."""
    fits = isinstance(value, _KINDS[setting.kind]) and isinstance(value, bool) == (setting.kind == "bool")
    if isinstance(value, list):
        of_kind = _is_message if setting.kind == "messages" else _is_table if setting.kind == "tables" else _is_text
        fits = fits and bool(value) and all(map(of_kind, value))
    if isinstance(value, float):
        fits = fits and math.isfinite(value)
    if fits and setting.least is not None and not isinstance(value, str):
        fits = value >= setting.least if _reaches(setting) else value > setting.least
    if setting.kind == "prices":
        return fits and (isinstance(value, dict) or value == own.LIST)
    return fits and (setting.kind != "choice" or value in setting.choices)


def _reaches(setting: Setting) -> bool:
    """Return True if the lower bound of a setting is itself allowed."""
    return setting.inclusive or setting.kind in ("int", "slots")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("role"), str) and isinstance(value.get("content"), str | list)


def _plain(value: Any) -> Any:
    """Return a number or text of another library, such as numpy's, as Python's own; any other value as it is."""
    if type(value) in (str, int, float, bool) or isinstance(value, Enum):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) else value


def _plain_tree(value: Any) -> Any:
    """Apply ``_plain`` to everything in a JSON value that is not nested too deeply."""
    if isinstance(value, dict):
        return {_plain(name): _plain_tree(part) for name, part in value.items()}
    return [_plain_tree(part) for part in value] if isinstance(value, list | tuple) else _plain(value)


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except RecursionError:
        return f"a {type(value).__name__} that is nested too deeply"


def nested_deeper(value: Any, levels: int) -> bool:
    """Return True if a value has more levels of lists and tables than that. Few functions can walk through any number of them."""
    return any(depth > levels for part, depth in _parts(value) if isinstance(part, _NESTING))


def _not_json(value: Any) -> str | None:
    """Return why a value cannot be sent as JSON as it is, in words that follow its name; None if it can."""
    for part, depth in _parts(value):
        if isinstance(part, _NESTING):
            if depth > DEEPEST:
                return f"is nested more than {DEEPEST} levels deep"
            if isinstance(part, dict) and not all(isinstance(name, str) for name in part):
                return "has a key that is no text"
        elif isinstance(part, Integral):
            if abs(int(part)) >= _TOO_LARGE:
                return "contains too large a number" if depth > 1 else "is too large a number"
        elif isinstance(part, Real):
            if not math.isfinite(part):
                return f"contains {float(part)}, which is no number in JSON"
        elif isinstance(part, str) and part != encodable(part):
            return "contains half of a surrogate pair, which is no character"
        elif not isinstance(part, str | date | time | None):
            return f"contains a value of the type {type(part).__name__}, which JSON does not have"
    return None


def _parts(value: Any) -> Iterator[tuple[Any, int]]:
    """Yield a value and everything in it, each with its level."""
    inner = [(value, 1)]
    while inner:
        part, depth = inner.pop()
        yield part, depth
        if isinstance(part, _NESTING):
            inner += [(one, depth + 1) for one in ((*part, *part.values()) if isinstance(part, dict) else part)]


def _number(setting: Setting, text: str) -> float | int:
    """Read a number, of a setting with a lower bound also with k, M or G. Raises ValueError."""
    if not (setting.least is not None and _has_unit(text)):
        return float(text) if setting.kind == "float" else int(text)
    value = parse_count(text)
    if value is None or (setting.kind != "float" and not value.is_integer()):
        raise ValueError(text)
    return value if setting.kind == "float" else int(value)


def _has_unit(text: str) -> bool:
    return text.strip()[-1:] in tuple("kKmMgG")


def _share(value: Any) -> Any:
    """Return a number of rows as int, and a percentage as ``2%``; None for what is neither."""
    if not isinstance(value, str):
        return value if isinstance(value, int) and value >= 0 else None
    text = value.strip()
    count = parse_count(text.removesuffix("%"))
    if count is None or count < 0 or (text.endswith("%") and count > 100) or not (text.endswith("%") or count.is_integer()):
        return None
    return f"{count:g}%" if text.endswith("%") else int(count)


def _requirement(setting: Setting) -> str:
    what = {
        "text": "a string", "int": "a whole number", "float": "a number", "texts": "a string or a list of strings",
        "json": "a JSON object", "slots": "auto or a whole number", "span": "a number of seconds or a duration such as 30m",
        "share": "a number of rows or a share such as 2%",
        "choice": " or ".join(setting.choices), "bool": "true or false",
        "headers": "a JSON object", "query": "a JSON object",
        "messages": "a JSON list of objects with role and content", "tables": "a list of tables, [[endpoints]]",
        "prices": "list or a table of prices by model",
        "schema": schemas.SCHEMA_MEANT,
    }[setting.kind]  # fmt: skip
    bound = ""
    if setting.least is not None:
        comma = "," if setting.kind == "span" else ""
        bound = f"{comma} of {setting.least:g} or more" if _reaches(setting) else f"{comma} greater than {setting.least:g}"
    return f"{setting.key} must be {what}{bound}"
