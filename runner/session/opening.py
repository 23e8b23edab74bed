"""Opens an input: a file, several files, or the answers of a run."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import structs

from runner import origin
from runner.config import plugins
from runner.config.endpoint import find_endpoint, with_base_url
from runner.config.job import Job
from runner.errors import NotReadyError, UsageError
from runner.inputs import scan, spool
from runner.inputs.choosing import Condition, Rows, Sample, narrowed
from runner.inputs.options import ReadOptions
from runner.inputs.places import Places
from runner.inputs.prompts import Template, asked
from runner.inputs.scan import PromptFile
from runner.media import MEDIA_FIELDS, MediaField
from runner.model import Json, Row
from runner.session import answers, missing, part, shape, shaped
from runner.session.naming import DEFAULT_STORE

if TYPE_CHECKING:
    from runner.inputs.template import Texts

_OF_LINES = ("jsonl", "txt", "openai_batch")
"""Formats in which each row is a line."""


def options_of(job: Job) -> ReadOptions:
    """Return how a job wants its input to be read. Raises UsageError for what is no template."""
    texts = texts_of(job)
    if job.input_format is not None and "input_format" in job.unvouched and not _is_installed(job.input_format):
        raise UsageError(
            f"{job.file or 'the stored run'} names the input format {job.input_format!r}, which would run a module of that name; "
            f"give it as an option if that is meant: --input-format {job.input_format}"
        )
    if job.files_root is not None and not Path(job.files_root).is_dir():
        raise UsageError(f"files_root is {job.files_root}, which is no folder; --files-root names another one")
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
        media=media_of(job),
    )


def rooted(job: Job, store: Path) -> Job:
    """Return a job that knows the folder of its files, if that is not the one of the input.

    For a stream it is the current one, also when it is resumed elsewhere; for the answers of a run, that of this run. What the
    rows of a run have set, they have set for their own requests there. Asked again as they are, they keep their pictures.
    """
    job = structs.replace(job, input=answers.numbered(job.input, store))
    if origin.run_of(job.input) is None:
        of_stream = job.files_root is None and spool.is_stream(job.input)
        return structs.replace(job, files_root=str(Path.cwd())) if of_stream else job
    root = job.files_root or answers.folder_of_files(job.input, store)
    job = structs.replace(job, files_root=root, row_settings=False)
    if texts_of(job) is not None:
        return job
    return structs.replace(job, **{name: getattr(job, name) or [name] for name in MEDIA_FIELDS})


def unsent(job: Job, store: Path) -> Job:
    """Return a job as its requests are made, for those that are only looked at: with its base URL, and ``rooted``.

    No key is needed: keys are in headers and the query. Raises UsageError as ``run`` does, also if no model is set.
    """
    job = rooted(with_base_url(job, os.environ), store)
    try:
        find_endpoint(job, os.environ)
    except NotReadyError:
        if job.model is None:
            raise
    return job


def media_fields(settings: Mapping[str, Json]) -> Mapping[str, MediaField]:
    """Return the fields of a row that name files. With ``row_settings = false``, only those that the settings name."""
    plain, named = settings.get("row_settings") is False, dict[str, MediaField]()
    if settings.get("images") is None and settings.get("files") is None:
        return {} if plain else MEDIA_FIELDS
    for name, kind in MEDIA_FIELDS.items():
        columns = settings.get(name)
        given = [columns] if isinstance(columns, str) else columns or ([] if plain else [name])
        named.update(dict.fromkeys(given, kind))
    return named


def media_of(job: Job) -> Mapping[str, MediaField]:
    """Return the fields of a row that name files, as ``media_fields`` does for settings."""
    return media_fields({"images": job.images, "files": job.files, "row_settings": job.row_settings})


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


def asked_in(settings: Mapping[str, Json]) -> Callable[[dict[str, Json]], Json]:
    """Return what tells of the stored fields of a row what it asked, for the settings of its run (``prompts.asked``).

    With ``keep_rows = false`` nothing is told: of the fields that the template names, some may not have been stored.
    """
    texts, kept = texts_in(settings), settings.get("keep_rows") is not False
    return lambda fields: asked(fields, texts) if kept or texts is None else None


def template_of(job: Job) -> Template:
    """Return what a job adds to every row."""
    return Template(
        model=job.model or "",
        system=job.system,
        params=job.params,
        tier=job.tier,
        shape=shaped.shape_of(job),
        texts=texts_of(job),
        keep_rows=job.keep_rows,
        columns=columns_in({"columns": job.columns}),
    )


def _is_installed(name: str) -> bool:
    return plugins.registered("inputs", part.module_name(name)) is not None


def open_input(
    path: Path, options: ReadOptions | None = None, store: Path | None = None, *, most_bytes: int | None = None
) -> PromptFile:
    """Return an input with its reader. store: the one that has the run whose answers are the input.

    most_bytes: of a single file, read only the rows that end within so many bytes. Raises UsageError for what cannot be read, or
    is in none of the known formats.
    """
    options = options or ReadOptions()
    if origin.run_of(path) is not None:
        return _answers(path, store or Path(DEFAULT_STORE), options)
    if origin.is_several(path):
        return _several(path, options)
    one = part.opened(path, options, most_bytes)
    # a sample of a file that has grown is another one
    behind = getattr(one.module, "read_behind", None) if options.sample is None else None
    seen = partial(_seen, options, _condition(options.where))
    prompts = PromptFile(
        path,
        one.size,
        read=_sampled(options, lambda: seen(one.read(), rest=most_bytes is not None)),
        read_behind=behind and partial(_seen_behind, behind, seen, path, one.size),
        reading=_reading([one.name], one.options),
        places=Places(kinds=(one.place,)),
        about=one.about,
        row_is_line=one.name in _OF_LINES,
    )
    if not one.is_table:
        shape.refuse(path, one.read, options)
    missing.refuse_columns(path, prompts.read, options, is_table=one.is_table)
    missing.refuse_media(path, prompts.read, options.media)
    return prompts


def _several(path: Path, options: ReadOptions) -> PromptFile:
    """Return several files as one input. Their rows are read file by file, so that one file is open at a time."""
    found, about = part.opened_all(path, options)
    files = origin.files_of([one.path for one in found])
    for one in found:
        read = partial(lambda each: _seen(options, None, each.read()), one)
        if not one.is_table:
            shape.refuse(one.path, one.read, options)
        missing.refuse_columns(one.path, read, options, is_table=one.is_table)
    seen = partial(_seen, options, _condition(options.where))
    prompts = PromptFile(
        path,
        sum(one.size for one in found),
        read=_sampled(options, lambda: seen(part.chained(found, files.names))),
        reading=_reading([one.name for one in found], options),
        places=Places(files.names, tuple(one.place for one in found)),
        about=tuple(about),
        row_is_line=all(one.name in _OF_LINES for one in found),
        parts=tuple((one.path, one.size) for one in found),
        files=files,
    )
    missing.refuse_media(path, prompts.read, options.media)
    return prompts


def _answers(path: Path, store: Path, options: ReadOptions) -> PromptFile:
    """Return the answered rows of a run as an input."""
    found = answers.opened(path, store)
    seen = partial(_seen, options, _condition(options.where))
    prompts = PromptFile(
        path,
        len(found.rows),
        read=_sampled(options, lambda: seen(found.read())),
        reading=_reading(["run"], options),
        places=Places(found.places, ("line",)),
        about=found.about,
        row_is_line=False,
        files=found.files,
        measured=found.measured,
    )
    missing.refuse_columns(path, prompts.read, options, is_table=True)
    missing.refuse_media(path, prompts.read, options.media)
    return prompts


def _reading(names: Sequence[str], options: ReadOptions) -> str:
    """Return a word for the way in which rows are read: where it is the same, the same bytes are the same rows.

    names: the format of each file.
    """
    kinds = set(names)
    if len(kinds) > 1:
        word = f"{scan.READING}-mixed-{blake2b(' '.join(names).encode(), digest_size=6).hexdigest()}"
    else:
        word = scan.READING if kinds == {"jsonl"} else f"{scan.READING}-{names[0]}"
    given = {key: value for key, value in options.given().items() if key not in ("format", "row_settings", "asked", "media")}
    if given:
        word += "-" + blake2b(msgspec.json.encode(given, order="sorted"), digest_size=6).hexdigest()
    return word if options.row_settings else f"{word}-data"


def _sampled(options: ReadOptions, read: Callable[[], Rows]) -> Callable[[], Rows]:
    return read if options.sample is None else Sample(read, options.sample, options.sample_seed).rows


def choosing(job: Job) -> Callable[[Rows], Rows]:
    """Return what chooses the rows for which the condition of a job holds, of any part of its input."""
    options = options_of(job)
    return partial(_seen, options, _condition(options.where), rest=True)


def _condition(where: str | None) -> Condition | None:
    if where is None:
        return None
    # imported here, as for templates
    from runner.inputs import template

    return template.Condition(where)


def _seen(options: ReadOptions, condition: Condition | None, rows: Rows, *, rest: bool = False) -> Rows:
    """Return rows as the job sees them. rest: they are not all rows of the input."""
    if (options.id_column, options.row_settings, options.asked, options.media) != ("id", True, None, MEDIA_FIELDS):
        rows = (_changed(row, options) for row in rows)
    return narrowed(rows, condition, rest=rest) if condition is not None else rows


def _seen_behind(
    behind: Callable[..., Rows | None], seen: Callable[..., Rows], path: Path, size: int, at: int, lines: int
) -> Rows | None:
    """Return the rows behind so many bytes and lines, as the job sees them; None if a reader cannot begin there."""
    rows = behind(path, limit_bytes=size, offset=at, lines=lines)
    return seen(rows, rest=True) if rows is not None else None


def _changed(row: Row, options: ReadOptions) -> Row:
    # with a template, a row whose settings are data has its files as data too, unless the job names them (``rooted``)
    media = {} if row.plain and options.asked is not None and options.media is MEDIA_FIELDS else options.media
    row = structs.replace(row, plain=row.plain or not options.row_settings, asked=options.asked, media=media)
    if options.id_column == "id" or row.fields is None:
        return row
    own = row.fields.get(options.id_column)
    if row.fault is None and own in (None, ""):
        return structs.replace(row, fault=f"no {options.id_column}, which is to be the id (--id-column)")
    # a field that is called id, but is not to be the id, keeps its value under another name
    other = {"id_2": row.fields["id"]} if "id" in row.fields else {}
    return structs.replace(row, fields={**row.fields, **other, "id": own})
