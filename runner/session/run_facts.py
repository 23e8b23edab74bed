"""What a report tells of a run beside its figures, without the secrets and the folders of this machine."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from runner import origin
from runner.exports.report import ledgers
from runner.exports.report.blocks import Facts, Failure, Tone
from runner.figures import Course
from runner.inputs import spool
from runner.model import Json, Run
from runner.session import faster, manifest, mending, spelling
from runner.session.naming import in_full
from runner.store.causes import Cause
from runner.store.places import place_of
from runner.store.sessions import Session
from runner.store.totals import Totals
from runner.text import redact

_TONES: Mapping[str, Tone] = {"running": "one", "finished": "done", "limited": "refused", "interrupted": "refused"}
_FOLDERS = re.compile(r"(?<![\w:/.])/(?:[^\s/'\"`]+/)+|\b[A-Za-z]:\\(?:[^\s\\'\"`]+\\)+")
"""The folders of an absolute path, in a sentence."""
_ADVICES = 2
"""Ways to mend one error code that are told."""


def facts_of(
    run: Run, totals: Totals, failed: Sequence[Cause], sessions: Iterable[Session], course: Course | None, db: Path
) -> Facts:
    """Return what a report tells of a run beside its figures. course: what happened over its time. db: the store."""
    every = max((run.rows or 0) * run.answers, run.done + run.failed)
    return Facts(
        number=run.id,
        input=_input(run),
        model=str(run.settings.get("model") or "no model"),
        where=_host(run.settings),
        state=_state(run),
        stopped=_stopped(run, db),
        begun=run.created_at,
        answers=run.answers,
        rows=run.rows,
        done=run.done,
        failed=run.failed,
        left=every - run.done - run.failed,
        reused=run.reused,
        shared=totals.shared,
        attempts=totals.attempts,
        retries=totals.retries,
        input_tokens=totals.input_tokens,
        output_tokens=totals.output_tokens,
        cached_tokens=totals.cached_tokens,
        reasoning_tokens=totals.reasoning_tokens,
        cost=totals.cost,
        cost_failed=totals.cost_failed_attempts,
        cost_perhaps=totals.cost_perhaps,
        unpriced=totals.unpriced_attempts,
        saved_by_cache=totals.cost_saved_by_cache,
        finish_reasons=totals.finish_reasons,
        failures=_failures(failed, run, db),
        time=totals.time,
        faster=faster.advice(totals.time) if totals.time is not None else None,
        limit=ledgers.limit_over(course, ((one.began_at, one.timeline) for one in sessions)),
        settings=manifest.without_secrets(run.settings),
        versions=_versions(),
    )


def _failures(failed: Sequence[Cause], run: Run, db: Path) -> list[Failure]:
    """Return the failed rows by error code, most frequent first, with what to do and each kind of message."""

    def advised(cause: Cause) -> str:
        return in_full(mending.advised(cause, asked=asked), run.id, db.name, asked=asked)

    asked = spool.is_asked(run.input)
    by_code: dict[str, list[Cause]] = {}
    for cause in failed:
        by_code.setdefault(mending.name_of(cause), []).append(cause)
    found = [
        Failure(
            code=code,
            count=sum(cause.count for cause in causes),
            advice=" ".join([*dict.fromkeys(map(advised, causes))][:_ADVICES]),
            messages=[(redact(cause.example), cause.count, cause.example_id) for cause in causes],
        )
        for code, causes in by_code.items()
    ]
    return sorted(found, key=lambda one: (-one.count, one.code))


def _input(run: Run) -> str:
    """Return the name of the input without the folders of this machine."""
    if origin.run_of(run.input) is not None:
        return origin.shown(run.input)
    files = origin.files_in(run.settings)
    if files is not None:
        names = ", ".join(files.names[:3])
        return f"{names} and {len(files.names) - 3:,} more files" if len(files.names) > 3 else names
    path = Path(run.input)
    return spool.display_name(path) if spool.is_copy(path) or spool.is_asked(run.input) else path.name


def _host(settings: Mapping[str, Json]) -> str:
    address = place_of(settings)
    if settings.get("endpoints") or isinstance(settings.get("base_url"), list):
        return "several endpoints"
    return urlsplit(address).netloc.rpartition("@")[2] if address else "the simulator"


def _state(run: Run) -> tuple[str, Tone]:
    state = spelling.state(run)
    return state, _TONES[state]


def _stopped(run: Run, db: Path) -> str | None:
    """Return why a run stopped; None while it runs, and where nobody has stored a reason.

    Its commands name the store without its folder, as they name files: the report goes to others.
    """
    reason = spelling.told(run, db.name).stop_reason
    return None if run.active or not reason else _FOLDERS.sub("", redact(reason)).removeprefix("stopped ")


def _versions() -> list[tuple[str, str]]:
    found = manifest.versions()
    packages = found.pop("packages")
    assert isinstance(packages, dict)
    return [(name, str(version)) for name, version in {**found, **packages}.items()]
