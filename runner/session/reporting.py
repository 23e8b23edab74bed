"""Reports of runs: reads their figures from the store, and writes them as one page."""

import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from msgspec import structs

from runner import origin
from runner.answer_shape import fields_in
from runner.errors import UsageError
from runner.exports.file import is_standard_output, open_output
from runner.exports.report import over_time, page, sections
from runner.exports.report.agreements import Agreed, agreement
from runner.exports.report.blocks import Block
from runner.exports.report.sections import Told
from runner.figures import FieldFigures
from runner.inputs import overwriting
from runner.model import Json, Run
from runner.session import mending
from runner.session.comparing import OF_ANSWERS, compared, fields_of
from runner.session.outputs import files_read
from runner.session.run_facts import facts_of
from runner.several import unit
from runner.store.comparing import PairReader
from runner.store.database import store_error
from runner.store.figure_sums import figures_of
from runner.store.reader import StoreReader
from runner.store.sessions import sessions_of
from runner.store.spreads import alike
from runner.version import __version__

_SPREADS = ("first_token", "between_tokens", "whole_answer", "input_tokens", "output_tokens")
MOST = 4
"""Runs in one report."""


def write(output: str | Path, store: Path, run_ids: Sequence[int]) -> list[int]:
    """Write the report of runs to a file; return their numbers. No number: the newest run. ``-`` is standard output.

    Raises UsageError for a run that does not exist, and for an output that no export replaces; StoreError.
    """
    # a run may go on meanwhile: all that a page tells is of one state of the store
    with PairReader(store) as reader, reader.snapshot() as connection:
        if not is_standard_output(output):
            overwriting.refuse_own(output, store, files_read(reader))
        wanted = [reader.run(number, counted=False).id for number in run_ids or (None,)]
        _refuse(wanted)
        runs = [reader.run(number) for number in wanted]
        told, agree = [_told(reader, connection, run) for run in runs], _agreement(reader, runs)
    told = _on_the_same_axes(told)
    made = sections.report_of(told, agree, _differing(told), time.time(), __version__)
    with open_output(output) as out:
        out.write(page.render(made, [over_time.axis(one.figures.course) for one in told]))
    return wanted


def _differing(told: Sequence[Told]) -> dict[str, tuple[Json, ...]]:
    """Return the settings that are not the same in all runs, each with its values; those that change answers first."""
    every = [one.facts.settings for one in told]
    names = dict.fromkeys([*OF_ANSWERS, *chain.from_iterable(every)])
    found = {name: tuple(settings.get(name) for settings in every) for name in names}
    return {name: values for name, values in found.items() if any(value != values[0] for value in values)}


def _on_the_same_axes(told: Sequence[Told]) -> list[Told]:
    """Return what is told of several runs with charts of the same measure that have the same bars."""
    spreads = {name: alike([getattr(one.figures, name) for one in told]) for name in _SPREADS}
    characters = alike([one.figures.answers.characters for one in told])
    fields = _fields_alike([one.figures.answers.fields for one in told])
    return [
        Told(
            one.facts,
            structs.replace(
                one.figures,
                **{name: found[place] for name, found in spreads.items()},
                answers=structs.replace(one.figures.answers, characters=characters[place], fields=fields[place]),
            ),
            one.place,
        )
        for place, one in enumerate(told)
    ]


def _fields_alike(runs: Sequence[Sequence[FieldFigures]]) -> list[list[FieldFigures]]:
    """Return the fields of each run; those that are the same in several runs, by name and by kind, have the same bars."""
    of_kind: dict[tuple[str, str], list[FieldFigures]] = {}
    for field in chain.from_iterable(runs):
        of_kind.setdefault((field.name, field.kind), []).append(field)
    made = {kind: iter(alike([field.spread for field in fields])) for kind, fields in of_kind.items()}
    return [[structs.replace(field, spread=next(made[field.name, field.kind])) for field in fields] for fields in runs]


def _refuse(wanted: Sequence[int]) -> None:
    if len(wanted) > MOST:
        raise UsageError(f"a report shows up to {MOST} runs side by side, not {len(wanted)}; name fewer")
    if len(set(wanted)) < len(wanted):
        raise UsageError("a run is named twice; name each run once")


def _agreement(reader: PairReader, runs: Sequence[Run]) -> list[Block]:
    if len(runs) != 2:
        return []
    both = runs[0], runs[1]
    found = compared(reader, both, fields_of(both))
    fields = {name: Agreed(one.same, one.changed, one.kappa) for name, one in found.fields.items()}
    whole = Agreed(found.same, found.changed, found.kappa)
    return agreement(found.rows, whole, fields, unit(min(found.answers)))


def _told(reader: StoreReader, connection: Any, run: Run) -> Told:
    totals = reader.totals(run.id)
    failed = mending.found_in(run, reader, connection) if run.failed else None
    codes = list(run.causes)
    priced = totals.cost is not None
    try:
        figures = figures_of(reader.fetch, run.id, run.answers, fields_in(run.settings), codes, priced=priced)
    except OverflowError as error:
        raise store_error(reader.path, "read", error) from error
    facts = facts_of(run, totals, failed, sessions_of(reader.fetch, run.id), figures.course, reader.path)
    files = origin.files_in(run.settings)

    def place(position: int) -> str:
        file, line = origin.place_of(position, files)
        return f"{file}, line {line:,}" if file is not None else f"line {line:,}"

    return Told(facts, figures, place)
