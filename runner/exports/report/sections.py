"""The sections of a report, in their order, and the report as a whole."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from runner.exports.report import heads, ledgers, over_time, spreads, tables, words
from runner.exports.report.blocks import Block, Facts, Instant, Report, Section, Words
from runner.figures import Figures
from runner.model import Json


class Told(NamedTuple):
    """All that a report tells of one run. place: returns where a row stands in its file, by ``items.position``."""

    facts: Facts
    figures: Figures
    place: tables.Place


class _Kind(NamedTuple):
    """A section. words: what it shows. make: returns its blocks for a run, which is the one of that number in the report."""

    name: str
    title: str
    words: str
    make: Callable[[Told, int], Sequence[Block]]


def report_of(
    told: Sequence[Told], agreement: Sequence[Block], differing: Mapping[str, Sequence[Json]], made: float, by: str
) -> Report:
    """Return a report of runs, side by side if there are several.

    agreement: of two runs. differing: settings with their values in each run, where these are not the same. made: when, seconds
    since the epoch. by: version of runner.
    """
    numbers = " and ".join(f"{one.facts.number} ({one.facts.name})" if one.facts.name else str(one.facts.number) for one in told)
    return Report(
        title=f"Report of {'run' if len(told) == 1 else 'runs'} {numbers}: {told[0].facts.input}",
        made=Instant(made),
        by=by,
        heads=heads.heads([(one.facts, one.figures) for one in told], differing),
        comparison=heads.comparison([(one.facts, one.figures) for one in told], differing),
        agreement=agreement,
        sections=[
            Section(
                name=kind.name,
                title=kind.title,
                words=kind.words,
                blocks=[kind.make(one, place) for place, one in enumerate(told)],
            )
            for kind in _KINDS
        ],
    )


def _over_time(told: Told, place: int) -> list[Block]:
    if told.figures.course is None:
        return [Words(words.none_ended(told.facts))]
    return over_time.charts(told.figures.course, place, told.facts.flight, priced=told.facts.cost is not None)


def _latency(told: Told, place: int) -> list[Block]:
    figures = told.figures
    return spreads.latency(figures.first_token, figures.between_tokens, figures.whole_answer, place)


def _spent(told: Told, place: int) -> list[Block]:
    sizes = spreads.sizes(told.figures.input_tokens, told.figures.output_tokens, place)
    return [*tables.by_cause(told.facts, told.figures), *tables.by_endpoint(told.facts, told.figures), *sizes]


_KINDS = (
    _Kind("time", "Over time", "What happened from the first request to the last.", _over_time),
    _Kind(
        "ledger",
        "Where the time went",
        "A slot is one request that may be in flight. At each instant each slot did one of these things.",
        lambda told, _: ledgers.ledger(told.facts.time, told.facts.faster, told.facts.brief),
    ),
    _Kind("latency", "Latency", "Times of requests that were answered. Each figure is exact to three digits.", _latency),
    _Kind("spent", "Tokens and money", "Every request counts, also one that failed.", _spent),
    _Kind(
        "failures",
        "Failures",
        "Rows without an answer, by cause.",
        lambda told, _: tables.failures(told.facts, told.figures, told.place),
    ),
    _Kind(
        "rows",
        "Single rows",
        "The answers that took longest, and the rows that cost most.",
        lambda told, _: tables.extremes(told.figures, told.place),
    ),
    _Kind("answers", "Answers", "What came back.", lambda told, place: tables.answers(told.facts, told.figures, place)),
    _Kind("settings", "Settings", "How the run was made.", lambda told, _: tables.settings(told.facts)),
)
