"""The filters of templates that Jinja does not bound, or does in another way than a prompt needs it. Pure."""

import html
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import pass_environment
from jinja2.filters import do_batch, do_round, do_slice, do_sum, make_attrgetter

from runner.inputs.sandbox import Environment, Null, TooMuchError, check

_MOST_DIGITS = 300
_WIDEST_INDENT = 16
# between two signs that begin one, so that a text of such signs takes no time
_TAG = re.compile("<[^<>]*>")


def _method(name: str) -> Callable[..., str]:
    """Return the filter that is a method of texts."""

    @pass_environment
    def called(environment: Environment, value: Any, *args: Any) -> str:
        text = str(value)
        made: str = getattr(text, name)(*environment.checked(text, name, args))
        return made

    return called


def _centered(value: Any, width: int = 80) -> str:
    check(width)
    return str(value).center(width)


@pass_environment
def _joined(environment: Environment, value: Any, d: Any = "", attribute: str | int | None = None) -> str:
    if attribute is not None:
        value = map(make_attrgetter(environment, attribute), value)
    (texts,) = environment.checked(str(d), "join", ([str(one) for one in environment.counted(value)],))
    return str(d).join(texts)


@pass_environment
def _summed(environment: Environment, iterable: Any, attribute: str | int | None = None, start: float = 0) -> Any:
    if not isinstance(start, int | float):
        raise TypeError("sum adds numbers; start must be one")
    return do_sum(environment, environment.counted(iterable), attribute, start)


@pass_environment
def _batched(environment: Environment, value: Any, linecount: int, fill_with: Any = None) -> Any:
    environment.spend(linecount if fill_with is not None else 0)
    return do_batch(value, linecount, fill_with)


@pass_environment
def _sliced(environment: Environment, value: Any, slices: int, fill_with: Any = None) -> Any:
    environment.spend(slices)
    return do_slice(environment, value, slices, fill_with)


def _rounded(value: float, precision: int = 0, method: Any = "common") -> float:
    if abs(precision) > _MOST_DIGITS:
        raise ValueError(f"round: a precision of more than {_MOST_DIGITS} digits")
    return do_round(value, precision, method)


def to_json(value: Any, indent: int | None = None) -> str:
    """Return a value as JSON; unlike Jinja's own filter it escapes nothing for HTML."""
    if indent is not None and (not isinstance(indent, int) or indent > _WIDEST_INDENT):
        raise TooMuchError(f"tojson: an indent of more than {_WIDEST_INDENT}")
    return json.dumps(_without_null(value), ensure_ascii=False, indent=indent)


def _without_null(value: Any) -> Any:
    """Return a value with null in place of ``Null``, at any depth that a row has it."""
    if isinstance(value, Mapping):
        return {name: _without_null(inner) for name, inner in value.items()}
    return None if isinstance(value, Null) else value


def _without_tags(value: Any) -> str:
    """Return a text without the comments and tags of HTML, in time that grows with its length alone."""
    text, at, kept = str(value), 0, []
    while (begin := text.find("<!--", at)) >= 0 and (end := text.find("-->", begin)) >= 0:
        kept.append(text[at:begin])
        at = end + 3
    return " ".join(html.unescape(_TAG.sub("", "".join((*kept, text[at:])))).split())


FILTERS: Mapping[str, Callable[..., Any] | None] = {
    "batch": _batched,
    "center": _centered,
    "join": _joined,
    "replace": _method("replace"),
    "round": _rounded,
    "slice": _sliced,
    "striptags": _without_tags,
    "sum": _summed,
    "tojson": to_json,
    "trim": _method("strip"),
    # Each of these makes a text of any length from a short one, is of no use in a prompt, or gives another text each time.
    **dict.fromkeys(("format", "indent", "wordwrap", "xmlattr", "pprint", "urlize", "random")),
}
"""By name. None: there is no such filter."""
