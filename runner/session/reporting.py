"""Reports of runs: reads their figures from the store, and writes them as one page."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from runner import origin
from runner.answer_shape import fields_in
from runner.errors import ADVICE, UsageError
from runner.exports.file import is_standard_output, open_output
from runner.exports.report import heads, over_time, page, spreads, tables
from runner.exports.report.blocks import Block, Facts, Failure, Instant, Report, Section, Tone
from runner.figures import Figures
from runner.inputs import overwriting, spool
from runner.model import Json, Run
from runner.session import manifest, spelling
from runner.session.outputs import files_read
from runner.store.figure_sums import figures_of
from runner.store.reader import ErrorGroup, StoreReader
from runner.store.totals import Totals
from runner.text import plural, redact
from runner.version import __version__

MOST = 4
"""Runs in one report."""


class _Told(NamedTuple):
    """All that a report tells of one run."""

    facts: Facts
    figures: Figures
    files: origin.Files | None

    def place(self, position: int) -> str:
        """Return where a row stands in its file."""
        file, line = origin.place_of(position, self.files)
        return f"{file}, line {line:,}" if file is not None else f"line {line:,}"


def write(output: str | Path, store: Path, run_ids: Sequence[int]) -> list[int]:
    """Write the report of runs to a file; return their numbers. No number: the newest run. ``-`` is standard output.

    Raises UsageError for a run that does not exist, and for an output that no export replaces; StoreError.
    """
    with StoreReader(store) as reader:
        if not is_standard_output(output):
            overwriting.refuse_own(output, store, files_read(reader))
        wanted = [reader.run(number, counted=False).id for number in run_ids or [None]]
        _refuse(wanted)
        with reader.snapshot():
            told = [_told(reader, number) for number in wanted]
    with open_output(output) as out:
        out.write(page.render(_report(told), [over_time.axis(one.figures.course) for one in told]))
    return wanted


def _refuse(wanted: Sequence[int]) -> None:
    if len(wanted) > MOST:
        raise UsageError(f"a report shows up to {MOST} runs side by side, not {len(wanted)}; name fewer")
    if len(set(wanted)) < len(wanted):
        raise UsageError("a run is named twice; name each run once")


def _told(reader: StoreReader, number: int) -> _Told:
    run, totals, failed = reader.run(number), reader.totals(number), reader.errors(number)
    codes = list(dict.fromkeys(group.code for group in failed))
    fields = fields_in(run.settings)
    figures = figures_of(reader.fetch, run.id, run.answers, fields, codes, priced=totals.cost is not None)
    return _Told(_facts(run, totals, failed), figures, origin.files_in(run.settings))


def _facts(run: Run, totals: Totals, failed: Sequence[ErrorGroup]) -> Facts:
    every = max((run.rows or 0) * run.answers, run.done + run.failed)
    kept = manifest.without_secrets(run.settings)
    return Facts(
        number=run.id,
        input=_input(run),
        model=str(run.settings.get("model") or "no model"),
        where=_host(run.settings),
        state=_state(run),
        stop_reason=redact(spelling.stop_reason(run) or "") or None,
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
        failures=_failures(failed),
        settings=kept,
        versions=_versions(),
    )


def _failures(failed: Sequence[ErrorGroup]) -> list[Failure]:
    """Return the failed rows by error code, most frequent first, with each kind of message."""
    by_code: dict[str, list[ErrorGroup]] = {}
    for group in failed:
        by_code.setdefault(group.code, []).append(group)
    found = [
        Failure(
            code=code,
            count=sum(group.count for group in groups),
            advice=ADVICE.get(code, "").replace("`", ""),
            messages=[(redact(group.example), group.count, group.example_id) for group in groups],
        )
        for code, groups in by_code.items()
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
    address = settings.get("base_url")
    return urlsplit(str(address)).netloc.rpartition("@")[2] if address else "the simulator"


def _state(run: Run) -> tuple[str, Tone]:
    if run.active:
        return "running", "one"
    if run.finished_at is not None:
        return "finished", "done"
    return ("stopped", "refused") if run.stop_reason else ("not finished", "refused")


def _versions() -> list[tuple[str, str]]:
    found = manifest.versions()
    packages = found.pop("packages")
    assert isinstance(packages, dict)
    return [(name, str(version)) for name, version in {**found, **packages}.items()]


def _report(told: Sequence[_Told]) -> Report:
    numbers = " and ".join(str(one.facts.number) for one in told)
    return Report(
        title=f"Report of {'run' if len(told) == 1 else 'runs'} {numbers}: {told[0].facts.input}",
        made=Instant(time.time()),
        by=__version__,
        heads=[heads.head(one.facts, one.figures) for one in told],
        comparison=heads.comparison([(one.facts, one.figures) for one in told]),
        sections=_sections(told),
    )


def _sections(told: Sequence[_Told]) -> list[Section]:
    def section(name: str, title: str, words: str, blocks: Sequence[Sequence[Block]]) -> Section:
        return Section(name=name, title=title, words=words, blocks=blocks)

    each = list(enumerate(told))
    return [
        section(
            "time",
            "Over time",
            "What happened from the first request to the last.",
            [over_time.charts(one.figures.course, place, priced=one.facts.cost is not None) for place, one in each],
        ),
        section(
            "latency",
            "Latency",
            "Times of requests that were answered. Each figure is exact to three digits.",
            [
                spreads.latency(one.figures.first_token, one.figures.between_tokens, one.figures.whole_answer, place)
                for place, one in each
            ],
        ),
        section(
            "spent",
            "Tokens and money",
            "Every request counts, also one that failed.",
            [
                [
                    *tables.by_cause(one.facts, one.figures),
                    *spreads.sizes(one.figures.input_tokens, one.figures.output_tokens, place),
                ]
                for place, one in each
            ],
        ),
        section(
            "failures",
            "Failures",
            "Rows without an answer, by cause.",
            [tables.failures(one.facts, one.figures, one.place) for one in told],
        ),
        section(
            "rows",
            "Single rows",
            "The rows that took longest, and those that cost most.",
            [tables.extremes(one.figures, one.place) for one in told],
        ),
        section(
            "answers",
            "Answers",
            "What came back.",
            [tables.answers(one.facts, one.figures, place) for place, one in each],
        ),
        section("settings", "Settings", "How the run was made.", [tables.settings(one.facts) for one in told]),
    ]
