"""The JSON Schemas of what the tools take and return: those of the commands' JSON, made of the same structs."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec

from runner.config.settings import Setting
from runner.integrations.mcp_cap import State
from runner.integrations.mcp_guard import GIVEN
from runner.model import Run
from runner.session.estimating import Estimate
from runner.store.former import FormerAnswer
from runner.store.steered import Steered
from runner.store.story import Sent, TakenFrom
from runner.store.totals import Totals
from runner.time_ledger import TimeLedger

Schema = dict[str, Any]

_STRUCTS = (Run, Estimate, Totals, Steered, TimeLedger, State, Sent, TakenFrom, FormerAnswer)
_TEXT, _WHOLE, _NUMBER, _FLAG = {"type": "string"}, {"type": "integer"}, {"type": "number"}, {"type": "boolean"}
_OPEN: Schema = {"type": "object"}
_TEXTS: Schema = {"type": "array", "items": _TEXT}
_KINDS: Mapping[str, Schema] = {
    "text": _TEXT,
    "int": _WHOLE,
    "float": _NUMBER,
    "bool": _FLAG,
    "texts": {"type": ["string", "array"], "items": _TEXT},
    "slots": {"type": ["integer", "string"]},
    "span": {"type": ["number", "string"]},
    "share": {"type": ["integer", "string"]},
    "messages": {"type": "array", "items": _OPEN},
    "schema": _OPEN,
}
"""By the kind of a setting."""


def settings() -> Schema:
    """Return the schema of the settings that a call may give."""
    return {"type": "object", "properties": {one.name: _of(one) for one in GIVEN}, "additionalProperties": False}


def _of(setting: Setting) -> Schema:
    choices: Schema = {"enum": list(setting.choices)} if setting.choices else {}
    return {**_KINDS.get(setting.kind, _TEXT), **choices, "description": setting.help}


def returned(name: str) -> Schema:
    """Return the schema of what a tool returns."""
    properties = _RETURNED[name]
    defined = _defined()
    used = named_in(properties, defined)
    made: Schema = {"type": "object", "properties": properties, "required": [*properties]}
    return {**made, "$defs": {key: defined[key] for key in sorted(used)}} if used else made


def _maybe(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _list(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def _ref(struct: type) -> Schema:
    return {"$ref": f"#/$defs/{struct.__name__}"}


_STARTED: Schema = {
    "run": {**_maybe(_ref(Run)), "description": "null while the input is still being read"},
    "running": {**_FLAG, "description": "a process works on it; it does not need this server"},
    "max_cost": {**_maybe(_NUMBER), "description": "dollars that this session may spend; null: it costs nothing"},
    "next": {**_TEXT, "description": "what to do now"},
    "budget": _ref(State),
}
_STEERED: Schema = {
    "run": _WHOLE,
    "done": {**_TEXT, "description": "what has changed"},
    "rows": {"type": "object", "additionalProperties": _TEXT, "description": "by id, what became of each row"},
}
_CAUSE: Schema = {
    "type": "object",
    "properties": {
        "status": {"enum": ["done", "failed"]},
        "code": {**_TEXT, "description": "as `classes` of `retry` takes it"},
        "count": _WHOLE,
        "example_id": _TEXT,
        "example": _TEXT,
        "advice": _TEXT,
        "ids": {**_TEXTS, "description": "of the first 100 rows"},
    },
    "required": ["status", "code", "count", "example_id", "example", "advice", "ids"],
}
_ROW: Schema = {
    "type": "object",
    "properties": {
        "id": {"type": ["string", "number"]},
        "line": _WHOLE,
        "status": {"enum": ["done", "failed"]},
        "text": _TEXT,
        "answer": {**_OPEN, "description": "the fields of a structured answer"},
        "fields": {**_OPEN, "description": "the row's own fields"},
        "finish_reason": _TEXT,
        "error_code": _TEXT,
        "error": _TEXT,
        "cost": _NUMBER,
        "cut": {**_FLAG, "description": "texts are cut, as the row is larger than a page; `show` has it whole"},
    },
    "required": ["id", "line", "status", "cut"],
}
_FILE: Schema = {"file": _TEXT, "format": _TEXT, "rows": _WHOLE, "manifest": _maybe(_TEXT)}
_RETURNED: Mapping[str, Schema] = {
    "submit": _STARTED,
    "retry": _STARTED,
    # it starts a session, or goes on with one
    "continue": {"run": {"anyOf": [_WHOLE, _ref(Run), {"type": "null"}]}},
    "estimate": {"estimate": _ref(Estimate), "budget": _ref(State)},
    "watch": {
        "run": _ref(Run),
        "running": _FLAG,
        "notes": {**_TEXTS, "description": "what the session has said, newest last"},
        "seen": {**_WHOLE, "description": "give it to the next `watch`, so that it waits for newer notes"},
        "cost": _maybe(_NUMBER),
        "cost_perhaps": _maybe(_NUMBER),
        "budget": _ref(State),
    },
    "runs": {"runs": _list(_ref(Run)), "older": {**_WHOLE, "description": "how many are not listed"}},
    "status": {
        "run": _ref(Run),
        "books": _OPEN,
        "time": _maybe(_ref(TimeLedger)),
        "steered": _list(_ref(Steered)),
        "notes": _TEXTS,
    },
    "errors": {"run": _WHOLE, "causes": _list(_CAUSE)},
    "results": {"run": _WHOLE, "rows": _list(_ROW), "next": {**_maybe(_TEXT), "description": "`after` of the next page"}},
    "show": {"run": _WHOLE, "answers": _list({**_OPEN, "properties": {"key": _TEXT, "attempts": _list(_ref(Sent))}})},
    "export": {
        "run": _WHOLE,
        "rows": _maybe(_WHOLE),
        "files": _list({"type": "object", "properties": _FILE, "required": [*_FILE]}),
        "notes": _TEXTS,
    },
    "budget": {
        "cap": {**_maybe(_NUMBER), "description": "dollars that agents may spend in all; null: nothing that costs"},
        "used": _NUMBER,
        "held": {**_NUMBER, "description": "by sessions that are running; what they do not use comes back"},
        "left": _NUMBER,
    },
    **dict.fromkeys(("pause", "stop", "cancel", "requeue", "set"), _STEERED),
}


@cache
def _defined() -> Schema:
    """Return the schemas of the structs. Their defaults are left out, and all of their keys are there."""
    _, found = msgspec.json.schema_components(_STRUCTS, ref_template="#/$defs/{name}")
    return {key: _bare(schema) for key, schema in found.items()}


def _bare(schema: Schema) -> Schema:
    """Return the schema of a struct without what an agent need not read: titles, defaults, and the docstrings of the code."""
    if "properties" not in schema:
        return schema
    properties = schema["properties"].items()
    bare = {name: {word: value for word, value in one.items() if word != "default"} for name, one in properties}
    return {"type": "object", "properties": bare}


def named_in(schema: Any, defined: Mapping[str, Schema]) -> set[str]:
    """Return the names of the definitions that a schema needs, and those that these need."""
    found, left = set[str](), [schema]
    while left:
        match left.pop():
            case {"$ref": str(reference), **others}:
                name = reference.rpartition("/")[2]
                left += [*others.values(), *([defined[name]] if name not in found else [])]
                found.add(name)
            case dict(parts):
                left += parts.values()
            case list(parts):
                left += parts
            case _:
                pass
    return found
