"""How many answers of each row a session wants: as many as the job says, else as many as its run has.

More of them are more answers in the same run, and the missing ones alone are bought. Fewer leave what there is.
"""

from typing import Any

import msgspec
from msgspec import structs

from runner.config.job import Job
from runner.errors import UsageError
from runner.several import answers_in
from runner.store.changes import Changes, noted
from runner.store.runs import KnownRun

_MOST = 10_000
"""Answers of one row: their keys are looked up at once."""


def settled(job: Job, run: KnownRun | None) -> Job:
    """Return a job that wants as many answers as its run has, if it does not say how many. Raises UsageError for too many."""
    if job.answers is not None and job.answers > _MOST:
        raise UsageError(f"answers is {job.answers:,}, and a row can have at most {_MOST:,}")
    if job.answers is not None or run is None or answers_in(run.settings) == 1:
        return job
    return structs.replace(job, answers=answers_in(run.settings))


def refuse_asking(job: Job) -> None:
    """Raise UsageError if the asks of a program would have several answers: each ask returns one."""
    if job.dedupe:
        raise UsageError("dedupe is for the rows of an input; in a Session the same prompt without an id is sent once anyway")
    if job.answers not in (None, 1):
        raise UsageError(f"answers is {job.answers:,}, and an ask has one answer; ask under another id for another one")


def is_raised(job: Job, run: KnownRun | None) -> bool:
    """Return True if a session wants more answers of each row than its run has."""
    return run is not None and (job.answers or 1) > answers_in(run.settings)


def told(job: Job, run: KnownRun | None) -> list[str]:
    """Say what becomes of a run that has another number of answers of each row."""
    if run is None or job.answers in (None, answers_in(run.settings)):
        return []
    then, now = answers_in(run.settings), job.answers or 1
    if now > then:
        return [f"run {run.id} continues with {now:,} answers of each row (before: {then:,})"]
    return [f"run {run.id} has up to {then:,} answers of a row; those beyond {now:,} are kept, and an export has them"]


def lowered(job: Job, run: KnownRun) -> Changes:
    """Return what ``run`` changes about a finished run of which fewer answers are wanted now."""
    settings, _ = changes(job, run)
    if not settings or is_raised(job, run):
        return Changes()
    now = {**run.settings, **settings}
    return Changes(columns={"settings": msgspec.json.encode(now).decode()}, noted=noted(run.settings, settings))


def changes(job: Job, run: KnownRun) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what ``resume`` or ``retry`` changes about its run: settings, and columns of its entry."""
    if (job.answers or 1) == answers_in(run.settings):
        return {}, {}
    # with more answers, the beginning of the input in which all was settled is not settled any more
    return {"answers": job.answers}, {"settled_head": None} if is_raised(job, run) else {}
