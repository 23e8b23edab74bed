"""Opens an input: finds the reader for it by its ending, or by its first bytes."""

import json
from collections.abc import Mapping
from functools import partial
from hashlib import blake2b
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import msgspec
from msgspec import structs

from runner.config import plugins
from runner.config.job import Job
from runner.errors import UsageError
from runner.inputs import recognition, scan, spool
from runner.inputs.choosing import Condition, Rows, Sample, narrowed
from runner.inputs.compression import unpacked
from runner.inputs.files import size_and_head
from runner.inputs.options import ReadOptions
from runner.inputs.scan import PromptFile
from runner.model import Json, Row
from runner.text import shell_word

if TYPE_CHECKING:
    from runner.inputs.template import Texts

_ENDINGS = {"ndjson": "jsonl", "tsv": "csv", "text": "txt", "pq": "parquet", "xls": "xlsx", "xlsm": "xlsx", "ods": "xlsx"}
"""Endings that are not the name of their format."""
_OF_JSON = ("jsonl", "json")
"""Formats whose files are told apart by their first bytes: they often have the ending of another one of these."""
_OF_LINES = ("jsonl", "txt", "openai_batch")
"""Formats in which each row is a line."""
_OPTIONS = ("encoding", "delimiter", "sheet")
_SHOWN = 20


def options_of(job: Job) -> ReadOptions:
    """Return how a job wants its input to be read. Raises UsageError for what is no template."""
    texts = texts_of(job)
    if job.input_format is not None and "input_format" in job.unvouched and not _is_installed(job.input_format):
        raise UsageError(
            f"{job.file or 'the stored run'} names the input format {job.input_format!r}, which would run a module of that name; "
            f"give it as an option if that is meant: --input-format {job.input_format}"
        )
    return ReadOptions(
        asked=texts.names if texts is not None else None,
        format=job.input_format,
        encoding=job.encoding,
        delimiter=job.delimiter,
        sheet=job.sheet,
        id_column=job.id_column,
        row_settings=job.row_settings,
        where=job.where,
        sample=job.sample,
        sample_seed=job.sample_seed,
    )


def columns_in(settings: Mapping[str, Json]) -> frozenset[str] | None:
    """Return the fields of a row that the settings keep; None: all. One text has several names, separated by commas."""
    columns = settings.get("columns")
    if isinstance(columns, str):
        columns = columns.split(",")
    return frozenset(name.strip() for name in columns) if columns else None


def texts_of(job: Job) -> "Texts | None":
    """Return the compiled templates of a job; None if each row has its own prompt. Raises UsageError."""
    return texts_in({"prompt": job.prompt, "messages": job.messages, "system": job.system})


def texts_in(settings: Mapping[str, Json]) -> "Texts | None":
    """Return the compiled templates of stored settings, as ``texts_of`` does for a job."""
    prompt, messages = settings.get("prompt"), settings.get("messages")
    if prompt is None and messages is None:
        return None
    # imported here: it takes a tenth of a second, and many jobs have no template
    from runner.inputs.template import Texts

    return Texts(prompt=prompt, messages=messages, system=settings.get("system"))


def _is_installed(name: str) -> bool:
    return plugins.registered("inputs", _named(name)) is not None


def open_input(path: Path, options: ReadOptions | None = None) -> PromptFile:
    """Return a prompt file with its reader. Raises UsageError for a file that cannot be read, or in none of the known formats."""
    options = options or ReadOptions()
    name = _named(options.format) if options.format is not None else _format(path)
    module = plugins.load("inputs", name)
    _refuse_options(path, module, name, options)
    try:
        # rows that are appended from here on belong to the next session
        size = path.stat().st_size
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    about: list[str] = []
    if hasattr(module, "settled"):
        options, about = module.settled(path, structs.replace(options, format=name))
    more = {"options": options} if "options" in signature(module.read).parameters else {}
    # a sample of a file that has grown is another one
    behind = getattr(module, "read_behind", None) if options.sample is None else None
    seen = partial(_seen, options, _condition(options.where))
    read = lambda: seen(module.read(path, limit_bytes=size, **more))  # noqa: E731 - what follows may put another in its place
    prompts = PromptFile(
        path,
        size,
        read if options.sample is None else Sample(read, options.sample, options.sample_seed).rows,
        behind and (lambda at, lines: (rows := behind(path, limit_bytes=size, offset=at, lines=lines)) and seen(rows, rest=True)),
        _reading(name, options),
        getattr(module, "PLACE", "line"),
        tuple(f"{spool.display_name(path)} {words}" for words in about),
        name in _OF_LINES,
    )
    if options.id_column != "id":
        _refuse_absent_id(path, prompts, options)
    if options.asked is None and getattr(module, "IS_TABLE", False):
        _refuse_without_prompt(path, prompts)
    return prompts


