"""Makes an item from a row and from what the job adds to every row. Pure."""

from collections.abc import Callable, Mapping
from math import isfinite
from typing import NamedTuple, Protocol

import msgspec
from msgspec import Struct

from runner.answer_shape import AnswerShape
from runner.errors import BAD_ROW
from runner.inputs.attachments import with_media
from runner.inputs.broken_lines import RowFaultError
from runner.inputs.heads import Head
from runner.inputs.keys import WHOLE_ROW, fingerprint, id_fault, row_settings, whole
from runner.inputs.seeds import seeded
from runner.inputs.sources import shortened
from runner.model import SYSTEM_ROLES, Item, Json, Message, Outcome, Params, Request, Row
from runner.origin import where
from runner.several import number_of
from runner.text import nearest

REQUEST_FIELDS = ("prompt", "messages", "params")
"""Fields of a row that make its request, where there is no template."""
_RESERVED = ("id", *REQUEST_FIELDS)
_SHOWN = 40  # characters of a wrong value that a message shows


class Texts(Protocol):
    """The templates of a job. names: the fields that they name, ``WHOLE_ROW`` for any."""

    @property
    def head(self) -> Head:
        """The part of a request that is the same for all rows."""
        ...

    @property
    def names(self) -> frozenset[str]:
        """The fields that the templates name."""
        ...

    def messages(self, fields: Mapping[str, Json]) -> tuple[Message, ...]:
        """Return the messages of a row. Raises RowFaultError."""
        ...

    def system(self, fields: Mapping[str, Json]) -> str | None:
        """Return the system text of a row. Raises RowFaultError."""
        ...


class Template(Struct, frozen=True, kw_only=True):
    """What a job adds to every row."""

    model: str
    system: str | None
    params: Params
    # the service tier to ask for, None: the provider's default; and how requests ask for the schema of the job
    tier: str | None = None
    shape: AnswerShape | None = None
    # makes messages and system text from the fields of a row; None: the row has its own
    texts: Texts | None = None
    # False: what makes the request is not stored with the answer; and the row's own fields that are, None: all
    keep_rows: bool = True
    columns: frozenset[str] | None = None


class _Kind(NamedTuple):
    """What the value of a setting must be, in words, and how it is read: None if it is not that."""

    words: str
    read: Callable[[Json], Json]


def _number(value: Json) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value) else None


def _whole_number(value: Json) -> int | None:
    number = whole(value)
    return number if type(number) is int else None


def _positive(value: Json) -> int | None:
    number = _whole_number(value)
    return number if number is not None and number >= 1 else None


def _texts(value: Json) -> Json:
    texts = value if isinstance(value, list) else [value]
    return value if texts and all(isinstance(text, str) for text in texts) else None


_KINDS = {
    "system": _Kind("a text", lambda value: value if isinstance(value, str) else None),
    "model": _Kind("the name of a model", lambda value: value if isinstance(value, str) and value.strip() else None),
    "max_tokens": _Kind("a whole number of 1 or more", _positive),
    "temperature": _Kind("a number", _number),
    "top_p": _Kind("a number", _number),
    "stop": _Kind("a text or a list of texts", _texts),
    "seed": _Kind("a whole number", _whole_number),
    "extra_body": _Kind("an object", lambda value: value if isinstance(value, dict) else None),
}
_OVERRIDES = tuple(name for name in _KINDS if name != "system")


def make_item(row: Row, key: str, template: Template) -> Item | Outcome:
    """Return the item for a row; for a broken row, its failed outcome. key: of the row, or of one of several answers to it."""
    fields = row.fields or {}
    metadata, beside = stored_fields(fields, template), row_settings(row)
    try:
        request = seeded(_request(row, beside, template), number_of(key))
    except RowFaultError as fault:
        return Outcome(
            key=key,
            position=row.line,
            status="failed",
            metadata=metadata,
            fingerprint=0,
            error_code=BAD_ROW,
            error=f"{where(row.place, row.line)}: {fault}",
        )
    return Item(key=key, position=row.line, request=request, metadata=metadata, fingerprint=fingerprint(row))


def asked(fields: dict[str, Json], texts: Texts | None) -> Json:
    """Return what a stored row asked, and take from its fields what is no field of the user's own.

    That is a text, or the messages where there are several or more than texts; None if the row was not stored whole.
    """
    if texts is None:
        prompt, messages = fields.pop("prompt", None), fields.pop("messages", None)
        fields.pop("params", None)
        return _shown(messages) if prompt is None else prompt
    try:
        messages = texts.messages(fields)
    except RowFaultError:
        return None
    finally:
        fields.pop("params", None)
    return _shown(list(messages))


def _shown(messages: Json) -> Json:
    """Return the text of a single message of the user that is nothing more; other messages, with their files cut short."""
    match messages:
        case [{"role": "user", "content": str() as text, **more}] if not more:
            return text
    return _for_people(messages)


def _for_people(messages: Json) -> Json:
    """Return messages with the files in their content parts cut short. Texts stay as they are."""
    if not isinstance(messages, list):
        return messages
    return [
        {**message, "content": shortened(content)}
        if isinstance(message, dict) and isinstance(content := message.get("content"), list)
        else message
        for message in messages
    ]


