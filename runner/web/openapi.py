"""The API of the page as an OpenAPI document. A test compares it with the routes and with what they answer."""

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from runner.model import Run
from runner.store.index_words import MOST_VALUE
from runner.store.over_time import OverTime
from runner.store.row_index import State
from runner.store.row_pages import MOST_ROWS
from runner.store.steered import Steered
from runner.store.story import Story
from runner.store.totals import Totals
from runner.version import __version__
from runner.web import ask_openapi
from runner.web.replies import reply
from runner.web.schemas import ROW, closed_told, kept, listed_run

Json = dict[str, Any]

_REF = "#/components/schemas/{name}"
_TEXT, _WHOLE, _NUMBER, _FLAG = {"type": "string"}, {"type": "integer"}, {"type": "number"}, {"type": "boolean"}
_STRUCTS = (Run, Totals, OverTime, Steered, State, Story)
_ROW_PATH = "/api/runs/{run}/rows/{row}"
_RUN = {
    "name": "run",
    "in": "path",
    "required": True,
    "schema": {"type": "integer", "minimum": 1},
    "description": "Number of a run.",
}
_IDS = {
    "type": "array",
    "items": {"type": ["string", "number"]},
    "minItems": 1,
    "description": "Ids of rows, as results have them.",
}


def _ref(name: str) -> Json:
    return {"$ref": _REF.format(name=name)}


def _list(of: Json) -> Json:
    return {"type": "array", "items": of}


