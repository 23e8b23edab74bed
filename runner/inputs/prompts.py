"""Makes an item from a row and from what the job adds to every row. Pure."""

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from runner.errors import BAD_ROW
from runner.inputs.keys import fingerprint
from runner.model import Item, Json, Outcome, Params, Request, Row
from runner.text import nearest

_RESERVED = ("id", "prompt", "messages", "params")


class Template(Struct, frozen=True, kw_only=True):
    """What a job adds to every row."""

    model: str
    system: str | None
    params: Params


class RowFaultError(Exception):
    """No request can be made from a row; ``str()`` says why, in one phrase."""


class _Overrides(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    model: Annotated[str, Meta(min_length=1)] | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: str | Annotated[list[str], Meta(min_length=1)] | None = None
    seed: int | None = None
    extra_body: dict[str, Json] | None = None


_OVERRIDES = _Overrides.__struct_fields__


def make_item(row: Row, key: str, template: Template) -> Item | Outcome:
    """Return the item for a row; for a broken row, its failed outcome."""
    metadata = _metadata(row.fields) if row.fields is not None else {}
    try:
        request = _request(row, template)
    except RowFaultError as fault:
        return Outcome(
            key=key,
            position=row.line,
            status="failed",
            metadata=metadata,
            fingerprint=0,
            error_code=BAD_ROW,
            error=f"line {row.line}: {fault}",
        )
    return Item(key=key, position=row.line, request=request, metadata=metadata, fingerprint=fingerprint(row))


def _metadata(fields: Mapping[str, Json]) -> dict[str, Json]:
    """Return the fields that are not reserved, and the id if it is not a string, so that the export can restore its type."""
    return {
        name: value
        for name, value in fields.items()
        if name not in _RESERVED or (name == "id" and value is not None and not isinstance(value, str))
    }


def _request(row: Row, template: Template) -> Request:
    if row.fields is None or row.fault is not None:
        raise RowFaultError(row.fault or "not an object")
    own = row.fields.get("id")
    if own == "" or isinstance(own, bool | float | list | dict):
        raise RowFaultError("the id must be a string or a whole number")
    messages = _messages(row.fields)
    overrides = row.fields.get("params")
    if overrides is None:
        return Request(model=template.model, messages=messages, system=template.system, params=template.params)
    return _with_overrides(overrides, messages, template)


def _messages(fields: Mapping[str, Json]) -> tuple[Mapping[str, Json], ...]:
    prompt, messages = fields.get("prompt"), fields.get("messages")
    if prompt is not None and messages is not None:
        raise RowFaultError("both prompt and messages are set; use one of them")
    if prompt is not None:
        if not isinstance(prompt, str):
            raise RowFaultError("the prompt must be a string")
        if not prompt.strip():
            raise RowFaultError("the prompt is empty")
        return ({"role": "user", "content": prompt},)
    if messages is None:
        raise RowFaultError(f"no prompt and no messages{_hint(fields)}")
    if not isinstance(messages, list) or not messages:
        raise RowFaultError("messages must be a list with at least one message")
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise RowFaultError("every message must be an object with a role")
    return tuple(messages)


def _hint(fields: Mapping[str, Json]) -> str:
    for name in ("prompt", "messages"):
        close = nearest(name, [field for field in fields if field not in _RESERVED])
        if close is not None:
            return f" ({close!r}: did you mean {name!r}?)"
    return ""


def _with_overrides(fields: Json, messages: tuple[Mapping[str, Json], ...], template: Template) -> Request:
    if not isinstance(fields, dict):
        raise RowFaultError("params must be an object")
    for name in fields:
        if name not in _OVERRIDES:
            close = nearest(name, _OVERRIDES)
            hint = f"did you mean {close!r}?" if close is not None else "available: " + ", ".join(_OVERRIDES)
            raise RowFaultError(f"unknown parameter {name!r} in params; {hint}")
    try:
        overrides = msgspec.convert(fields, _Overrides)
    except msgspec.ValidationError as error:
        raise RowFaultError(f"params: {error}") from error
    base = template.params
    params = Params(
        **{
            name: value if (value := getattr(overrides, name)) is not None else getattr(base, name)
            for name in Params.__struct_fields__
        }
    )
    return Request(model=overrides.model or template.model, messages=messages, system=template.system, params=params)
