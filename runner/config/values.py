"""Reads the value of one setting from text or a decoded file, and checks it against the setting's kind and bounds."""

import json
import math
from typing import Any

from runner import durations
from runner.config import fields
from runner.config.settings import Setting
from runner.errors import UsageError


def parse(setting: Setting, text: str, where: str) -> Any:
    """Read the value of a setting from text and check it. where: where the text comes from, in words."""
    value: Any = text
    try:
        if setting.kind == "int":
            value = int(text)
        elif setting.kind == "float":
            value = float(text)
        elif setting.kind == "slots":
            value = text if text == "auto" else int(text)
        elif setting.kind == "json" or (setting.kind in ("texts", "headers", "query") and text[:1] in "[{"):
            value = json.loads(text)
    except ValueError:
        shown = "this" if setting.kind == "headers" else repr(text)
        raise UsageError(f"{_requirement(setting)}, not {shown} ({where})") from None
    return check(setting, value, where)


def check(setting: Setting, value: Any, where: str) -> Any:
    """Return the value in the type of its setting. Raises UsageError if its kind or size is wrong."""
    original = value
    if setting.kind in ("headers", "query"):
        return (fields.read_headers if setting.kind == "headers" else fields.read_query)(value, where)
    if setting.kind in ("json", "slots") and isinstance(value, str) and value != "auto":
        return parse(setting, value, where)
    if setting.kind == "span" and isinstance(value, str):
        value = durations.parse_span(value)
    if setting.kind in ("float", "span") and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1e300:
        value = float(value)
    if setting.kind == "texts" and isinstance(value, tuple):
        value = list(value)
    if setting.kind == "texts" and isinstance(value, list) and len(value) == 1:
        value = value[0]
    kinds: dict[str, type | tuple[type, ...]] = {
        "text": str, "int": int, "float": float, "texts": (str, list), "json": dict, "slots": (int, str), "span": float,
        "choice": str,
    }  # fmt: skip
    fits = isinstance(value, kinds[setting.kind]) and not isinstance(value, bool)
    if isinstance(value, list):
        fits = fits and bool(value) and all(isinstance(text, str) for text in value)
    if isinstance(value, float):
        fits = fits and math.isfinite(value)
    if fits and setting.least is not None and not isinstance(value, str):
        fits = value >= setting.least if setting.kind in ("int", "slots") else value > setting.least
    if fits and setting.kind == "text" and setting.name != "system":
        fits = bool(value.strip())
    if fits and setting.kind == "choice":
        fits = value in setting.choices
    if not fits:
        raise UsageError(f"{_requirement(setting)}, not {original!r} ({where})")
    return value


def _requirement(setting: Setting) -> str:
    what = {
        "text": "a string", "int": "a whole number", "float": "a number", "texts": "a string or a list of strings",
        "json": "a JSON object", "slots": "auto or a whole number", "span": "a number of seconds or a duration such as 30m",
        "choice": " or ".join(setting.choices), "headers": "a JSON object", "query": "a JSON object",
    }[setting.kind]  # fmt: skip
    bound = ""
    if setting.least is not None:
        comma = "," if setting.kind == "span" else ""
        bound = (
            f" of {setting.least:g} or more" if setting.kind in ("int", "slots") else f"{comma} greater than {setting.least:g}"
        )
    return f"{setting.key} must be {what}{bound}"
