"""What a job and its input are, without sending anything: ``runner check`` and ``runner config``."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, Unpack

import msgspec
from msgspec import Struct

from runner.config.endpoint import find_endpoint, key_source, with_base_url
from runner.config.job import Job
from runner.config.keywords import AllSettings
from runner.config.settings import SETTINGS
from runner.config.trust import allowed
from runner.errors import AttachmentError, NotReadyError, UsageError
from runner.inputs import same_requests, scan, spool
from runner.inputs.attachments import media_in
from runner.inputs.places import Places
from runner.inputs.prompts import Template, make_item
from runner.inputs.scan import PromptFile
from runner.model import Item
from runner.origin import where
from runner.session import arguments, batch_fit, budgeting, prefixes, prepare, shaped, unfit, wiring
from runner.session.naming import DEFAULT_STORE
from runner.session.opening import open_input, options_of, rooted, template_of
from runner.session.options import SessionOptions
from runner.session.oversized import Oversized, oversized
from runner.session.sources import Source, job_of, job_without_rows, names_files
from runner.session.wiring import per_minute
from runner.text import clean, plural

_MOST = 1_000
"""Rows whose reason is kept."""
_SHOWN = 2_000
"""Characters of a request that are kept."""


class Example(NamedTuple):
    """A request: which of all it is, its line, the number of its characters, and its beginning."""

    which: str
    line: int
    chars: int
    text: str


class Check(Struct, frozen=True, kw_only=True):
    """What ``check`` found in an input, without sending anything."""

    job: Job
    # where the API key comes from; None: no key is sent
    key_source: str | None
    # why `runner run` would refuse to start; None if it would start
    refusal: str | None
    # what `runner run` still needs, a model or a key; None if nothing
    missing: str | None
    rows: int
    # (line, reason) of the first 1,000 broken rows
    broken: list[tuple[int, str]]
    # number of all broken rows
    broken_rows: int
    # the first 100 duplicate ids, each with the first 100 lines that have it
    duplicates: dict[str, list[int]]
    # number of all duplicate ids
    duplicate_ids: int
    # rows without an id that repeat an earlier row
    identical: int
    # settings that rows have beside their prompt: model, temperature, ...
    row_settings: tuple[str, ...]
    # rows in which NaN or an infinity was read as null
    nulls: int
    # what a person should know of the input, one sentence each
    remarks: list[str]
    # rows that are larger than a limit per minute
    oversized: list[Oversized]
    # how a person finds a row by its line
    places: Places
    # files that the rows name, and their bytes, without those at a URL
    files: int
    file_bytes: int
    # (line, reason) of the first 1,000 rows one of whose files cannot be sent
    unsendable: list[tuple[int, str]]
    # number of all such rows
    unsendable_rows: int
    # the first request, the longest and the shortest; of rows that can be sent
    examples: list[Example]

    def __repr__(self) -> str:
        odd = {"broken row": self.broken_rows, "duplicate id": self.duplicate_ids, "unsendable row": self.unsendable_rows}
        found = [plural(self.rows, "row"), *(plural(number, noun) for noun, number in odd.items() if number)]
        end = self.refusal or self.missing
        return f"<Check of {clean(spool.display_name(self.job.input))}: {', '.join(found)}{f'; {clean(end)}' if end else ''}>"


class Description(Struct, frozen=True, kw_only=True):
    """A job's settings with their sources, and where its API key comes from."""

    job: Job
    key_source: str | None

    def shown(self) -> list[tuple[str, str, str]]:
        """Return every setting as (key, value as JSON, source)."""
        values, sources = self.job.settings(), self.job.sources
        return [(one.key, msgspec.json.encode(values[one.name]).decode(), sources[one.name]) for one in SETTINGS]


def describe(job: Job, *, trust: bool = False) -> Description:
    """Return a job's settings and their sources. No API key is needed. trust: as for ``check``."""
    job = with_base_url(allowed(job, trust), os.environ)
    return Description(job=job, key_source=key_source(job, os.environ))


def check(source: Source, *, trust: bool = False, db: str | Path = DEFAULT_STORE, **settings: Unpack[AllSettings]) -> Check:
    """Read a whole input and send nothing. source: as for ``run``. trust: allow code that only the job file names.

    db: the store that has the run whose answers are the input (``run:12``).
    """
    arguments.check(trust=trust, db=db)
    if names_files(source):
        return check_job(job_without_rows(source, settings, trust=trust), db)
    with TemporaryDirectory(prefix="runner-") as folder, job_of(source, settings, Path(folder, "runner.db"), trust=trust) as job:
        return check_job(job, db)


