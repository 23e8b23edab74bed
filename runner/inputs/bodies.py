"""What a stored row asked, as the body of a chat completion: in the dialect that most programs read. Pure."""

from collections.abc import Mapping

from runner.inputs.broken_lines import RowFaultError
from runner.inputs.keys import ROW_SETTINGS
from runner.inputs.prompts import Texts, messages_of, system_of
from runner.model import SYSTEM_ROLES, Json

_SETTINGS = tuple(name for name in ROW_SETTINGS if name not in ("system", "extra_body"))


def body_of(fields: Mapping[str, Json], texts: Texts | None, settings: Mapping[str, Json]) -> dict[str, Json] | None:
    """Return the body of the request of a stored row; None if it had none, or was not stored whole.

    Of files that the row names in fields of its own, nothing is in it. settings: those of the job, as they are stored, with
    which the row was sent.
    """
    if settings.get("keep_rows") is False:
        return None
    try:
        messages = list(messages_of(fields) if texts is None else texts.messages(fields))
    except RowFaultError:
        return None
    own = _own_settings(fields, plain=settings.get("row_settings") is False)
    system = own.get("system") or system_of(fields, texts, settings)
    if system and not any(message.get("role") in SYSTEM_ROLES for message in messages):
        messages.insert(0, {"role": "system", "content": system})
    body = {name: value for name in _SETTINGS if (value := own.get(name, settings.get(name))) is not None}
    if settings.get("tier") is not None:
        body["service_tier"] = settings["tier"]
    extra = own.get("extra_body", settings.get("extra_body"))
    return {**body, "messages": messages, **(extra if isinstance(extra, dict) else {})}


def _own_settings(fields: Mapping[str, Json], *, plain: bool) -> dict[str, Json]:
    """Return what a row has set itself. plain: only in ``params``."""
    params = fields.get("params")
    own = {} if plain else {name: value for name in ROW_SETTINGS if (value := fields.get(name)) is not None}
    given = params if isinstance(params, dict) else {}
    return {**{name: value for name, value in given.items() if value is not None}, **own}
