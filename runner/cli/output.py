"""What people read: summaries, status, errors, checks, as text or as JSON. Foreign words pass ``text.clean`` on their way."""

import shlex
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from runner.api import DEFAULT_STORE, Check, Description
from runner.errors import BAD_ROW, advice
from runner.events import INPUT_CHANGED, Quantiles, Started, Stopping, Summary
from runner.model import LaneState, Pace, Run
from runner.store.reader import ErrorGroup
from runner.store.totals import Totals
from runner.text import clean

_SHOWN = 20
_STALE_S = 30.0


def headline(event: Started) -> str:
    """Say what begins."""
    settled = f", {event.restored:,} settled before" if event.restored else ""
    return f"run {event.run}: {clean(event.input)}, {_rows(event.rows)}{settled}"


def stopping(event: Stopping) -> str:
    """Say that the session ends early."""
    words = f"stopping: {clean(event.reason)}"
    if event.in_flight and event.grace_s:
        words = f"{words.rstrip('.')}; {event.in_flight} in flight may finish (up to {event.grace_s:g} s), Ctrl-C gives them up"
    return words


def summary(end: Summary, db: str) -> str:
    """Sum a session up, and name the next command."""
    state = "finished" if end.finished else "not finished"
    counts = f"{end.done_now:,} done, {end.failed_now:,} failed, {end.skipped:,} skipped (settled before)"
    lines = [f"run {end.run} {state}: {counts} of {_rows(end.rows)} in {clock(end.elapsed_s)}"]
    if end.stop_reason == INPUT_CHANGED:
        # any other reason was told when it came
        lines.append(f"  {INPUT_CHANGED}, so not all of its rows were seen: go on when nobody writes into it")
    if end.attempts_now:
        lines.append(f"  tokens        {_count(end.input_tokens)} in, {_count(end.output_tokens)} out")
        lines.append(f"  first token   {_quantiles(end.time_to_first_token)}")
        lines.append(f"  whole answer  {_quantiles(end.duration)}")
    if end.missing:
        lines.append(f"  {_rows(end.missing)} of this run no longer in the file; their results are kept")
    if end.kept:
        kept = f"failed when sent again and kept the earlier answer: {_command('status', end.run, db)} counts the causes"
        lines.append(f"  {_rows(end.kept)} that had changed {kept}")
    if end.changed:
        kept = "changed since; the answers are kept, `--accept-changes` sends such rows again"
        lines.append(f"  {_rows(end.changed)} {kept}")
    if end.failed:
        again = f", {_command('retry', end.run, db)} tries again" if end.failed > end.broken else ""
        lines.append(f"  {_rows(end.failed)} failed: {_command('errors', end.run, db)} says why{again}")
    lines.append("next: " + _next(end, db))
    return "\n".join(lines)


def _next(end: Summary, db: str) -> str:
    if end.finished:
        return _command("export", end.run, db) + " -o answers.csv"
    return _command("resume", end.run, db) + ("   (or the same command again)" if end.same_command else "")


def status(run: Run, books: Totals, *, db: str, as_json: bool) -> str:
    """Show one run in full."""
    if as_json:
        return _json({"run": run, "books": books})
    settings = run.settings
    where = clean(str(settings.get("base_url") or "the simulator"))
    rows = f"{run.done:,} done, {run.failed:,} failed"
    if run.rows is not None and run.finished_at is None:
        rows += f", {max(0, run.rows - run.done - run.failed):,} open"
    if run.rows is not None:
        rows += f"; {run.rows:,} in the file"
    lines = [
        f"run {run.id}: {state(run)}",
        f"  input         {clean(run.input)}",
        f"  model         {clean(str(settings.get('model')))} at {where}",
        f"  begun         {_date(run.created_at)}",
        f"  rows          {rows}",
        *_pace(run.pace),
        *_attempts(books),
        f"  tokens        {_tokens(books)}",
        f"  first token   {_quantiles(books.time_to_first_token)}",
        f"  whole answer  {_quantiles(books.duration)}",
    ]
    if run.stop_reason and not run.active:
        lines.insert(1, f"  stopped       {clean(run.stop_reason)}")
    if books.finish_reasons:
        reasons = ", ".join(f"{clean(reason)} {count:,}" for reason, count in books.finish_reasons.items())
        lines.append(f"  finish        {reasons}")
    if run.failed:
        lines.append(f"next: {_command('errors', run.id, db)}")
    elif run.finished_at is None and not run.active:
        lines.append(f"next: {_command('resume', run.id, db)}")
    else:
        lines.append(f"next: {_command('export', run.id, db)} -o answers.csv")
    return "\n".join(lines)


