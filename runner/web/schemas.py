"""Schemas of what the API puts together itself out of structs."""

from typing import Any

import msgspec

from runner.model import Result

_REF = "#/components/schemas/"
_OF_PAGE = ("metadata", "prompt")


def _row() -> dict[str, Any]:
    """Return the schema of a row of a page: its result, with its own fields as ``fields``, and long texts cut."""
    _, found = msgspec.json.schema_components([Result], ref_template=f"{_REF}{{name}}")
    properties = {name: of for name, of in found["Result"]["properties"].items() if name not in _OF_PAGE}
    # a list or an object that is too long is told as a text
    cut: dict[str, Any] = {name: {} for name in ("tool_calls", "citations", "logprobs")}
    more = {
        "fields": {"type": "object", "description": "Its own fields."},
        "prompt": {"description": "What was asked; of messages, the last one. null: the store has not kept it."},
        "text_chars": {"type": ["integer", "null"], "description": "Characters of the whole text."},
    }
    every = {**properties, **cut, **more}
    return {"type": "object", "properties": every, "required": [*every], "additionalProperties": False}


ROW = _row()


def listed_run() -> dict[str, Any]:
    """Return the schema of a run in the list, with what it has cost."""
    amount: dict[str, Any] = {"type": ["number", "null"]}
    about = {"cost": "Dollars. null: not known.", "cost_perhaps": "Dollars that it may have cost beyond that. null: no limit."}
    money = {name: {**amount, "description": f"{text} Left out: not added up yet."} for name, text in about.items()}
    return {"allOf": [{"$ref": f"{_REF}Run"}], "properties": money}


def closed_told() -> dict[str, Any]:
    """Return the schema of a run in full."""
    books = {"type": "object", "description": "What it has sent, as Totals without `time` and `steered`."}
    time = {"anyOf": [{"$ref": f"{_REF}TimeLedger"}, {"type": "null"}]}
    steered = {"type": "array", "items": {"$ref": f"{_REF}Steered"}}
    properties = {"run": {"$ref": f"{_REF}Run"}, "books": books, "time": time, "steered": steered}
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


def kept(story: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a row whole, or of a list of its answers. story: that of what the store has of it."""
    own = {"run": {"type": "integer"}, "system": {"type": ["string", "null"]}, "prompt": {}, "file": {"type": "string"}}
    one = {"allOf": [story], "properties": own, "required": ["run", "system", "prompt"]}
    return {"anyOf": [one, {"type": "array", "items": one, "minItems": 2}]}