def check_job(job: Job, db: str | Path) -> Check:
    """Read the input of a job, and send nothing. db: as for ``check``."""
    store = Path(db).resolve()
    job = rooted(with_base_url(job, os.environ), store)
    refusal, missing = _lacks(job)
    with spool.readable(job.input) as path:
        prompts = open_input(path, options_of(job), store)
        scanned = scan.scan(prompts)
        broken = prepare.broken_rows(prompts, template_of(job))
        refusal = refusal or _refusal(job, prompts, scanned)
        large = oversized(prompts, per_minute(job), job.params.max_tokens)
        examples = _examples(prompts, template_of(job))
        found = _files(prompts, job, refused=refusal is not None)
    return Check(
        job=job,
        key_source=key_source(job, os.environ),
        refusal=refusal,
        missing=missing,
        rows=scanned.rows,
        broken=broken.first,
        broken_rows=broken.number,
        duplicates=scanned.duplicates,
        duplicate_ids=scanned.duplicate_ids,
        identical=scanned.identical,
        row_settings=scanned.row_settings,
        nulls=scanned.nulls,
        remarks=_remarks(job, prompts, scanned),
        oversized=large,
        places=prompts.places,
        examples=examples,
        files=found.number,
        file_bytes=found.size,
        unsendable=found.first,
        unsendable_rows=found.rows,
    )


def _lacks(job: Job) -> tuple[str | None, str | None]:
    """Return why `runner run` would refuse to start, and what it still needs; None for each that is not so."""
    try:
        batch_fit.refuse(job, SessionOptions())
        find_endpoint(job, os.environ)
    except NotReadyError as error:
        return None, str(error)
    except UsageError as error:
        return str(error), None
    return None, None


class _Files(Struct):
    """The files of an input: their number and bytes, and the rows one of whose files cannot be sent."""

    number: int = 0
    size: int = 0
    rows: int = 0
    first: list[tuple[int, str]] = []


def _files(prompts: PromptFile, job: Job, *, refused: bool) -> _Files:
    """Look at the beginnings of all files that rows name. refused: the job's provider is not known."""
    found = _Files()
    if refused:
        return found
    template, files = template_of(job), wiring.attachments(job)
    for row in prompts.read():
        made = make_item(row, "", template)
        if not isinstance(made, Item) or not made.request.media:
            continue
        found.number += sum(1 for _ in media_in(made.request.messages))
        try:
            # what is sent is a third longer
            found.size += files.outlined(made.request).size * 3 // 4
        except AttachmentError as error:
            found.rows += 1
            if len(found.first) < _MOST:
                found.first.append((row.line, f"{where(row.place, row.line)}: {error}"))
    return found


def _refusal(job: Job, prompts: PromptFile, scanned: scan.Scan) -> str | None:
    """Return why ``run`` would refuse these rows; None if it would not."""
    try:
        scan.refuse_empty(scanned.rows, spool.display_name(job.input), job.where, prompts.about)
        unfit.refuse(job, prompts, scanned)
        if job.model is not None:
            budgeting.refuse(job, prompts)
    except UsageError as error:
        return str(error)
    return None


def _remarks(job: Job, prompts: PromptFile, scanned: scan.Scan) -> list[str]:
    same = [unfit.SAME_PROMPT] if unfit.asks_the_same(job, prompts, scanned) else []
    found = same_requests.find(prompts, template_of(job), limit=None, answers=1) if job.dedupe else None
    once = [prepare.sent_once(found.rows, scanned.rows)] if found is not None else []
    cached = [prefixes.late_field(template_of(job)), prefixes.unmarked(job, prompts)]
    more = [*unfit.alike_answers(job), *shaped.notes(job), *(one for one in cached if one is not None)]
    return [*same, *once, *more, *prompts.about, *scan.remarks(scanned)]


def _examples(prompts: PromptFile, template: Template) -> list[Example]:
    """Return the first request, the longest and the shortest, as far as they are different rows."""
    found: dict[str, Example] = {}
    for row in prompts.read():
        made = make_item(row, "", template)
        if not isinstance(made, Item):
            continue
        words = [message["content"] for message in made.request.messages]
        text = words[0] if len(words) == 1 and isinstance(words[0], str) else msgspec.json.encode(made.request.messages).decode()
        chars = len(text)
        for which, wanted in (
            ("first", not found),
            ("longest", not found or chars > found["longest"].chars),
            ("shortest", not found or chars < found["shortest"].chars),
        ):
            if wanted:
                found[which] = Example(which, row.line, chars, text[:_SHOWN])
    # a row that is two of them is shown once, as the first of these
    shown: list[Example] = []
    for one in found.values():
        if all(one.line != other.line for other in shown):
            shown.append(one)
    return shown
