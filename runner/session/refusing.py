"""Refuses what ``resume`` and ``retry`` may not change about their run, and says how to have it in another one."""

from collections.abc import Mapping
from pathlib import Path

from runner.config.job import Job
from runner.config.settings import BY_NAME
from runner.errors import UsageError
from runner.model import Json, Run
from runner.session import again
from runner.session.naming import command
from runner.store import runs
from runner.store.runs import KnownRun
from runner.text import as_text, plural, shell_word


def other_provider(job: Job, store: Path, run: KnownRun, different: Mapping[str, tuple[Json, Json]]) -> None:
    """Raise UsageError for another provider. different: settings by name, each as the run has it and as it was given."""
    if "provider" in different:
        then = run.settings.get("provider")
        raise UsageError(
            f"run {run.id} keeps its provider, {then}; to use {job.provider}, start a new run: `{again.anew(job, store)}`"
        )


def other_template(job: Job, store: Path, run: KnownRun, different: Mapping[str, tuple[Json, Json]]) -> None:
    """Raise UsageError for a retry with another template or schema: it would change what rows are, and what an export shows."""
    has_template = run.settings.get("prompt") is not None or run.settings.get("messages") is not None
    names = [name for name in ("prompt", "messages", "system") if name in different and (has_template or name != "system")]
    if names:
        raise UsageError(f"run {run.id} keeps its template; to ask in other words, start a new run: `{again.anew(job, store)}`")
    if "schema" in different:
        raise UsageError(f"run {run.id} keeps its schema; for other fields, start a new run: `{again.anew(job, store)}`")


def answered(job: Job, store: Path, run: KnownRun, different: Mapping[str, tuple[Json, Json]]) -> None:
    """Raise UsageError for a resume with other answer settings, if the run has answers already."""
    if not runs.has_answers(store, run.id):
        return
    other_template(job, store, run, different)
    given = " ".join(f"{BY_NAME[name].option} {shell_word(plain(now))}" for name, (_, now) in different.items())
    retry, new = command("retry", run.id, store, given), again.anew(job, store)
    raise UsageError(
        f"run {run.id} has answers, and {', '.join(different)} would change the others: `{retry}` uses it for the failed rows "
        f"alone, and `{new}` starts a new run"
    )


def other_retry(job: Job, db: str | Path, run: Run, pending: int) -> None:
    """Raise UsageError for a resume of a retry with other answer settings. run: with those of the retry. pending: rows left."""
    different = runs.differences(run.settings, job.answer_settings())
    if not different:
        return
    then = ", ".join(f"{name} {plain(before)}" for name, (before, _) in different.items())
    raise UsageError(
        f"run {run.id} has {plural(pending, 'row')} of a retry left, which has begun with {then}: "
        f"`{command('resume', run.id, db)}` asks them so; a new `runner retry` may have other settings"
    )


def plain(value: Json) -> str:
    """Return the value of a setting as it is shown."""
    return "unset" if value is None else as_text(value)