def _object(**properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


def _maybe(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


def _answer(about: str, schema: Json | None = None, kind: str = "application/json") -> Json:
    return {"description": about, "content": {kind: {"schema": schema or _TEXT}}}


def _get(about: str, found: Json, *parameters: Json, run: bool = True) -> Json:
    errors = {str(code): _ERROR for code in (401, 403, *([404] if run else []), 421, 503)}
    return {"summary": about, "parameters": [*([_RUN] if run else []), *parameters], "responses": {"200": found, **errors}}


def _post(about: str, body: Json | None = None, *, starts: bool = False) -> Json:
    found = {"200": _answer("What has changed.", _ref("Steered_"))}
    if starts:
        found = {str(code): _answer("What is sent, and whether it was started.", _ref("Start")) for code in (200, 202)}
    schema = body or {"type": "object", "additionalProperties": False}
    sent = {"required": body is not None, "content": {"application/json": {"schema": schema}}}
    errors = {str(code): _ERROR for code in (400, 401, 403, 404, 408, 409, 413, 415, 421, 503)}
    return {
        "summary": about,
        "parameters": [_RUN],
        "requestBody": sent,
        "responses": found | errors,
    }


_COOKIE = (
    "What a browser has. To change something, the header `X-Runner: 1` is needed too; "
    "through a proxy, the proof that the page has."
)
_ERROR = {"$ref": "#/components/responses/Error"}


def _query(name: str, about: str, schema: Json, *, many: bool = False) -> Json:
    of = {"schema": _list(schema), "style": "form", "explode": True} if many else {"schema": schema}
    return {"name": name, "in": "query", "description": about, **of}


_ROWS = (
    _query("after", "`next` of the page before.", _TEXT),
    _query("limit", "Rows of the page.", {"type": "integer", "minimum": 1, "maximum": MOST_ROWS, "default": 50}),
    _query("order", "The order of the input, or backwards.", {"enum": ["input", "-input"], "default": "input"}),
    _query("status", "Rows with one of these.", {"enum": ["done", "failed"]}, many=True),
    _query("code", "Rows with one of these error codes.", _TEXT, many=True),
    _query("finish", "Rows with one of these finish reasons.", _TEXT, many=True),
    _query("q", "Rows that have all of these words; the last one may be a beginning.", _TEXT),
    _query("chars", "Characters of a text, at most.", {"type": "integer", "minimum": 0, "maximum": 100_000, "default": 300}),
    {
        "name": "fields",
        "in": "query",
        "description": f"`field.NAME=VALUE`: rows whose own field has this value, of {MOST_VALUE} characters at most.",
        "schema": {"type": "object", "additionalProperties": _TEXT},
        "style": "form",
        "explode": True,
    },
)
_LAST = {
    "name": "Last-Event-ID",
    "in": "header",
    "schema": _TEXT,
    "description": "The last event that was seen, to go on behind it.",
}
_TOKEN = _query("token", "The token, for what can send no header.", _TEXT)
_STREAM = _answer("Server-sent events; docs/reference/live-events.md tells the kinds.", kind="text/event-stream")
_CAUSE = {
    "type": "object",
    "required": ["status", "code", "count", "ids", "command"],
    "description": "As `runner errors --json`.",
}


_CONFIRM: Json = {
    "type": "object",
    "properties": {"confirm": {"type": "boolean", "default": False}},
    "additionalProperties": False,
}


def _paths() -> Json:
    of = "/api/runs/{run}"
    page = _object(rows=_list(_ref("Row")), next=_maybe(_TEXT), index=_maybe(_ref("State")))
    rate = {"type": ["number", "null"], "description": "null: no limit but that of the server."}
    limits = {"concurrency": {"type": "integer", "minimum": 1}, "rpm": rate, "tpm": rate, "max_cost": _NUMBER}
    some = {"type": "object", "properties": limits, "minProperties": 1, "additionalProperties": False}
    which = {**_CONFIRM, "properties": {"ids": _IDS, "class": _TEXT, **_CONFIRM["properties"]}}
    row = {**_RUN, "name": "row", "schema": _TEXT, "description": "Id of a row, or its line."}
    get = {
        "/api/runs": _get(
            "All runs, oldest first, as `runner list --json`.", _answer("Runs.", _list(_ref("ListedRun"))), run=False
        ),
        of: _get("One run in full, as `runner status --json`.", _answer("The run.", closed_told())),
        f"{of}/rows": _get("A page of the rows that have an outcome.", _answer("Rows.", page), *_ROWS),
        _ROW_PATH: _get("One row whole, as `runner show --json`.", _answer("The row, or its answers.", _ref("WholeRow")), row),
        f"{of}/errors": _get("What failed, by cause, as `runner errors --json`.", _answer("Causes.", _list(_CAUSE))),
        f"{of}/figures": _get("What happened over time.", _answer("Figures.", _ref("OverTime"))),
        f"{of}/history": _get("What was asked of its sessions, oldest first.", _answer("The history.", _list(_ref("Steered")))),
        f"{of}/events": _get("What its session is doing.", _STREAM, _LAST),
        "/api/events": _get("The same of all running sessions, each with its `run`.", _STREAM, _LAST, run=False),
        "/metrics": _get("The state of all runs, for Prometheus.", _answer("Metrics.", kind="text/plain"), _TOKEN, run=False),
        "/openapi.json": _get("This document.", _answer("OpenAPI 3.1.", {"type": "object"}), run=False),
    }
    # what is asked of it may be none
    get[f"{of}/rows"]["responses"]["400"] = _ERROR
    post = {
        "pause": _post("Send no further request; those that are open go on."),
        "continue": _post("Send requests again."),
        "stop": _post("End the session as Ctrl-C does; said twice, as a second Ctrl-C."),
        "cancel": _post("Give rows up: their open requests end at once.", _object(ids=_IDS)),
        "requeue": _post("Send rows again that have failed, in this session.", _object(ids=_IDS)),
        "set": _post("Change limits until the session ends.", some),
        "retry": _post("Start `runner retry` for a run that is not running, or say what it sends and costs.", which, starts=True),
        "resume": _post("Start `runner resume` likewise: what is left of a run that is not running.", _CONFIRM, starts=True),
    }
    reads = {path: {"get": told} for path, told in get.items()}
    return reads | {f"{of}/{what}": {"post": told} for what, told in post.items()} | ask_openapi.PATHS


def document() -> Json:
    """Return the document."""
    _, found = msgspec.json.schema_components(_STRUCTS, ref_template=_REF)
    told = {
        "Steered_": _object(done=_TEXT, rows={"type": "object", "additionalProperties": _TEXT}),
        "Start": _object(started=_FLAG, rows=_maybe(_WHOLE), cost=_maybe(_NUMBER), sentence=_TEXT, done=_TEXT),
        "ListedRun": listed_run(),
        "Row": ROW,
        "WholeRow": kept(_ref("Story")),
    }
    error = _object(error=_TEXT, code=_TEXT)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "runner web",
            "version": __version__,
            "description": "The runs of a store: to watch, read and steer them.",
        },
        "security": [{"token": []}, {"cookie": []}],
        "paths": _paths(),
        "components": {
            "schemas": {**found, **told, **ask_openapi.SCHEMAS},
            "responses": {"Error": _answer("One sentence, and a word for a program.", error)},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "The token in the printed address."},
                "cookie": {"type": "apiKey", "in": "cookie", "name": "runner-PORT", "description": _COOKIE},
            },
        },
    }


async def openapi(_: Request) -> Response:
    """Answer with the document."""
    return reply(document())