def _pace(pace: Pace | None) -> list[str]:
    """Show what a session is doing: a line for each lane, and why items wait."""
    if pace is None:
        return []
    lines = [f"  lane          {_lane(lane)}" for lane in pace.lanes]
    if pace.retrying:
        lines.append(f"  retrying      {clean(pace.retrying)}")
    if time.time() - pace.at > _STALE_S:
        lines.append(f"  noted         {_date(pace.at)}; nothing else has been noted since")
    return lines


def _lane(lane: LaneState) -> str:
    words = f"{clean(lane.model, 60)}: " if lane.model else ""
    words += f"{lane.in_flight:,} of {lane.slots:,} in flight"
    if lane.ceiling != lane.slots:
        words += f" (up to {lane.ceiling:,})"
    for name, limit in lane.limits.items():
        number = f"{limit:,.0f}" if limit >= 10 else f"{limit:g}"
        words += f", {clean(name.replace('_', ' '))} {number}"
    return f"{words}; {clean(lane.waiting)}" if lane.waiting else words


def _attempts(books: Totals) -> list[str]:
    """Show what was sent and what went wrong, as far as it is known."""
    words = f"  attempts      {books.attempts:,}"
    if books.retries:
        retries = sum(books.retries.values())
        words += f"; {retries:,} {'retry' if retries == 1 else 'retries'} ({_causes(books.retries)})"
    if books.deciding:
        words += f"; {_rows(sum(books.deciding.values()))} given up ({_causes(books.deciding)})"
    lines = [words]
    if books.failed_attempts:
        kinds = (
            (books.unsent, "never reached the server"),
            (books.refused, "refused"),
            (books.perhaps_billed, "perhaps billed (usage unknown)"),
        )
        words = ", ".join(f"{count:,} {kind}" for count, kind in kinds if count)
        lines.append(
            f"  failed        {sum(books.failed_attempts.values()):,} ({_causes(books.failed_attempts)}){words and ': '}{words}"
        )
    if books.wasted_input_tokens or books.wasted_output_tokens or books.wasted_bytes:
        lines.append(f"  wasted        {_waste(books)}")
    return lines


