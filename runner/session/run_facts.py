"""What a report tells of a run beside its figures, without the secrets and the folders of this machine."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from runner import origin
from runner.exports.report.blocks import Facts, Failure, Opened, Tone
from runner.exports.report.noted import Noted, flight_over
from runner.figures import Course
from runner.inputs import spool
from runner.model import Json, Run
from runner.session import faster, manifest, mending, perhaps, spelling
from runner.session.ways import name_of
from runner.store.causes import Cause
from runner.store.places import place_of
from runner.store.sessions import Session
from runner.store.totals import Totals
from runner.text import plural, redact
from runner.time_ledger import TimeLedger

_TONES: Mapping[str, Tone] = {
    "running": "one",
    "finished": "done",
    "limited": "refused",
    "waiting": "refused",
    "interrupted": "refused",
}
_ADVICES = 2
"""Ways to mend one error code that are told."""


def facts_of(
    run: Run, totals: Totals, failed: mending.Found | None, sessions: Iterable[Session], course: Course | None, db: Path
) -> Facts:
    """Return what a report tells of a run beside its figures.

    failed: None: no row has failed. course: what happened over its time. db: the store.
    """
    every = max((run.rows or 0) * run.answers, run.done + run.failed)
    return Facts(
        number=run.id,
        name=run.name,
        tags=run.tags,
        input=_input(run),
        model=str(run.settings.get("model") or "no model"),
        where=_host(run.settings),
        state=_state(run),
        active=run.active,
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
        **_money(run, totals),
        finish_reasons=totals.finish_reasons,
        failures=_failures(failed, db.name) if failed is not None else [],
        **_time(totals.time),
        flight=flight_over(course, (Noted(one.began_at, one.timeline, one.ended_at is not None) for one in sessions)),
        settings=manifest.without_secrets(run.settings),
        versions=_versions(),
    )


def _time(ledger: TimeLedger | None) -> dict[str, Any]:
    """Return where the time of a run went, and what is said of it."""
    told = {"brief": faster.too_brief(ledger), "faster": faster.advice(ledger)} if ledger is not None else {}
    return {"time": ledger, "brief": None, "faster": None, **told}


def _money(run: Run, totals: Totals) -> dict[str, Any]:
    """Return what is known of the money of a run, and what of it is not known."""
    return {
        "cost": totals.cost,
        "cost_failed": totals.cost_failed_attempts,
        "cost_perhaps": totals.cost_perhaps,
        "more": perhaps.more(totals, active=run.active) or perhaps.unpriced(totals),
        "opened": _opened(run, totals),
        "unpriced": totals.unpriced_attempts,
        "saved_by_cache": totals.cost_saved_by_cache,
    }


def _opened(run: Run, of: Totals) -> Opened | None:
    """Return the requests that have not ended as far as the store knows: those of now, and those that killed sessions left."""
    killed, single = of.killed_requests, of.open_requests - of.killed_requests
    # without a budget, nothing is held for those of now
    noted = sum(lane.in_flight for lane in run.pace.lanes) if run.pace is not None else 0
    now, left = (max(single, noted), killed) if run.active else (0, of.open_requests)
    if not now and not left:
        return None
    then = f"{'up to ' if killed else ''}{plural(left, 'request')} {'was' if left == 1 else 'were'} open when the process ended"
    kind = "open now, or when a process ended" if now and left else "open when the process ended" if left else "open now"
    parts = [*([f"{plural(now, 'request')} {'is' if now == 1 else 'are'} open"] if now else []), *([then] if left else [])]
    return Opened(
        requests=now + left,
        kind=f"{kind} (at most)" if killed else kind,
        sentence="; ".join(parts),
        perhaps=of.cost_open_requests,
        limited=of.cost is None or of.cost_open_requests is not None,
    )


def _failures(found: mending.Found, db: str) -> list[Failure]:
    """Return the failed rows by error code, most frequent first, with what to do and each kind of message."""

    def command(cause: Cause) -> str:
        words = mending.command(cause, found, db)
        return f"To send them again: `{words}`." if words is not None else ""

    by_code: dict[str, list[Cause]] = {}
    for cause in found.failed:
        by_code.setdefault(name_of(cause), []).append(cause)
    failures = [
        Failure(
            code=code,
            count=sum(cause.count for cause in causes),
            advice=" ".join(
                [
                    *[*dict.fromkeys(mending.to_do(cause, found, db) for cause in causes)][:_ADVICES],
                    *[*dict.fromkeys(map(command, causes))][:_ADVICES],
                ]
            ).rstrip(),
            messages=[(redact(cause.example), cause.count, cause.example_id) for cause in causes],
        )
        for code, causes in by_code.items()
    ]
    return sorted(failures, key=lambda one: (-one.count, one.code))


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
    return None if run.active or not reason else _without_folders(redact(reason), run, db).removeprefix("stopped ")


def _without_folders(sentence: str, run: Run, db: Path) -> str:
    """Take the folders of this machine off a sentence: those of the user, of the store and of the files that the run names.

    By the look of it, the path of a URL could be one as well.
    """
    files = [str(db.resolve()), run.input, *(value for value in run.settings.values() if isinstance(value, str))]
    known = [str(Path(one).parent) for one in files if os.path.isabs(one)]  # noqa: PTH117 - raises nothing
    folders = {*known, os.path.expanduser("~")}  # noqa: PTH111 - raises nothing
    for folder in sorted(folders, key=len, reverse=True):
        if Path(folder).name:
            sentence = sentence.replace(f"{folder}{os.sep}", "")
    return sentence


def _versions() -> list[tuple[str, str]]:
    found = manifest.versions()
    packages = found.pop("packages")
    assert isinstance(packages, dict)
    return [(name, str(version)) for name, version in {**found, **packages}.items()]
