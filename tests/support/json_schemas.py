"""Makes ``docs/reference/json``: a JSON Schema for what each command prints with ``--json``.

What is a struct of the code becomes a schema by its types, and the comments of its fields are the descriptions. What a command
puts together itself is written here.
"""

import inspect
import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from runner.config.settings import SETTINGS
from runner.event_types import Noted, Progress, Started, Stopping, Summary
from runner.figures import EndpointFigures
from runner.integrations.mcp_schemas import named_in
from runner.model import Attempt, Params, Run
from runner.session import feed_frames
from runner.session.batch_list import ShownBatch
from runner.session.comparing import Comparison
from runner.session.estimating import Estimate
from runner.session.vacuuming import Vacuumed
from runner.store.former import FormerAnswer
from runner.store.steered import Steered
from runner.store.story import Sent, Story, TakenFrom
from runner.store.totals import Totals
from runner.time_ledger import TimeLedger

FOLDER = Path(__file__).parents[2] / "docs" / "reference" / "json"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]

TEXT, WHOLE, NUMBER, FLAG = {"type": "string"}, {"type": "integer"}, {"type": "number"}, {"type": "boolean"}
TEXTS: Schema = {"type": "array", "items": TEXT}
ANY: Schema = {}
OPEN: Schema = {"type": "object"}


class Page(NamedTuple):
    """A file of the folder. lines: the command prints an object on each line. structs: those of the code that it refers to."""

    title: str
    schema: Schema
    structs: tuple[type[Struct], ...] = ()
    lines: bool = False


def maybe(schema: Schema) -> Schema:
    """Return the schema of a value that may be null."""
    return {"anyOf": [schema, {"type": "null"}]}


def record(properties: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None, about: str = "") -> Schema:
    """Return the schema of an object with these keys and no others."""
    made: Schema = {"description": about} if about else {}
    return {
        **made,
        "type": "object",
        "properties": {**properties, **(optional or {})},
        "required": [*properties],
        "additionalProperties": False,
    }


