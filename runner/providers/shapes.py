"""What servers put into a stream besides the chunks of their dialect: heartbeats, and errors of any shape. Pure."""

import re
from collections.abc import Mapping

from runner.model import Json, ServerSentEvent
from runner.providers.lenient_json import table

LONGEST_HEARTBEAT = 80
"""Bytes. Longer data is never a heartbeat."""

_NAMES = frozenset({"ping", "heartbeat", "keepalive", "keep-alive", "keep_alive"})
# data that begins with one of these words, perhaps behind punctuation, cannot be a chunk of an answer that was cut off
_WORDS = re.compile(rb"[\s\[(<:\"'-]*(?:ping|pong|heart[ _-]?beat|keep[ _-]?alive|openrouter processing)\b[^{}]*", re.IGNORECASE)
_FINE = (None, 0, 200, "", "0", "200", "ok", "OK", "success", "Success")


def is_heartbeat(event: ServerSentEvent) -> bool:
    """Return True for an event that only keeps the connection alive. An object is never one: its text would be skipped."""
    data = event.data
    if len(data) > LONGEST_HEARTBEAT:
        return False
    data = data.strip()
    if not data:
        return True
    if event.event.lower() in _NAMES:
        return not data.startswith(b"{")
    return _WORDS.fullmatch(data) is not None


def is_error(value: Mapping[str, Json]) -> bool:
    """Return True for an object that is an error and no part of an answer.

    Known are ``{"error": ...}``, ``{"object": "error", ...}``, ``{"type": "error", ...}``, ``{"detail": ...}``,
    ``{"errors": [...]}``, ``{"code": ..., "message": ...}``, the same with ``__type``, and a ``base_resp``
    with a status other than 0.
    """
    if value.get("error"):
        return True
    # what follows can stand in an answer, too
    if value.get("choices") or value.get("content"):
        return False
    if value.get("object") == "error" or value.get("type") == "error":
        return True
    if value.get("detail") or (value.get("errors") and isinstance(value["errors"], list | dict)):
        return True
    words = value.get("message") or value.get("msg")
    if isinstance(words, str) and words and (value.get("code") not in _FINE or value.get("__type")):
        return True
    return table(value.get("base_resp")).get("status_code") not in _FINE
