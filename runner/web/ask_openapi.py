"""What the OpenAPI document says of streamed prompts: its paths, and schemas of what is sent and of the events."""

from typing import Any

from runner.inputs.keys import ROW_SETTINGS
from runner.web.ask_limits import OPEN, OPEN_IN_ALL, REQUESTS, WINDOW_S

Json = dict[str, Any]

_TEXT, _WHOLE, _FLAG = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
_MAYBE_TEXT, _MAYBE_WHOLE, _MAYBE_NUMBER = ({"type": [kind, "null"]} for kind in ("string", "integer", "number"))
_ERROR = {"$ref": "#/components/responses/Error"}


def _object(about: str, **properties: Json) -> Json:
    required = [*properties]
    return {
        "type": "object",
        "description": about,
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _said(schema: Json, about: str) -> Json:
    return {**schema, "description": about}


_COUNTS = dict.fromkeys(("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens"), _MAYBE_WHOLE)
_USAGE = {"anyOf": [_object("Tokens as the provider reports them.", **_COUNTS), {"type": "null"}]}
_USED = {
    "usage": _USAGE,
    "cost": _said(_MAYBE_NUMBER, "Dollars that all attempts cost; null: not known."),
    "cost_perhaps": _said(_MAYBE_NUMBER, "Dollars that they may have cost in addition."),
    "duration_s": _MAYBE_NUMBER,
    "time_to_first_token_s": _MAYBE_NUMBER,
    "id": _TEXT,
    "attempts": _WHOLE,
}
_SETTINGS = {"type": "object", "propertyNames": {"enum": list(ROW_SETTINGS)}}

SCHEMAS: Json = {
    "Asked": {
        "type": "object",
        "description": "One prompt.",
        "properties": {
            "prompt": _said(_TEXT, "Sent as it stands."),
            "messages": {"type": "array", "items": {"type": "object"}, "description": "The messages of a chat."},
            "row": {"type": "object", "description": "The fields of a row, for the template of the job."},
            "run": {
                "type": "integer",
                "description": "The run whose settings count; default: the job file's, or the newest run.",
            },
            "model": _said(_TEXT, "Another model."),
            "params": _said(_SETTINGS, "Settings of this prompt, as a row may have them."),
        },
        "oneOf": [{"required": [name]} for name in ("prompt", "messages", "row")],
        "additionalProperties": False,
    },
    "AskMetadata": _object(
        "The event metadata: what is known of the request.",
        id=_TEXT,
        run=_said(_MAYBE_WHOLE, "The run whose settings count; null: the job file."),
        model=_TEXT,
        attempt=_said(_WHOLE, "0: no request has gone out yet."),
        waiting=_said(_MAYBE_TEXT, "Why no request goes out, in one phrase."),
        output_tokens=_said(_WHOLE, "Tokens that have come, about."),
        estimated={"const": True},
    ),
    "AskToken": _object(
        "The event token: a piece of the answer.",
        kind={"enum": ["text", "reasoning"]},
        text=_TEXT,
        at=_said(_WHOLE, "Characters of this kind before it; less than have come: the text starts over there."),
        attempt=_WHOLE,
    ),
    "AskDone": _object(
        "The event done: the whole answer. It is the last event.",
        text=_MAYBE_TEXT,
        finish_reason=_MAYBE_TEXT,
        model=_said(_MAYBE_TEXT, "As the answer names it."),
        **_USED,
    ),
    "AskError": {
        "type": "object",
        "description": "The event error: why there is no answer. It is the last event.",
        "properties": {
            "code": _TEXT,
            "error": _said(_TEXT, "One sentence."),
            "todo": _said(_TEXT, "What to do."),
            "retry": _said(_FLAG, "True: it may be over the next time, and nothing was shown."),
            **_USED,
        },
        "required": ["code", "error", "todo", "retry", "usage", "cost", "id", "attempts"],
        "additionalProperties": False,
    },
}
"""Schemas by name."""

_STREAM = {
    "description": "Server-sent events: metadata, token, done, error; docs/reference/stream-api.md tells more.",
    "content": {"text/event-stream": {"schema": _TEXT}},
}
_ID = {"name": "id", "in": "path", "required": True, "schema": _TEXT, "description": "Id of a stream."}
_BUSY = {
    "description": f"More than {REQUESTS} prompts in {WINDOW_S:g} s, {OPEN} open streams, or {OPEN_IN_ALL} of all clients.",
    "headers": {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds until the client may ask."}},
    "content": {"application/json": {"schema": _object("Why.", error=_TEXT, code=_TEXT)}},
}
_CANCELLED = {
    "description": "Its request at the provider ends, and what it cost is booked. `cancelled`: false if it had ended before.",
    "content": {"application/json": {"schema": _object("The stream.", id=_TEXT, cancelled=_FLAG)}},
}

PATHS: Json = {
    "/api/stream": {
        "post": {
            "summary": "Ask one prompt with the settings of a run, and stream its answer.",
            "parameters": [],
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Asked"}}},
            },
            "responses": {
                "200": _STREAM,
                "429": _BUSY,
                **{str(code): _ERROR for code in (400, 401, 403, 408, 409, 413, 415, 421, 503)},
            },
        }
    },
    "/api/stream/{id}": {
        "delete": {
            "summary": "End a stream.",
            "parameters": [_ID],
            "responses": {"200": _CANCELLED, **{str(code): _ERROR for code in (401, 403, 404, 421)}},
        }
    },
}
"""Paths, as the document has them."""