def listed(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def tuple_of(*parts: Schema) -> Schema:
    return {"type": "array", "prefixItems": [*parts], "items": False, "minItems": len(parts)}


def ref(struct: type[Struct]) -> Schema:
    return {"$ref": f"#/$defs/{struct.__name__}"}


def of_struct(struct: type[Struct], more: Mapping[str, Schema] | None = None) -> Schema:
    """Return the schema of a struct as an object by itself. more: keys that a command adds."""
    _, found = msgspec.json.schema_components([struct], ref_template="#/$defs/{name}")
    properties = {**(more or {}), **closed(struct, found[struct.__name__])["properties"]}
    return record(properties, about=said(struct))


def closed(struct: type[Struct], schema: Schema) -> Schema:
    """Return the schema of a struct with descriptions, without defaults, and with no other keys than its fields."""
    about, properties = comments(struct), {}
    for name, one in schema["properties"].items():
        bare = {key: value for key, value in one.items() if key != "default"}
        properties[name] = {**bare, "description": about[name]} if name in about else bare
    made = record(properties, about=said(struct))
    # what is left out where it has its default
    return made if not struct.__struct_config__.omit_defaults else {**made, "required": []}


def said(struct: type[Struct]) -> str:
    """Return the first paragraph of a struct's docstring."""
    return in_json(" ".join((inspect.getdoc(struct) or "").split("\n\n")[0].split()))


def comments(struct: type[Struct]) -> dict[str, str]:
    """Return what the comments above the fields of a struct say. A comment of several parts is about as many fields below it."""
    found: dict[str, str] = {}
    for one in struct.__mro__[::-1]:
        if one is not Struct and issubclass(one, Struct):
            found |= own_comments(one)
    return found


def own_comments(struct: type[Struct]) -> dict[str, str]:
    """Return the same of the fields that a struct does not have from another one."""
    found: dict[str, str] = {}
    words, fresh, about = "", True, 0
    for line in inspect.getsource(struct).splitlines()[1:]:
        bare = line.strip()
        if bare.startswith("#"):
            words = f"{words} {bare[1:].strip()}" if not fresh else bare[1:].strip()
            fresh, about = False, 1 + words.count("; ") + words.count(", and ")
            continue
        fresh = True
        name = bare.partition(":")[0]
        if about and name in struct.__struct_fields__:
            found[name], about = in_json(words), about - 1
        elif bare.startswith(("def ", "@")):
            break
    return found


def in_json(words: str) -> str:
    """Return a comment with the names that JSON has for the values of Python."""
    for ours, theirs in (("None", "null"), ("True", "true"), ("False", "false")):
        words = re.sub(rf"\b{ours}\b", theirs, words)
    return words


FILES = listed(record({"file": TEXT, "format": TEXT, "rows": WHOLE, "manifest": maybe(TEXT)}))
ERROR = record(
    {"event": {"const": "error"}, "exit_code": {"enum": [1, 2, 3, 4, 5, 70]}, "code": maybe(TEXT), "message": TEXT},
    about="What is wrong, in a sentence. code: the error code that stopped a run.",
)
ITEM = record(
    {
        "event": {"const": "item"}, "id": TEXT, "answer_number": WHOLE, "status": {"enum": ["done", "failed"]}, "kept": FLAG,
        "finish_reason": maybe(TEXT), "error_code": maybe(TEXT), "input_tokens": maybe(WHOLE), "output_tokens": maybe(WHOLE),
        "attempts": WHOLE,
    },
    about="A row has its outcome, which is on the disk. The text of the answer is left to the export.",
)  # fmt: skip
EXPORTED = record(
    {"event": {"const": "exported"}, "run": WHOLE, "files": FILES, "notes": TEXTS},
    about="With --output: the results are written.",
)

WEB = record(
    {"event": {"const": "web"}, "url": maybe(TEXT), "error": maybe(TEXT)},
    about="With --web: where the page of the run is, with the secret that opens it, or why there is none.",
)


def event(struct: type[Struct], name: str) -> Schema:
    return of_struct(struct, {"event": {"const": name}})


def run() -> Page:
    lines = [
        event(Started, "started"),
        event(Noted, "noted"),
        event(Progress, "progress"),
        ITEM,
        event(Stopping, "stopping"),
        event(Summary, "finished"),
        EXPORTED,
        WEB,
        ERROR,
    ]
    return Page("A line of `runner run`, `resume` or `retry` with --json", {"oneOf": lines}, (Started, Progress, Summary), True)


def check() -> Page:
    counts = ("rows", "broken_rows", "duplicate_ids", "identical", "nulls", "files", "file_bytes", "unsendable_rows")
    reasons = listed(tuple_of(WHOLE, TEXT))
    settings = record({**{setting.name: ANY for setting in SETTINGS}, "input": TEXT})
    schema = record(
        {
            **dict.fromkeys(counts, WHOLE),
            "broken": reasons,
            "unsendable": reasons,
            "duplicates": {"type": "object", "additionalProperties": listed(WHOLE)},
            "oversized": listed(tuple_of(WHOLE, TEXT, WHOLE, TEXT, NUMBER)),
            "examples": listed(tuple_of(TEXT, WHOLE, WHOLE, TEXT)),
            **dict.fromkeys(("refusal", "missing", "key_source"), maybe(TEXT)),
            "row_settings": TEXTS,
            "settings": settings,
        }
    )
    return Page("`runner check --json`", schema)


def config() -> Page:
    setting = record({"value": ANY, "source": TEXT})
    settings = record({setting_.key: setting for setting_ in SETTINGS})
    return Page("`runner run --show-config --json`", record({"input": TEXT, "settings": settings, "key_source": maybe(TEXT)}))


def dry_run() -> Page:
    line = {"line": WHOLE}
    sent = record({**line, "url": TEXT, "body": OPEN}, {"file": TEXT}, about="The request of a row.")
    broken = record({**line, "fault": TEXT}, {"file": TEXT}, about="A row from which no request can be made.")
    return Page("A line of `runner run --dry-run N --json`", {"oneOf": [sent, broken]}, lines=True)


def try_() -> Page:
    tokens = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")
    texts = ("text", "finish_reason", "error_code", "error", "served_model")
    numbers = ("time_to_first_token_s", "duration_s", "tokens_per_s")
    schema = record(
        {
            "line": maybe(WHOLE),
            "request": record({"model": TEXT, "system": maybe(TEXT), "messages": listed(OPEN), "params": ref(Params)}),
            "status": {"enum": ["done", "failed"]},
            **dict.fromkeys(texts, maybe(TEXT)),
            "extra": OPEN,
            "notes": TEXTS,
            **dict.fromkeys(tokens, maybe(WHOLE)),
            **dict.fromkeys(numbers, maybe(NUMBER)),
            "attempts": listed(ref(Attempt)),
        }
    )
    return Page("`runner try --json`", schema, (Attempt, Params))


def show() -> Page:
    row = of_struct(Story, {"run": WHOLE, "system": maybe(TEXT), "prompt": ANY})
    row["properties"]["file"] = TEXT
    return Page(
        "`runner show --json`: a row, or a list of its answers where there are several",
        {"oneOf": [row, listed(row)]},
        (FormerAnswer, Sent, TakenFrom),
    )


def init() -> Page:
    schema = record(
        {
            "input": TEXT,
            "file": maybe(TEXT),
            "text": TEXT,
            "rows": WHOLE,
            "counted": {"enum": ["counted", "estimated", "more"]},
            "prompt_column": maybe(TEXT),
            "next": listed(record({"command": TEXT, "why": TEXT})),
        }
    )
    return Page("`runner init --json`", schema)


def labelled(command: str) -> Page:
    return Page(f"`runner {command} --json`", record({"run": WHOLE, "name": maybe(TEXT), "tags": TEXTS}))


def errors() -> Page:
    schema = record(
        {
            "status": {"enum": ["done", "failed"], "description": "done: the rows are answered, and their answers are doubtful"},
            "code": {**TEXT, "description": "as --class and --only take it"},
            "count": WHOLE,
            "share_of_failed": {**maybe(NUMBER), "description": "from 0 to 1; null for rows that are done"},
            "share": {**maybe(NUMBER), "description": "of all rows with an outcome, from 0 to 1"},
            "example_id": TEXT,
            "example": {**TEXT, "description": "the error of that row; of a done one, its finish reason"},
            "attempts": {**WHOLE, "description": "all attempts of these rows, and the next five what they took"},
            **dict.fromkeys(("input_tokens", "output_tokens"), maybe(WHOLE)),
            **dict.fromkeys(("cost", "cost_perhaps"), maybe(NUMBER)),
            "unpriced_attempts": WHOLE,
            "advice": TEXT,
            "command": {**maybe(TEXT), "description": "asks these rows again; null for those of a program, which asks itself"},
            "command_rows": {
                **WHOLE,
                "description": "how many rows the command sends: all of its class, also those of other causes",
            },
            "ids": {**TEXTS, "description": "of all these rows"},
        }
    )
    return Page("`runner errors --json`", listed(schema))


def steered(name: str) -> Page:
    rows = {"type": "object", "additionalProperties": TEXT, "description": "by id: cancelled, requeued, or why not"}
    said = {**TEXT, "description": "what has changed, a sentence; empty if nothing has"}
    return Page(f"`runner {name} --json`", record({"run": WHOLE, "done": said, "error": maybe(TEXT), "rows": rows}))


def status() -> Page:
    # where the time went, and what was asked, is beside what was sent, and no part of it
    books = of_struct(Totals)
    for name in ("time", "steered"):
        books["properties"].pop(name)
        books["required"].remove(name)
    schema = record({"run": ref(Run), "books": books, "time": maybe(ref(TimeLedger)), "steered": listed(ref(Steered))})
    return Page("`runner status --json`", schema, (EndpointFigures, Run, Steered, TimeLedger, Totals))


def batches() -> Page:
    said = record({"done": TEXTS}, about="Of `cancel` and `forget`: what was done, a sentence for each batch.")
    return Page("`runner batches --json`", {"oneOf": [listed(ref(ShownBatch)), said]}, (ShownBatch,))


def export() -> Page:
    return Page("`runner export --json`", record({"run": WHOLE, "rows": maybe(WHOLE), "files": FILES, "notes": TEXTS}))


def live() -> Page:
    """Return the schema of an object that has what a frame holds under its kind."""
    structs = tuple(feed_frames.KINDS.values())
    schema = record({}, {kind: ref(struct) for kind, struct in feed_frames.KINDS.items()})
    return Page("What a session tells those who watch it: a frame, under its kind", {**schema, "maxProperties": 1}, structs)


PAGES: dict[str, Callable[[], Page]] = {
    "batches": batches,
    "check": check,
    "compare": lambda: Page("`runner compare --json`", ref(Comparison), (Comparison,)),
    "delete": lambda: Page(
        "`runner delete --json`",
        record({"deleted": listed(WHOLE), "notes": TEXTS, "vacuumed": maybe(ref(Vacuumed))}),
        (Vacuumed,),
    ),
    "dry-run": dry_run,
    "error": lambda: Page("What any command prints with --json if it fails, on a line by itself", ERROR, lines=True),
    "errors": errors,
    "estimate": lambda: Page("`runner estimate --json`", ref(Estimate), (Estimate,)),
    "export": export,
    "init": init,
    "live": live,
    "list": lambda: Page("`runner list --json`", listed(ref(Run)), (Run,)),
    "name": lambda: labelled("name"),
    "report": lambda: Page("`runner report --json`", record({"file": TEXT, "runs": listed(WHOLE)})),
    "run": run,
    "show": show,
    "show-config": config,
    "simulate": lambda: Page(
        "The first line of `runner simulate --json`", record({"openai": TEXT, "anthropic": TEXT, "pid": WHOLE}), lines=True
    ),
    "status": status,
    **{name: partial(steered, name) for name in ("cancel", "continue", "pause", "requeue", "set", "stop")},
    "tag": lambda: labelled("tag"),
    "try": try_,
    "vacuum": lambda: Page("`runner vacuum --json`", ref(Vacuumed), (Vacuumed,)),
    "web": lambda: Page(
        "The first line of `runner web --json`",
        record({"event": {"const": "web"}, "url": TEXT, "port": WHOLE, "pid": WHOLE}),
        lines=True,
    ),
}
"""The files by their names. ``run`` is also that of ``resume`` and ``retry``."""


def text(name: str) -> str:
    """Return the text of a file."""
    page = PAGES[name]()
    defined: Schema = {}
    _, found = msgspec.json.schema_components(page.structs, ref_template="#/$defs/{name}")
    classes = {one.__name__: one for one in every_struct(page.structs)}
    for key, schema in sorted(found.items()):
        defined[key] = closed(classes[key], schema)
    used = named_in(page.schema, defined)
    defined = {key: schema for key, schema in defined.items() if key in used}
    made = {"$schema": DIALECT, "title": page.title, **page.schema, **({"$defs": defined} if defined else {})}
    return json.dumps(made, indent=2, ensure_ascii=False) + "\n"


def every_struct(structs: tuple[type[Struct], ...]) -> list[type[Struct]]:
    """Return structs with those that their fields hold."""
    found: dict[type[Struct], None] = {}
    left = [*structs]
    while left:
        one = left.pop()
        if one in found:
            continue
        found[one] = None
        for part in msgspec.inspect.multi_type_info([field.type for field in msgspec.structs.fields(one)]):
            left += classes_in(part)
    return [*found]


def classes_in(kind: Any) -> list[type[Struct]]:
    """Return the structs in a type, as msgspec describes it."""
    if isinstance(kind, msgspec.inspect.StructType):
        return [kind.cls]
    parts = [getattr(kind, name, None) for name in ("item_type", "key_type", "value_type")]
    parts += [*getattr(kind, "types", ()), *getattr(kind, "item_types", ())]
    return [one for part in parts if part is not None for one in classes_in(part)]


def write() -> None:
    """Write the files, and remove those of commands that are no more."""
    for left in {path.name for path in FOLDER.iterdir()} - {f"{name}.schema.json" for name in PAGES}:
        (FOLDER / left).unlink()
    for name in PAGES:
        (FOLDER / f"{name}.schema.json").write_text(text(name), encoding="utf-8")
