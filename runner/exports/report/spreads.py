"""Spreads of values, as a chart of bars and as a row of percentiles."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from runner.exports.report import words
from runner.exports.report.blocks import Block, Cell, Chart, Table, Tone, Words
from runner.figures import QUANTILES, Spread

_LOGARITHMIC = " The axis is logarithmic: each bar is wider than the one before it."


class Measure(NamedTuple):
    """Something that was measured.

    name: also that of its chart. write: returns a value as the page shows it. whole: its values are whole numbers.
    """

    name: str
    title: str
    sentence: str
    tone: Tone
    unit: str
    write: Callable[[float], str]
    whole: bool = False


FIRST_TOKEN = Measure(
    "first",
    "Time to the first token",
    "From sending a request to the first token of its answer, also of reasoning.",
    "one",
    "s",
    words.seconds,
)
BETWEEN = Measure(
    "between", "Time from token to token", "After the first token, in the mean of each answer.", "two", "s", words.seconds
)
WHOLE = Measure("whole", "Time of a whole answer", "From sending a request to the end of its answer.", "four", "s", words.seconds)
INPUT = Measure(
    "input", "Input tokens of an answer", "Tokens of the request, as the server counts them.", "one", "tokens", words.figure, True
)
OUTPUT = Measure(
    "output", "Output tokens of an answer", "With reasoning, as the server counts them.", "two", "tokens", words.figure, True
)
CHARACTERS = Measure("length", "Length of an answer", "In characters of its text.", "three", "characters", words.figure, True)


def latency(first: Spread | None, between: Spread | None, whole: Spread | None, place: int) -> list[Block]:
    """Return charts and percentiles of the times of answers. place: which run of the report it is, from 0."""
    found = [(FIRST_TOKEN, first), (BETWEEN, between), (WHOLE, whole)]
    return _measured(found, place, "Percentiles of the times") or [Words("No answer has come.")]


def sizes(given: Spread | None, written: Spread | None, place: int) -> list[Block]:
    """Return charts and percentiles of the tokens of answers."""
    return _measured([(INPUT, given), (OUTPUT, written)], place, "Percentiles of the tokens of an answer")


def _measured(found: Sequence[tuple[Measure, Spread | None]], place: int, caption: str) -> list[Block]:
    known = [(measure, spread) for measure, spread in found if spread is not None]
    if not known:
        return []
    head = ["", "answers", "least", *(f"p{share}" for share in QUANTILES), "most", "mean"]
    rows: list[list[Cell]] = [
        [
            measure.title,
            words.count(spread.count),
            *(measure.write(spread.quantiles[share]) for share in (0, *QUANTILES, 100)),
            measure.write(spread.mean),
        ]
        for measure, spread in known
    ]
    table = Table(caption=caption, head=head, rows=rows, numeric=range(1, len(head)))
    return [*(bars(measure, spread, f"-{place}") for measure, spread in known), table]


def bars(measure: Measure, spread: Spread, behind: str = "") -> Chart:
    """Return a spread as a chart of bars. behind: what the name of the chart has behind that of the measure."""
    write = measure.write
    # each bar is one value
    single = measure.whole and all(bar.high - bar.low == 1 for bar in spread.bars)
    rows: list[list[Cell]] = [
        [
            write(bar.low) if single else f"{write(bar.low)} to {write(bar.high)}",
            words.count(bar.number),
            words.percent(bar.number, spread.count),
        ]
        for bar in spread.bars
    ]
    middle = {f"p{share}": spread.quantiles[share] for share in (50, 90, 99)}
    told = ", ".join(f"{name} {write(value)}" for name, value in middle.items())
    return Chart(
        name=f"{measure.name}{behind}",
        title=measure.title,
        words=f"{measure.sentence} {told}.{_LOGARITHMIC if spread.in_proportion else ''}",
        series=[("answers", measure.tone)],
        data={
            "kind": "bars",
            "unit": measure.unit,
            "single": single,
            "edges": [bar.low for bar in spread.bars] + [spread.bars[-1].high],
            "values": [[bar.number for bar in spread.bars]],
            "marks": [[name, value] for name, value in middle.items()],
        },
        table=Table(
            caption=measure.title, head=["value" if single else "from, to below", "answers", "share"], rows=rows, numeric=(1, 2)
        ),
    )
