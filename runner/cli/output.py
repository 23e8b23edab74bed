"""What people read: summaries, the list of runs, errors and checks, as text or as JSON. Foreign text passes ``text.clean``."""

import time
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import click
import msgspec

from runner import origin
from runner.api import Check, Description
from runner.cli.advice import State
from runner.errors import remedy
from runner.event_types import AS_ASKED, Quantiles
from runner.exports.file import is_standard_output
from runner.inputs import spool
from runner.model import Run
from runner.session import outputs, oversized, prepare, spelling
from runner.session.dry_run import Unsent
from runner.session.naming import command
from runner.session.stopping import STOPPED_BY
from runner.session.vacuuming import Vacuumed
from runner.session.ways import Way
from runner.several import unit
from runner.store.compaction import in_words
from runner.text import clean, encodable_tree, json_text, plural, shell_word

NO_RUNS = "no runs yet; start one with `runner run FILE`"
_MAX_SHOWN = 20
_LEAST_PATH = 12
"""Columns of a path in a list of runs, at least."""
_CHECKED = (
    "rows", "broken", "broken_rows", "duplicates", "duplicate_ids", "identical", "oversized", "examples", "refusal", "missing",
    "key_source", "row_settings", "nulls", "files", "file_bytes", "unsendable", "unsendable_rows",
)  # fmt: skip
"""What ``check --json`` says of an input, beside the settings."""
_MAX_PLACES = 10
_ALWAYS = ("provider", "model", "base_url")
_UNSET = ("default", "not set")
_REQUEST = 300
"""Characters of a rendered request that are shown."""


def stopped(reason: str, verb: str) -> str:
    """Return a stop reason with a verb before it, unless it begins with one ("stopped by Ctrl-C")."""
    return clean(reason) if reason.startswith(STOPPED_BY) else f"{verb}: {clean(reason)}"


