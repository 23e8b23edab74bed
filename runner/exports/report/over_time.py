"""What happened over time, as charts: requests that ended, requests in flight, tokens, money."""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

from runner.exports.report import words
from runner.exports.report.blocks import Block, Cell, Chart, Instant, Table, Tone, Words
from runner.exports.report.noted import Flight
from runner.figures import Course, Slice

_UNITS = ((1.0, "second"), (60.0, "minute"), (3600.0, "hour"), (86400.0, "day"))


def charts(course: Course, place: int, flight: Flight, *, priced: bool) -> list[Block]:
    """Return the charts of a run.

    place: which run of the report it is, from 0. flight: requests in flight, in each slice. priced: something has a price.
    """
    made = [_ended(course, place), _in_flight(course, place, flight), _tokens(course, place)]
    return [*made, *([_money(course, place)] if priced else []), *_pauses(course)]


def axis(course: Course | None) -> dict[str, Any] | None:
    """Return what the page's script needs to know of the time of a run."""
    if course is None:
        return None
    return {"width": course.width, "begins": [round(one.begin, 3) for one in course.slices], "first": _firsts(course)}


def worked_s(course: Course | None) -> float:
    """Return for how long requests were under way, without pauses in between."""
    return course.worked_s if course is not None else 0.0


def _firsts(course: Course) -> list[int]:
    return [period.first for period in course.periods]


def _pauses(course: Course) -> list[Block]:
    number = len(course.periods) - 1
    if not number:
        return []
    left_out = sum(after.begin - before.end for before, after in zip(course.periods, course.periods[1:], strict=False))
    told = words.seconds(left_out)
    if number == 1:
        return [Words(f"A pause of {told}, with nothing under way, is left out; a dashed line shows where.")]
    return [Words(f"{number} pauses of {told} in all, with nothing under way, are left out; dashed lines show where.")]


def _unit(course: Course, most: float) -> tuple[float, str]:
    """Return seconds and name of the unit of a rate, of which the highest slice has a readable number. most: of a slice."""
    return next(((length, name) for length, name in _UNITS if most / course.width * length >= 2), _UNITS[-1])


def _ended(course: Course, place: int) -> Chart:
    kinds: list[tuple[str, Tone, Callable[[Slice], float]]] = [
        ("answers", "done", lambda one: one.answers),
        ("refused by a limit", "refused", lambda one: one.refused),
        ("failed otherwise", "failed", lambda one: one.failed),
    ]
    shown = [kind for kind in kinds if kind[0] == "answers" or any(kind[2](one) for one in course.slices)]
    most = max(sum(value(one) for *_, value in shown) for one in course.slices)
    length, unit = _unit(course, most)
    return _chart(
        course,
        place,
        name="ended",
        title=f"Requests that ended, per {unit}",
        sentence="How many requests ended in each slice of the time, by how they ended.",
        series=[(name, tone, [value(one) / course.width * length for one in course.slices]) for name, tone, value in shown],
        style="stack",
        unit=f"per {unit}",
    )


def _in_flight(course: Course, place: int, flight: Flight) -> Chart:
    known = any(value is not None for value in flight.limit)
    told = "How many requests were open at once, in the mean of each slice of the time"
    told += ", and how many might be." if known else "."
    told += " Where some of them have not ended, it is what the session noted." if flight.noted else ""
    told += " Of the last moments nothing is noted." if flight.unknown else ""
    return _chart(
        course,
        place,
        name="flight",
        title="Requests in flight",
        sentence=told,
        series=[("in flight", "one", flight.in_flight), *([_limit(flight.limit)] if known else [])],
        style="area",
        unit="open",
    )


def _limit(limit: Sequence[float | None]) -> tuple[str, Tone, Sequence[float | None]]:
    return ("limit", "refused", limit)


def _tokens(course: Course, place: int) -> Chart:
    length = 60 / course.width
    return _chart(
        course,
        place,
        name="tokens",
        title="Tokens per minute",
        sentence="Tokens of the requests that ended in each slice of the time, as the server reported them.",
        series=[
            ("input", "one", [one.input_tokens * length for one in course.slices]),
            ("output", "two", [one.output_tokens * length for one in course.slices]),
        ],
        style="line",
        unit="per minute",
    )


def _money(course: Course, place: int) -> Chart:
    return _chart(
        course,
        place,
        name="money",
        title="Money so far",
        sentence="What all requests until then have cost, as far as their prices and tokens are known.",
        series=[("spent", "four", list(accumulate(one.cost for one in course.slices)))],
        style="area",
        unit="$",
    )


def _chart(
    course: Course,
    place: int,
    *,
    name: str,
    title: str,
    sentence: str,
    series: Sequence[tuple[str, Tone, Sequence[float | None]]],
    style: str,
    unit: str,
) -> Chart:
    write = words.money if unit == "$" else _written
    rows: list[list[Cell]] = [
        [Instant(one.begin, course.width), *(write(values[at]) for *_, values in series)] for at, one in enumerate(course.slices)
    ]
    data = {
        "kind": "time",
        "style": style,
        "unit": unit,
        "run": place,
        "values": [[None if number is None else float(f"{number:.4g}") for number in values] for *_, values in series],
    }
    return Chart(
        name=f"{name}-{place}",
        title=title,
        words=sentence,
        series=[(told, tone) for told, tone, _ in series],
        data=data,
        table=Table(
            caption=f"{title}, by slices of {words.seconds(course.width)}",
            head=["from", *(told for told, *_ in series)],
            rows=rows,
            numeric=range(1, len(series) + 1),
        ),
    )


def _written(number: float | None) -> str:
    return "unknown" if number is None else words.figure(float(f"{number:.3g}"))
