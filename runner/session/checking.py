"""What a job and its input are, without sending anything: ``runner check`` and ``runner config``."""

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from runner.config.endpoint import find_endpoint, key_source, with_base_url
from runner.config.job import Job, load_job, shown_settings
from runner.config.trust import allowed
from runner.errors import NotReadyError, UsageError
from runner.inputs import scan, spool
from runner.inputs.prompts import Template, make_item
from runner.inputs.scan import PromptFile
from runner.model import Item
from runner.session import arguments, prepare
from runner.session.opening import open_input, options_of
from runner.session.oversized import Oversized, oversized
from runner.session.wiring import per_minute

_SHOWN = 2_000
"""Characters of a rendered request that are kept."""


class Example(NamedTuple):
    """A rendered request: which of all it is, its line, the number of its characters, and its beginning."""

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
    # the two above in sentences
    remarks: list[str]
    # rows that are larger than a limit per minute
    oversized: list[Oversized]
    # what the lines of the rows count
    place: str
    # the first request that a template makes, the longest and the shortest; none without a template
    examples: list[Example]


class Description(Struct, frozen=True, kw_only=True):
    """A job's settings with their sources, and where its API key comes from."""

    job: Job
    key_source: str | None

    def shown(self) -> list[tuple[str, str, str]]:
        """Return every setting as (key, value as JSON, source)."""
        return shown_settings(self.job)


def describe(job: Job, *, trust: bool = False) -> Description:
    """Return a job's settings and their sources. No API key is needed. trust: as for ``check``."""
    job = with_base_url(allowed(job, trust), os.environ)
    return Description(job=job, key_source=key_source(job, os.environ))


def check(file: str | Path, *, trust: bool = False, **settings: Any) -> Check:
    """Read a whole input and send nothing. trust: allow that code runs which only the job file names."""
    arguments.check(file=file, trust=trust)
    job = with_base_url(allowed(load_job(file, settings), trust), os.environ)
    refusal = missing = None
    try:
        find_endpoint(job, os.environ)
    except NotReadyError as error:
        missing = str(error)
    except UsageError as error:
        refusal = str(error)
    with spool.temporary_copy(job.input) if spool.is_stream(job.input) else nullcontext(job.input) as path:
        prompts = open_input(path, options_of(job))
        scanned = scan.scan(prompts)
        broken = prepare.broken_rows(prompts, prepare.template_of(job))
        refusal = refusal or _refusal(job, prompts, scanned)
        large = oversized(prompts, per_minute(job), job.params.max_tokens)
        examples = _examples(prompts, prepare.template_of(job))
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
        remarks=[*([prepare.SAME_PROMPT] if prepare.asks_the_same(job) else []), *prompts.about, *scan.remarks(scanned)],
        oversized=large,
        place=prompts.place,
        examples=examples,
    )


def _refusal(job: Job, prompts: PromptFile, scanned: scan.Scan) -> str | None:
    """Return why ``run`` would refuse these rows; None if it would not."""
    try:
        scan.refuse_empty(scanned.rows, spool.display_name(job.input), job.where, prompts.about)
        prepare.refuse_wrong_fields(job, prompts, scanned)
    except UsageError as error:
        return str(error)
    return None


def _examples(prompts: PromptFile, template: Template) -> list[Example]:
    """Return the first request, the longest and the shortest, as far as they are different rows."""
    if template.texts is None:
        return []
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