def listing(runs: Sequence[Run], *, tags: Collection[str] = (), as_json: bool, columns: int | None = None) -> str:
    """Return a table of runs. tags: those by which they were chosen. Names and tags have columns where a run has any.

    columns: of the terminal, in which the end of a long path has to do; None: there is none.
    """
    if as_json:
        return to_json(list(runs))
    if not runs:
        return f"no run has {'this tag' if len(tags) == 1 else 'these tags'}" if tags else NO_RUNS
    named, tagged = any(run.name for run in runs), any(run.tags for run in runs)
    rows = [("run", *(["name"] * named), "state", "done", "failed", "rows", "started", "model", *(["tags"] * tagged), "input")]
    rows += [
        (
            str(run.id),
            *([clean(run.name or "")] * named),
            spelling.state(run),
            f"{run.done:,}",
            f"{run.failed:,}",
            count(_every(run)),
            date(run.created_at),
            clean(str(run.settings.get("model")), 30),
            *([clean(", ".join(run.tags), 40)] * tagged),
            clean(spool.full_name(run.input)),
        )
        for run in runs
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    room = max(_LEAST_PATH, columns - sum(widths[:-1]) - 2 * len(widths[:-1])) if columns is not None else widths[-1]
    rows = [(*cells, path if len(path) <= room else f"…{path[1 - room :]}") for *cells, path in rows]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def _every(run: Run) -> int | None:
    """Return all rows of a run, or all answers that it wants; rows that are no longer in the file keep their outcomes."""
    return None if run.rows is None else max(run.rows * run.answers, run.done + run.failed)


def state_of(
    run: Run, *, errors_shown: bool = False, retry_left: int = 0, ways: Sequence[Way] | None = None, waiting: int = 0
) -> State:
    """Return what the store knows of a run's state. retry_left: rows that an interrupted retry is still to ask again.

    ways: how its failed rows are sent again, where some need more room or time. waiting: rows in batches at the provider.
    """
    left = 0 if run.finished_at is not None or run.rows is None else max(0, run.rows * run.answers - run.done - run.failed)
    mend = remedy(spelling.stop_reason(run))
    return State(
        run=run.id,
        done=run.done,
        failed=run.failed,
        left=left,
        retry_left=retry_left,
        waiting=waiting,
        broken=run.broken,
        causes=run.causes,
        ways=ways,
        beyond=run.beyond,
        active=run.active,
        stop_code=run.stop_code,
        address=mend.address,
        line=mend.line,
        raised=spelling.raised(run.stop_reason),
        limited=run.stop_reason in AS_ASKED,
        missing=not origin.exists(run.input),
        asked=spool.is_asked(run.input),
        errors_shown=errors_shown,
        dedupe=bool(run.settings.get("dedupe")),
        unit=unit(run.answers),
    )


def exported(run: Run, fuller: Run | None, counts: Sequence[int], targets: Sequence[str], db: str) -> list[str]:
    """Say how many rows were written to each target. fuller: an older run of the same file that has more finished rows."""
    words = []
    for count, target in zip(counts, targets, strict=True):
        of = max(count, (run.rows or 0) * run.answers)
        where = "standard output" if is_standard_output(target) else clean(target)
        words.append(f"run {run.id}: {count:,} of {plural(of, unit(run.answers))} written to {where}")
    if fuller is not None:
        more = f"warning: run {fuller.id} of the same file has more finished rows ({fuller.done:,}, this one {run.done:,})"
        to = " ".join(f"-o {shell_word(target)}" for target in targets)
        words.append(f"{more}; to export it: `{command('export', fuller.id, db)} {to}`")
    return words


def written(
    counts: Sequence[int], targets: Sequence[str], *, formats: Sequence[str | None], manifest: bool
) -> list[dict[str, Any]]:
    """Return what is told of files of results for ``--json``. formats: the names that were given."""
    outputs_of = [outputs.of(target, name) for target, name in zip(targets, formats, strict=True)]
    return [
        {
            "file": target,
            "format": output.kind.replace("_", "-"),
            "rows": count,
            "manifest": str(output.manifest) if manifest else None,
        }
        for count, target, output in zip(counts, targets, outputs_of, strict=True)
    ]


def vacuumed(done: Vacuumed) -> str:
    """Say what was given back to the disk."""
    before, after = in_words(done.bytes_before), in_words(done.bytes_after)
    return f"{clean(done.store)}: {before} before, {after} now"


def check(report: Check, *, as_json: bool) -> str:
    """Return what reading an input showed."""
    if as_json:
        fields = {name: getattr(report, name) for name in _CHECKED}
        return to_json({**fields, "settings": report.job.settings()})
    lines = [f"{clean(spool.full_name(report.job.input))}: {plural(report.rows, 'row')}, {report.broken_rows:,} broken"]
    lines += [f"  {clean(why, 200)}" for _, why in report.broken[:_MAX_SHOWN]]
    if report.broken_rows > _MAX_SHOWN:
        lines.append(f"  and {report.broken_rows - _MAX_SHOWN:,} more")
    lines += _duplicates(report)
    if report.identical and not report.job.dedupe:
        lines.append(prepare.identical_rows(report.identical))
    lines += report.remarks
    for which, line, chars, text in report.examples:
        place = clean(report.places.where(line))
        lines.append(f"{which} request ({place}, {plural(chars, 'character')}): {clean(text, _REQUEST)}")
    lines += _files(report)
    lines += oversized.sentences(report.oversized, report.places)
    if report.refusal:
        lines.append(f"`runner run` would refuse to start: {clean(report.refusal)}")
    if report.missing:
        lines.append(f"warning: `runner run` needs one thing more: {clean(report.missing)}")
    lines += ["settings:", _settings(Description(job=report.job, key_source=report.key_source), all_of_them=False)]
    lines.append("  the others are as by default; `runner run` with --show-config shows them")
    return "\n".join(lines)


def _files(report: Check) -> list[str]:
    """Return the lines about the files that rows name."""
    if not report.files:
        return []
    lines = [f"{plural(report.files, 'file')} named by rows, {report.file_bytes / 1e6:,.1f} MB"]
    if report.unsendable_rows:
        lines.append(f"{plural(report.unsendable_rows, 'row')} would fail, as a file cannot be sent:")
        lines += [f"  {clean(why, 200)}" for _, why in report.unsendable[:_MAX_SHOWN]]
    if report.unsendable_rows > _MAX_SHOWN:
        lines.append(f"  and {report.unsendable_rows - _MAX_SHOWN:,} more")
    return lines


def _duplicates(report: Check) -> list[str]:
    if not report.duplicates:
        return []
    shown = list(report.duplicates.items())[:_MAX_SHOWN]
    return [
        f"{plural(report.duplicate_ids, 'duplicate id')}; `runner run` refuses to start:",
        *(f"  {clean(key, 60)} {clean(report.places.all_of(where, _MAX_PLACES))}" for key, where in shown),
    ]


def configuration(description: Description, *, as_json: bool) -> str:
    """Return every setting and its source."""
    if as_json:
        rows = {key: {"value": msgspec.json.decode(value), "source": where} for key, value, where in description.shown()}
        return to_json({"input": str(description.job.input), "settings": rows, "key_source": description.key_source})
    return f"  {'input':22}{clean(origin.shown(description.job.input))}\n{_settings(description)}"


def _settings(description: Description, *, all_of_them: bool = True) -> str:
    """Return the settings, a line each. all_of_them: also those that nobody has set, but for those that say who answers."""
    lines = [
        f"  {key:22}{clean(value, 60):32}  {clean(where)}"
        for key, value, where in description.shown()
        if all_of_them or key in _ALWAYS or where not in _UNSET
    ]
    key = f"set in {description.key_source}" if description.key_source else "none"
    return "\n".join([*lines, f"  {'key':22}{key}"])


def requests(rows: Iterable[Unsent], *, answers: int, as_json: bool) -> int:
    """Print what would be sent for rows, one body a line, and on standard error whose it is. Return 1 if a row is broken, else 0.

    answers: how many of each row are wanted; the request of the first is printed. as_json: one object a line with ``line``,
    ``url`` and ``body``, or with ``line`` and ``fault``.
    """
    broken = other_seeds = False
    for row in rows:
        broken = broken or row.fault is not None
        other_seeds = other_seeds or row.other_seeds
        body = None if row.fault is not None else msgspec.Raw(row.body)
        if as_json:
            place = {"line": row.line} if row.file is None else {"file": row.file, "line": row.line}
            told = {**place, "fault": row.fault} if body is None else {**place, "url": row.url, "body": body}
            click.echo(json_text(msgspec.json.encode(told)))
        elif row.fault is not None:
            click.echo(f"not sent: {clean(row.fault)}", err=True)
        else:
            note = " (the contents of its files are left out here)" if row.shortened else ""
            click.echo(f"{clean(row.where)}: POST {clean(row.url)}, not sent{note}", err=True)
            click.echo(json_text(row.body))
    if answers > 1:
        several = answers > 2
        others = f"answers 2 to {answers:,} are" if several else "answer 2 is"
        unseeded = f"without {'seeds of their' if several else 'a seed of its'} own"
        seeds = "each with another seed where the server has seeds" if other_seeds else unseeded
        click.echo(f"{others} asked for in the same way, {seeds}", err=True)
    return int(broken)


def to_json(value: Any) -> str:
    """Return a value as indented JSON that is harmless in a terminal."""
    try:
        encoded = msgspec.json.encode(value)
    except UnicodeEncodeError:
        # an argument of the command that is not UTF-8
        encoded = msgspec.json.encode(encodable_tree(msgspec.to_builtins(value)))
    return json_text(msgspec.json.format(encoded, indent=2))


def count(number: int | None) -> str:
    """Return a number with thousands separators, or "unknown"."""
    return "unknown" if number is None else f"{number:,}"


def quantiles(duration: Quantiles) -> str:
    """Return the median and the 95th percentile of a duration."""
    if duration.p50 is None or duration.p95 is None:
        return "not measured"
    return f"p50 {duration.p50:.2f} s, p95 {duration.p95:.2f} s"


def date(instant: float) -> str:
    """Return an instant as local date and time, with its zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(instant)).rstrip()