def _named(name: str) -> str:
    """Return the name of the module of a format that a user has named."""
    name = name.strip().replace("-", "_")
    return _ENDINGS.get(name, name)


def _format(path: Path) -> str:
    """Return the format of a file. Its name runs no code but that of our own formats and of installed packages."""
    ending = unpacked(path).suffix.lower().lstrip(".")
    name = _ENDINGS.get(ending, ending)
    looked_at = name in (*_OF_JSON, "txt") or spool.is_copy(path)
    if not looked_at and plugins.registered("inputs", name) is not None:
        return name
    head = size_and_head(path)[1]
    if name == "txt" and not recognition.begins_with_object(head):
        return name
    found = recognition.look(head)
    if found.format is None:
        raise UsageError(f"{path} {found.instead}")
    if name in _OF_JSON and not spool.is_copy(path) and found.format not in (*_OF_JSON, "openai-batch"):
        raise UsageError(f"{path} is not JSON, but looks like {found.format}; name it so, or use --input-format {found.format}")
    return _named(found.format)


def _refuse_options(path: Path, module: ModuleType, name: str, options: ReadOptions) -> None:
    """Raise UsageError for an option that means nothing for a format."""
    for option in _OPTIONS:
        if getattr(options, option) is not None and option not in getattr(module, "OPTIONS", ()):
            raise UsageError(f"--{option} means nothing for {spool.display_name(path)}, which is read as {name}; leave it out")


def _reading(name: str, options: ReadOptions) -> str:
    """Return a word for the way in which rows are read: where it is the same, the same bytes are the same rows."""
    word = scan.READING if name == "jsonl" else f"{scan.READING}-{name}"
    given = {key: value for key, value in options.given().items() if key not in ("format", "row_settings", "asked")}
    if given:
        word += "-" + blake2b(msgspec.json.encode(given, order="sorted"), digest_size=6).hexdigest()
    return word if options.row_settings else f"{word}-data"


def _condition(where: str | None) -> Condition | None:
    if where is None:
        return None
    # imported here, as for templates
    from runner.inputs import template

    return template.Condition(where)


def _seen(options: ReadOptions, condition: Condition | None, rows: Rows, *, rest: bool = False) -> Rows:
    """Return rows as the job sees them. rest: they are not all rows of the input."""
    if options.id_column != "id" or not options.row_settings or options.asked is not None:
        rows = (_changed(row, options) for row in rows)
    return narrowed(rows, condition, rest=rest) if condition is not None else rows


def _changed(row: Row, options: ReadOptions) -> Row:
    row = structs.replace(row, plain=not options.row_settings, asked=options.asked)
    if options.id_column == "id" or row.fields is None:
        return row
    own = row.fields.get(options.id_column)
    if row.fault is None and own in (None, ""):
        return structs.replace(row, fault=f"no {options.id_column}, which is to be the id (--id-column)")
    # a field that is called id, but is not to be the id, keeps its value under another name
    other = {"id_2": row.fields["id"]} if "id" in row.fields else {}
    return structs.replace(row, fields={**row.fields, **other, "id": own})


def _refuse_without_prompt(path: Path, prompts: PromptFile) -> None:
    """Raise UsageError for a table without a column of prompts: a template is missing, or the column has another name."""
    first = next((row.fields for row in prompts.read() if row.fields is not None), None)
    if first is None or not {"prompt", "messages"}.isdisjoint(first):
        return
    columns = list(first)
    # the longest cell is most likely the text
    name = max([column for column in columns if column != "id"] or columns, key=lambda column: len(str(first[column])))
    field = f"{{{{ {name} }}}}" if name.isidentifier() else f"{{{{ row[{json.dumps(name, ensure_ascii=False)}] }}}}"
    raise UsageError(
        f"{spool.display_name(path)} has no column prompt; its columns: {', '.join(columns[:_SHOWN])}. "
        f"A template says what to ask, e.g. --prompt {shell_word(f'Summarize: {field}')}"
    )


def _refuse_absent_id(path: Path, prompts: PromptFile, options: ReadOptions) -> None:
    """Raise UsageError if the first row lacks the field that is to be the id: then its name is probably wrong.

    Also if the template names a field ``id`` that is another one.
    """
    name = options.id_column
    first = next((row for row in prompts.read() if row.fields is not None), None)
    if first is not None and "id_2" in (first.fields or ()) and "id" in (options.asked or ()):
        raise UsageError(
            f"the template names id, but {name!r} is the id here (--id-column); the field id of the rows is called id_2"
        )
    if first is not None and first.fields is not None and name not in first.fields:
        fields = ", ".join(list(first.fields)[:_SHOWN]) or "none"
        raise UsageError(
            f"{spool.display_name(path)} has no field {name!r} for the id (--id-column); its first row has: {fields}"
        )