def _causes(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{clean(code)} {count:,}" for code, count in counts.items())


def _waste(books: Totals) -> str:
    received = f"{books.wasted_bytes:,} bytes received by failed attempts"
    if books.wasted_input_tokens is None and books.wasted_output_tokens is None:
        return received
    return f"{_count(books.wasted_input_tokens)} tokens in, {_count(books.wasted_output_tokens)} out, {received}"


def _tokens(books: Totals) -> str:
    words = f"{_count(books.input_tokens)} in"
    if books.cached_tokens:
        words += f" ({books.cached_tokens:,} cached)"
    words += f", {_count(books.output_tokens)} out"
    if books.reasoning_tokens:
        words += f" ({books.reasoning_tokens:,} reasoning)"
    return words


def listing(runs: Sequence[Run], *, as_json: bool) -> str:
    """Show all runs."""
    if as_json:
        return _json(list(runs))
    if not runs:
        return "no runs yet; start one with `runner run FILE`"
    rows = [("run", "state", "done", "failed", "rows", "begun", "model", "input")]
    rows += [
        (
            str(run.id),
            state(run),
            f"{run.done:,}",
            f"{run.failed:,}",
            _count(run.rows),
            _date(run.created_at),
            clean(str(run.settings.get("model")), 30),
            clean(run.input),
        )
        for run in runs
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def state(run: Run) -> str:
    """Name the state of a run in one word."""
    if run.active:
        return "running"
    return "finished" if run.finished_at is not None else "interrupted"


def errors(run: Run, groups: Sequence[ErrorGroup], *, db: str, as_json: bool) -> str:
    """Show failed items by cause."""
    if as_json:
        return _json([{**msgspec.to_builtins(group), "advice": advice(group.code)} for group in groups])
    if not groups:
        stopped = f"; it was stopped: {clean(run.stop_reason)}" if run.stop_reason else ""
        return f"run {run.id} has no failed rows{stopped}"
    lines = [f"run {run.id}: {run.failed:,} failed rows"]
    for group in groups:
        lines += [
            f"{group.count:,} x {clean(group.code)}",
            f"  example   {clean(group.example_id, 60)}: {clean(group.example, 300)}",
            f"  to do     {advice(group.code)}",
        ]
    if all(group.code == BAD_ROW for group in groups):
        lines.append("next: correct the lines, then the same `runner run` again")
    else:
        lines.append(f"next: {_command('retry', run.id, db)}")
    return "\n".join(lines)


def check(found: Check, *, as_json: bool) -> str:
    """Show what reading an input showed."""
    if as_json:
        names = ("rows", "broken", "broken_rows", "duplicates", "duplicate_ids", "identical", "refusal", "key_source")
        fields = {name: getattr(found, name) for name in names}
        return _json({**fields, "settings": found.job.settings()})
    lines = [f"{clean(str(found.job.input))}: {found.rows:,} rows, {found.broken_rows:,} broken"]
    lines += [f"  {clean(why, 200)}" for _, why in found.broken[:_SHOWN]]
    if found.broken_rows > _SHOWN:
        lines.append(f"  and {found.broken_rows - _SHOWN:,} more")
    if found.duplicates:
        lines.append(f"ids that stand more than once: {found.duplicate_ids:,}; `runner run` refuses to start:")
        for key, where in list(found.duplicates.items())[:_SHOWN]:
            lines.append(f"  {clean(key, 60)} on lines {', '.join(map(str, where[:10]))}")
    if found.identical:
        lines.append(f"rows without an id that are identical to an earlier one: {found.identical:,}; each is sent on its own")
    if found.refusal:
        lines.append(f"`runner run` would refuse to start: {clean(found.refusal)}")
    lines += ["settings:", _settings(Description(job=found.job, key_source=found.key_source))]
    return "\n".join(lines)


def configuration(found: Description, *, as_json: bool) -> str:
    """Show every setting and where it came from."""
    if as_json:
        rows = {key: {"value": msgspec.json.decode(value), "source": where} for key, value, where in found.shown()}
        return _json({"input": str(found.job.input), "settings": rows, "key_source": found.key_source})
    return f"  {'input':22}{clean(str(found.job.input))}\n{_settings(found)}"


def _settings(found: Description) -> str:
    lines = [f"  {key:22}{clean(value, 60):32}  {clean(where)}" for key, value, where in found.shown()]
    key = f"set in {found.key_source}" if found.key_source else "none"
    return "\n".join([*lines, f"  {'key':22}{key}"])


def _command(name: str, run: int, db: str) -> str:
    where = "" if db == DEFAULT_STORE else f" --db {shlex.quote(db)}"
    return f"runner {name} {run}{where}"


def _json(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def _rows(number: int) -> str:
    return "1 row" if number == 1 else f"{number:,} rows"


def _count(number: int | None) -> str:
    return "unknown" if number is None else f"{number:,}"


def _quantiles(quantiles: Quantiles) -> str:
    if quantiles.p50 is None or quantiles.p95 is None:
        return "not measured"
    return f"p50 {quantiles.p50:.2f} s, p95 {quantiles.p95:.2f} s"


def clock(seconds: float) -> str:
    """Give a duration as minutes and seconds, with hours where there are any."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _date(instant: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(instant))
