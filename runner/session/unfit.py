"""Refuses rows that a job does not fit: templates and columns name fields that no row has, or files may not be sent.

``run`` and ``check`` refuse the same in the same words.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from runner.config import trust
from runner.config.endpoint import files_grant
from runner.config.job import Job
from runner.errors import UsageError
from runner.inputs import spool
from runner.inputs.choosing import listed
from runner.inputs.duplicates import RepeatedHashes
from runner.inputs.keys import NEVER_ABSENT, named_in, row_settings
from runner.inputs.prompts import make_item
from runner.inputs.scan import PromptFile, Scan
from runner.model import Outcome, Row
from runner.session.opening import template_of, texts_of

SAME_PROMPT = "the template names no field of a row, so each row asks the same"


def refuse(job: Job, prompts: PromptFile, scanned: Scan) -> None:
    """Raise UsageError if files may not be sent, or ``columns`` or the template names fields that no row has.

    Also if the template has ``{name}`` where a field is meant.
    """
    refusal = trust.refusal(job, files_grant(job, os.environ), os.environ) if scanned.media else None
    if refusal is not None:
        raise UsageError(refusal)
    template = template_of(job)
    unknown = set(template.columns or ()) - {"id"}
    same = asks_the_same(job, prompts, scanned)
    first = _first(prompts) if unknown or scanned.absent or same else None
    if first is None or first.fields is None:
        return
    unknown = _lacking(unknown, first, prompts)
    if unknown:
        _refuse_fields("--columns names", sorted(unknown), first.fields, job.input)
    if scanned.absent and isinstance(make_item(first, "", template), Outcome):
        refuse_absent(scanned.absent, first.fields, job.input)
    if same:
        refuse_braces(job.prompt or str(job.messages), first.fields)


def refuse_unscanned(job: Job, prompts: PromptFile) -> None:
    """Refuse what ``refuse`` does, where the input was not scanned: it is read to its end only if the first row lacks a name."""
    texts, absent = texts_of(job), set[str]()
    # to open a sheet once more takes seconds
    first = _first(prompts) if texts is not None or job.columns else None
    if first is None or first.fields is None:
        return
    if texts is not None and isinstance(make_item(first, "", template_of(job)), Outcome):
        absent = _lacking(set(texts.names - NEVER_ABSENT), first, prompts)
    media = tuple(named_in(first.fields, first.media))
    refuse(job, prompts, Scan(rows=1, repeated=RepeatedHashes(), media=media, absent=tuple(sorted(absent))))


def refuse_braces(words: str, fields: Iterable[str]) -> None:
    """Raise UsageError if a template that names no field has ``{name}`` where a field is meant."""
    meant = next((name for name in fields if f"{{{name}}}" in words), None)
    if meant is not None:
        raise UsageError(f"the template names no field: {{{{ {meant} }}}} stands for the field, {{{meant}}} for itself")


def asks_the_same(job: Job, prompts: PromptFile, scanned: Scan) -> bool:
    """Return True if there is a template that names no field, and rows have no files or system text of their own beside it."""
    texts = texts_of(job)
    if texts is None or texts.names or scanned.media or "system" in scanned.row_settings:
        return False
    # where an earlier session has scanned the same bytes, the scan does not tell
    first = _first(prompts)
    if first is None or first.fields is None:
        return True
    return not named_in(first.fields, first.media) and "system" not in row_settings(first)


def alike_answers(job: Job) -> list[str]:
    """Say so if several answers of a row are likely to be the same text."""
    answers, params = job.answers or 1, job.params
    temperature = (params.extra_body or {}).get("temperature", params.temperature)
    if answers == 1 or temperature is False or temperature != 0:
        return []
    return [f"temperature is 0, where a seed changes nothing: the {answers:,} answers of a row are likely to be equal"]


def _first(prompts: PromptFile) -> Row | None:
    return next((row for row in prompts.read() if row.fault is None), None)


def _lacking(names: set[str], first: Row, prompts: PromptFile) -> set[str]:
    """Return the names that no row has as a field. Most often the first row has them all."""
    lacking = names - (first.fields or {}).keys()
    for row in prompts.read() if lacking else ():
        lacking.difference_update(row.fields or ())
        if not lacking:
            break
    return lacking


def refuse_absent(names: Sequence[str], fields: Iterable[str], path: Path) -> None:
    """Raise UsageError for fields that a template names and no row has. fields: those that there are."""
    _refuse_fields("the template names", names, fields, path)


def _refuse_fields(who: str, names: Sequence[str], fields: Iterable[str], path: Path) -> None:
    what = "the field" if len(names) == 1 else "the fields"
    shown, name = ", ".join(map(repr, names)), spool.display_name(path)
    raise UsageError(f"{who} {what} {shown}, which no row of {name} has; its fields: {listed(fields)}")
