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
_CODES = ("error_code", "errorCode", "err_code", "errCode", "errcode", "Code", "ret_code", "retcode", "statusCode")
_SAYINGS = (
    "error_msg",
    "errorMsg",
    "error_message",
    "errorMessage",
    "err_msg",
    "errMsg",
    "errmsg",
    "Message",
    "error_description",
)
_FAILED = frozenset({"error", "failed", "failure", "fail"})
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
    ``{"errors": [...]}``, ``{"code": ..., "message": ...}``, the same with ``__type``, ``{"error_code": ..., "error_msg": ...}``,
    ``{"success": false, ...}``, ``{"status": "error", ...}``, ``{"Response": {"Error": ...}}``, and a ``base_resp`` with a
    status other than 0.
    """
    if value.get("error"):
        return True
    return _is_other_error(usual(value))


def usual(value: Mapping[str, Json]) -> Mapping[str, Json]:
    """Return an error object with its names, whatever the server calls them, as ``error``, ``code`` and ``message``."""
    for name in ("Response", "response", "header"):
        inner = table(value.get(name))
        if inner and not value.get("choices") and (inner.get("Error") or inner.get("error") or inner.get("code")):
            value = inner
    found = dict(value)
    if value.get("Error"):
        found.setdefault("error", value["Error"])
    codes = [value[name] for name in _CODES if name in value and not (name == "statusCode" and value.get("error"))]
    status = value.get("status")
    if type(status) is int and status >= 400:
        codes.append(status)
    words = [value[name] for name in _SAYINGS if value.get(name)]
    if codes and found.get("code") in _FINE:
        found["code"] = codes[0]
    if words and not found.get("message"):
        found["message"] = words[0]
    return found


def _is_other_error(value: Mapping[str, Json]) -> bool:
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
    if isinstance(words, str) and words:
        failed = value.get("success") is False or value.get("ok") is False or str(value.get("status")).lower() in _FAILED
        if failed or value.get("code") not in _FINE or value.get("__type"):
            return True
    if value.get("error_code") not in _FINE:
        return True
    return table(value.get("base_resp")).get("status_code") not in _FINE
