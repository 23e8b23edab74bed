"""What people read: summaries, the list of runs, errors and checks, as text or as JSON. Foreign text passes ``text.clean``."""

import time
from collections.abc import Sequence
from typing import Any

import msgspec

from runner.api import DEFAULT_STORE, Check, Description
from runner.errors import BAD_ROW, advice
from runner.events import INPUT_CHANGED, Quantiles, Started, Stopping, Summary
from runner.model import Run
from runner.session import prepare
from runner.session.stopping import STOPPED_BY
from runner.store.reader import ErrorGroup
from runner.text import clean, plural, shell_word

_MAX_SHOWN = 20


def headline(event: Started) -> str:
    """Return the first line of a session: the run, its input and the rows that earlier sessions finished."""
    before = f", {event.restored:,} done or failed before" if event.restored else ""
    return f"run {event.run}: {clean(event.input)}, {plural(event.rows, 'row')}{before}"


def stopping(event: Stopping) -> str:
    """Return the line that says why the session ends early, and how long it waits for open requests."""
    words = _stopped(event.reason, "stopping")
    if event.in_flight and event.grace_s:
        wait = f"waiting up to {event.grace_s:g} s for {plural(event.in_flight, 'open request')}"
        words = f"{words.rstrip('.')}; {wait}; Ctrl-C to drop {'it' if event.in_flight == 1 else 'them'}"
    return words


def _stopped(reason: str, verb: str) -> str:
    """Return a stop reason with a verb before it, unless it begins with one ("stopped by Ctrl-C")."""
    return clean(reason) if reason.startswith(STOPPED_BY) else f"{verb}: {clean(reason)}"


def summary(end: Summary, db: str) -> str:
    """Return the summary of a session, with the next command as its last line."""
    state = "finished" if end.finished else "not finished"
    counts = f"{end.done_now:,} done, {end.failed_now:,} failed, {end.skipped:,} {_earlier(end)}"
    lines = [f"run {end.run} {state}: {counts} of {plural(end.rows, 'row')} in {clock(end.elapsed_s)}"]
    if end.stop_reason == INPUT_CHANGED:
        # any other reason was printed when the stop was requested
        lines.append(f"  {INPUT_CHANGED}, so some rows were not seen; run it again when nothing writes to the file")
    if end.attempts_now:
        lines.append(f"  tokens        {count(end.input_tokens)} in, {count(end.output_tokens)} out")
        lines.append(f"  first token   {quantiles(end.time_to_first_token)}")
        lines.append(f"  whole answer  {quantiles(end.duration)}")
    if end.missing:
        one = end.missing == 1
        results = "is no longer in the file; its result is kept" if one else "are no longer in the file; their results are kept"
        lines.append(f"  {plural(end.missing, 'row')} {results}")
    if end.kept:
        its, answers = ("its", "answer is") if end.kept == 1 else ("their", "answers are")
        causes = f"`{command('status', end.run, db)}` counts the causes"
        lines.append(f"  {plural(end.kept, 'changed row')} failed when sent again; {its} old {answers} kept; {causes}")
    if end.changed:
        lines.append(f"  {prepare.changed_rows(end.changed)}")
    if end.failed:
        again = f", `{command('retry', end.run, db)}` tries again" if end.failed > end.broken else ""
        lines.append(f"  {plural(end.failed, 'row')} failed: `{command('errors', end.run, db)}` shows why{again}")
    lines.append("next: " + _next(end, db))
    return "\n".join(lines)


def _earlier(end: Summary) -> str:
    """Say what became of the rows that were not sent in this session; only some of them may have failed."""
    return "already done" if end.failed <= end.failed_now - end.kept else "already done or failed"


def _next(end: Summary, db: str) -> str:
    if end.finished:
        return command("export", end.run, db) + " -o answers.csv"
    return command("resume", end.run, db) + ("   (or the same command again)" if end.same_command else "")