def system_of(fields: Mapping[str, Json], texts: Texts | None, settings: Mapping[str, Json]) -> str | None:
    """Return the system text beside what a stored row asked; None if there is none, or it is among the messages or the fields.

    settings: those of the job, as they are stored.
    """
    system = settings.get("system")
    own = fields.get("system") is not None and settings.get("row_settings") is not False
    messages = fields.get("messages") if texts is None else None
    if own or any(one.get("role") in SYSTEM_ROLES for one in messages or ()):
        return None
    try:
        return texts.system(fields) if texts is not None else system
    except RowFaultError:
        return None


def stored_fields(fields: Mapping[str, Json], template: Template) -> dict[str, Json]:
    """Return the fields that are stored with the answer, and the id if it is not a string, so that the export has its type.

    What makes the request is among them, unless the job leaves that out: so the prompt can be shown beside the answer.
    """
    named = template.texts.names if template.texts is not None else frozenset(REQUEST_FIELDS)
    asks_for_id = not named.isdisjoint(("id", WHOLE_ROW))
    left_out = _RESERVED if not template.keep_rows else () if asks_for_id else ("id",)
    metadata = {name: value for name, value in fields.items() if name not in left_out}
    if template.columns is not None:
        kept = template.columns
        if template.keep_rows:
            kept = frozenset(metadata) if WHOLE_ROW in named else kept | named
        metadata = {name: value for name, value in metadata.items() if name in kept}
    own = fields.get("id")
    if own is None or isinstance(own, str):
        return metadata
    if not asks_for_id:
        # a template that names the id has written it as it is: 1.0
        own = whole(own)
    return {**metadata, "id": own} if "id" in metadata else {"id": own, **metadata}


def _request(row: Row, beside: Mapping[str, Json], template: Template) -> Request:
    """Return the request of a row. beside: the settings beside its prompt. Raises RowFaultError."""
    if row.fields is None or row.fault is not None:
        raise RowFaultError(row.fault or "not an object")
    if (fault := id_fault(row.fields.get("id"))) is not None:
        raise RowFaultError(fault)
    texts = template.texts
    messages = messages_of(row.fields) if texts is None else _rendered(texts, row.fields)
    system = template.system if texts is None else texts.system(row.fields)
    overrides = row.fields.get("params")
    settings = _settings(overrides, beside) if beside or overrides is not None else None
    messages, media = with_media(messages, row.fields, row.media)
    model, params = template.model, template.params
    if settings:
        model, system = settings.get("model", model), _system(settings["system"], messages) if "system" in settings else system
        params = Params(**{name: settings.get(name, getattr(params, name)) for name in Params.__struct_fields__})
    tier = None if "service_tier" in (params.extra_body or ()) else template.tier
    return Request(model=model, messages=messages, system=system, params=params, tier=tier, media=media, shape=template.shape)


def messages_of(fields: Mapping[str, Json]) -> tuple[Message, ...]:
    """Return the messages of a row without a template. Raises RowFaultError."""
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


def _rendered(texts: Texts, fields: Mapping[str, Json]) -> tuple[Message, ...]:
    """Return the messages that the templates make. Raises RowFaultError."""
    messages = texts.messages(fields)
    if all(isinstance(content := message.get("content"), str) and not content.strip() for message in messages):
        raise RowFaultError("the rendered prompt is empty")
    return messages


def _hint(fields: Mapping[str, Json]) -> str:
    for name in ("prompt", "messages"):
        close = nearest(name, [field for field in fields if field not in _RESERVED])
        if close is not None:
            return f" ({close!r}: did you mean {name!r}?)"
    return ""


def _settings(overrides: Json, beside: Mapping[str, Json]) -> dict[str, Json]:
    """Return what a row sets itself, in ``params`` or beside its prompt."""
    if overrides is not None and not isinstance(overrides, dict):
        raise RowFaultError("params must be an object")
    found = {}
    for name, value in (overrides or {}).items():
        if name not in _OVERRIDES:
            raise RowFaultError(f"unknown parameter {name!r} in params; {_right_name(name)}")
        if value is not None:
            found[name] = _checked(name, value, "params.")
    for name, value in beside.items():
        read = _checked(name, value, "")
        if found.setdefault(name, read) != read:
            raise RowFaultError(f"{name} and params.{name} are different; keep one of them")
    return found


def _right_name(name: str) -> str:
    if name == "system":
        return "system stands beside params, not in it"
    close = nearest(name, _OVERRIDES)
    return f"did you mean {close!r}?" if close is not None else f"available: {', '.join(_OVERRIDES)}, which sends any other"


def _checked(name: str, value: Json, where: str) -> Json:
    """Return the value of a setting in its own type. where: what stands before its name in messages."""
    kind = _KINDS[name]
    read = kind.read(value)
    if read is None:
        shown = msgspec.json.encode(value).decode()
        shown = shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + "\N{HORIZONTAL ELLIPSIS}"
        hint = "" if where else "; row_settings = false makes it plain data"
        raise RowFaultError(f"{where}{name} must be {kind.words}, not {shown}{hint}")
    return read


def _system(own: str, messages: tuple[Message, ...]) -> str:
    """Return the system text that stands beside the messages; they must not hold another one."""
    others = [message.get("content") for message in messages if message.get("role") in SYSTEM_ROLES]
    if others and others != [own]:
        raise RowFaultError("both system and a system message are set; keep one of them")
    return own