def listing(runs: Sequence[Run], *, as_json: bool) -> str:
    """Return a table of all runs."""
    if as_json:
        return to_json(list(runs))
    if not runs:
        return "no runs yet; start one with `runner run FILE`"
    rows = [("run", "state", "done", "failed", "rows", "started", "model", "input")]
    rows += [
        (
            str(run.id),
            state(run),
            f"{run.done:,}",
            f"{run.failed:,}",
            count(run.rows),
            date(run.created_at),
            clean(str(run.settings.get("model")), 30),
            clean(run.input),
        )
        for run in runs
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def state(run: Run) -> str:
    """Return the state of a run in one word."""
    if run.active:
        return "running"
    return "finished" if run.finished_at is not None else "interrupted"


def errors(run: Run, groups: Sequence[ErrorGroup], *, db: str, as_json: bool) -> str:
    """Return the failed rows of a run by cause."""
    if as_json:
        return to_json([{**msgspec.to_builtins(group), "advice": advice(group.code)} for group in groups])
    if not groups:
        if run.stop_reason:
            return f"no failed rows; run {run.id} was {_stopped(run.stop_reason, 'stopped')}"
        return f"run {run.id} has no failed rows"
    lines = [f"run {run.id}: {plural(run.failed, 'failed row')}"]
    for group in groups:
        lines += [
            f"{group.count:,} x {clean(group.code)}",
            f"  example   {clean(group.example_id, 60)}: {clean(group.example, 300)}",
            f"  to do     {advice(group.code)}",
        ]
    if all(group.code == BAD_ROW for group in groups):
        lines.append("next: fix those lines and run the same `runner run` command again")
    else:
        lines.append(f"next: {command('retry', run.id, db)}")
    return "\n".join(lines)


def check(report: Check, *, as_json: bool) -> str:
    """Return what reading an input showed."""
    if as_json:
        names = ("rows", "broken", "broken_rows", "duplicates", "duplicate_ids", "identical", "refusal", "key_source")
        fields = {name: getattr(report, name) for name in names}
        return to_json({**fields, "settings": report.job.settings()})
    lines = [f"{clean(str(report.job.input))}: {plural(report.rows, 'row')}, {report.broken_rows:,} broken"]
    lines += [f"  {clean(why, 200)}" for _, why in report.broken[:_MAX_SHOWN]]
    if report.broken_rows > _MAX_SHOWN:
        lines.append(f"  and {report.broken_rows - _MAX_SHOWN:,} more")
    if report.duplicates:
        lines.append(f"{plural(report.duplicate_ids, 'duplicate id')}; `runner run` refuses to start:")
        lines += [f"  {clean(key, 60)} on lines {_numbers(where)}" for key, where in list(report.duplicates.items())[:_MAX_SHOWN]]
    if report.identical:
        lines.append(prepare.identical_rows(report.identical))
    if report.refusal:
        lines.append(f"`runner run` would refuse to start: {clean(report.refusal)}")
    lines += ["settings:", _settings(Description(job=report.job, key_source=report.key_source))]
    return "\n".join(lines)


def _numbers(lines: Sequence[int]) -> str:
    """Join two or more line numbers as "1, 5 and 8"; of more than ten, the first ten and an ellipsis."""
    if len(lines) > 10:
        return ", ".join(map(str, lines[:10])) + ", ..."
    return f"{', '.join(map(str, lines[:-1]))} and {lines[-1]}"


def configuration(description: Description, *, as_json: bool) -> str:
    """Return every setting and its source."""
    if as_json:
        rows = {key: {"value": msgspec.json.decode(value), "source": where} for key, value, where in description.shown()}
        return to_json({"input": str(description.job.input), "settings": rows, "key_source": description.key_source})
    return f"  {'input':22}{clean(str(description.job.input))}\n{_settings(description)}"


def _settings(description: Description) -> str:
    lines = [f"  {key:22}{clean(value, 60):32}  {clean(where)}" for key, value, where in description.shown()]
    key = f"set in {description.key_source}" if description.key_source else "none"
    return "\n".join([*lines, f"  {'key':22}{key}"])


def command(name: str, run: int, db: str) -> str:
    """Return a command about a run, as a person can type it."""
    where = "" if db == DEFAULT_STORE else f" --db {shell_word(db)}"
    return f"runner {name} {run}{where}"


def to_json(value: Any) -> str:
    """Return a value as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def count(number: int | None) -> str:
    """Return a number with thousands separators, or "unknown"."""
    return "unknown" if number is None else f"{number:,}"


def quantiles(duration: Quantiles) -> str:
    """Return the median and the 95th percentile of a duration."""
    if duration.p50 is None or duration.p95 is None:
        return "not measured"
    return f"p50 {duration.p50:.2f} s, p95 {duration.p95:.2f} s"


def clock(seconds: float) -> str:
    """Return a duration as minutes and seconds (``1:05``), from one hour on with hours (``1:00:05``)."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def date(instant: float) -> str:
    """Return an instant as local date and time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(instant))
