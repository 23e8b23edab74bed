"""Thirty traces of what a provider's batch API and a live path let through, for ``benchmarks.batches``; drawn from a seed."""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, TypeAlias

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
batch_world: Any = import_module("batch_world")

HOUR = 3600.0
Steps: TypeAlias = Sequence[tuple[float, float]]
MAKERS: list[Callable[[Random], Any]] = []
"""What makes the traces, in their order."""


def trace(maker: Callable[[Random], dict[str, Any]]) -> Callable[[Random], dict[str, Any]]:
    """Add a maker of a trace, which is called like it and says what its docstring says."""

    def made(draw: Random) -> Any:
        name = maker.__name__.replace("_", " ")
        says = (maker.__doc__ or "").strip().rstrip(".")
        return batch_world.Trace(**{"name": name, "says": says, **usual(draw), **maker(draw)})

    MAKERS.append(made)
    return maker


def usual(draw: Random) -> dict[str, Any]:
    """Return what most traces have: 20,000 to 60,000 rows, and a live path that takes half an hour to an hour for all of them."""
    rows = draw.randrange(20_000, 60_000)
    rate = rows / (HOUR * draw.uniform(0.5, 1.0))
    answer_s = draw.uniform(3, 20)
    return {
        "rows": rows,
        "live": ((0.0, rate),),
        "limit": rate,
        "answer_s": answer_s,
        "cancel_s": ((0.0, draw.uniform(60, 600)),),
    }


def sized(draw: Random, hours: float, *parts: tuple[float, float, float], **more: Any) -> dict[str, Any]:
    """Return rows, deadline and capacity of a trace. parts: from this hour to that one, this share of all rows is answered."""
    fresh = usual(draw)
    steps: list[tuple[float, float]] = [(0.0, 0.0)]
    for begin, end, share in parts:
        steps += [(begin * HOUR, share * fresh["rows"] / ((end - begin) * HOUR)), (end * HOUR, 0.0)]
    return {**fresh, "deadline_s": hours * HOUR, "batch": tuple(steps), **more}


def halved(given: dict[str, Any], hour: float) -> dict[str, Any]:
    """Let the live path become half as fast at an hour; its limit, as it is told, does not change."""
    rate = given["live"][0][1]
    return {**given, "live": ((0.0, rate), (hour * HOUR, rate / 2))}


def slow(given: dict[str, Any], hours: float) -> dict[str, Any]:
    """Let the live path take so long for all rows."""
    rate = given["rows"] / (hours * HOUR)
    return {**given, "live": ((0.0, rate),), "limit": rate}


def walk(draw: Random, hours: float, share: float) -> tuple[tuple[float, float, float], ...]:
    """Return capacity that goes up and down at random every half hour or so, and answers about this share of the rows in all."""
    ends, at = [0.0], 0.0
    while at < hours:
        at += draw.uniform(0.2, 0.9)
        ends.append(min(at, hours))
    weights = [draw.choice((0, 0, 1, 2, 4, 8)) * (b - a) for a, b in pairwise(ends)]
    total = sum(weights) or 1.0
    return tuple((a, b, share * weight / total) for (a, b), weight in zip(pairwise(ends), weights, strict=True))


@trace
def fast_hour(draw: Random) -> dict[str, Any]:
    """All rows are answered within the first hour; six hours are left."""
    return sized(draw, 6, (draw.uniform(0.1, 0.2), draw.uniform(0.6, 0.9), 1.1))


@trace
def overnight_queue(draw: Random) -> dict[str, Any]:
    """Nothing for five hours, then all within two; ten hours are left."""
    return sized(draw, 10, (draw.uniform(4.5, 5.5), draw.uniform(6.5, 7.5), 1.1))


@trace
def stuck_for_20_hours(draw: Random) -> dict[str, Any]:
    """At 0 % for 20 hours, then all within one; 24 hours are left."""
    return sized(draw, 24, (20, draw.uniform(20.6, 21.0), 1.05))


@trace
def trickle_of_60_percent(draw: Random) -> dict[str, Any]:
    """A steady trickle that answers 60 % in time."""
    return sized(draw, 8, (0.1, 8, draw.uniform(0.55, 0.65)))


@trace
def slow_live_path(draw: Random) -> dict[str, Any]:
    """A live path that takes half of the time for all rows, and a steady trickle of 95 %."""
    return slow(sized(draw, 8, (0.1, 8, 0.95)), 4)


@trace
def trickle_until_the_end(draw: Random) -> dict[str, Any]:
    """A steady trickle that would answer the last row just in time; the limit of the live path is not told."""
    return sized(draw, 12, (0.1, 11.9, 1.0), limit=None)


@trace
def burst_at_the_end(draw: Random) -> dict[str, Any]:
    """Nothing until half an hour before the deadline, then all within ten minutes."""
    return sized(draw, 12, (11.5, 11.67, 1.05))


@trace
def cancels_grow_slower(draw: Random) -> dict[str, Any]:
    """A trickle of 60 %; cancels take a minute until the last hour, and ten minutes then."""
    return sized(draw, 8, (0.1, 8, 0.6), cancel_s=((0.0, 60.0), (7 * HOUR, 600.0)))


@trace
def a_tenth_expires(draw: Random) -> dict[str, Any]:
    """Ninety of a hundred rows of each batch are answered, the others expire after 24 hours; 30 hours are left."""
    return sized(draw, 30, (0.5, 6, 1.1), stuck=0.1)


@trace
def a_tenth_would_expire_too_late(draw: Random) -> dict[str, Any]:
    """The same with a deadline after 12 hours: no batch ends by itself."""
    return sized(draw, 12, (0.5, 6, 1.1), stuck=0.1)


@trace
def all_expires(draw: Random) -> dict[str, Any]:
    """No row is answered in a batch, 26 hours are left, and the limit of the live path is not told."""
    return sized(draw, 26, limit=None)


@trace
def refused_by_quota(draw: Random) -> dict[str, Any]:
    """A quota lets a tenth of the rows wait at once; batches are answered quickly one after the other."""
    given = sized(draw, 8, (0.05, 4.5, 1.2))
    return {**given, "quota": given["rows"] // 10}


@trace
def small_quota_and_slow(draw: Random) -> dict[str, Any]:
    """A quota of a twentieth of the rows, and 45 % are answered in time."""
    given = sized(draw, 8, (0.05, 8, 0.45))
    return {**given, "quota": given["rows"] // 20}


@trace
def refused_for_four_hours(draw: Random) -> dict[str, Any]:
    """The API refuses every batch for four hours, then answers all within three; twelve are left."""
    return sized(draw, 12, (4, draw.uniform(6.5, 7.5), 1.05), refused=((0.0, 4 * HOUR),))


@trace
def refused_in_between(draw: Random) -> dict[str, Any]:
    """With a quota of a fifth: the API refuses batches from the first hour to the fifth, and then answers those that it takes."""
    given = sized(draw, 10, (0.05, 1, 0.3), (5, 8.5, 1.0), refused=((1 * HOUR, 5 * HOUR),))
    return {**given, "quota": given["rows"] // 5}


@trace
def refused_to_the_end(draw: Random) -> dict[str, Any]:
    """The API refuses every batch."""
    return sized(draw, 6, refused=((0.0, 100 * HOUR),))


@trace
def slow_cancels(draw: Random) -> dict[str, Any]:
    """A trickle of 70 %, and cancels that take 25 minutes."""
    return sized(draw, 8, (0.1, 8, 0.7), cancel_s=((0.0, 1500.0),))


@trace
def all_batches_at_once(draw: Random) -> dict[str, Any]:
    """All batches are answered evenly, so that none ends before the last hour: all rows just in time."""
    return sized(draw, 6, (0.1, 5.4, 1.0), order="shared", cancel_s=((0.0, 600.0),))


@trace
def cancels_come_too_late(draw: Random) -> dict[str, Any]:
    """Cancelled batches go on being answered, and many end before their cancel."""
    return sized(draw, 6, (0.2, 5.8, 1.0), works_on=True, cancel_s=((0.0, 900.0),))


@trace
def live_halves_an_hour_before(draw: Random) -> dict[str, Any]:
    """A trickle of half the rows, and a live path that becomes half as fast an hour before the deadline."""
    return halved(sized(draw, 8, (0.1, 8, 0.5)), 7)


@trace
def live_halves_in_the_middle(draw: Random) -> dict[str, Any]:
    """No row is answered in a batch, and the live path becomes half as fast while all rows go through it."""
    return halved(sized(draw, 6), 5.3)


@trace
def flex_is_full_half_the_time(draw: Random) -> dict[str, Any]:
    """A trickle of 40 %, and a flex tier that has capacity every other half hour."""
    given = sized(draw, 8, (0.1, 8, 0.4))
    rate = 0.4 * given["live"][0][1]
    return {**given, "flex": tuple((hour / 2 * HOUR, rate if hour % 2 else 0.0) for hour in range(32))}


@trace
def flex_takes_what_batches_do_not(draw: Random) -> dict[str, Any]:
    """No row is answered in a batch; flex has capacity for all of them."""
    given = sized(draw, 8)
    return {**given, "flex": ((0.0, draw.uniform(0.3, 0.6) * given["live"][0][1]),)}


@trace
def flex_fills_up_at_the_end(draw: Random) -> dict[str, Any]:
    """A trickle of half the rows; flex is half as fast as standard, and full in the last two hours."""
    given = sized(draw, 8, (0.1, 8, 0.5))
    return {**given, "flex": ((0.0, 0.5 * given["live"][0][1]), (6 * HOUR, 0.0))}


@trace
def one_batch_after_the_other(draw: Random) -> dict[str, Any]:
    """One batch is worked on at a time, and each waits eight minutes before that."""
    return sized(draw, 8, (0.0, 3, 1.2), (3, 8, 1.5), at_once=1, overhead_s=480.0)


@trace
def slow_live_path_and_a_queue(draw: Random) -> dict[str, Any]:
    """A live path that takes 40 % of the time for all rows; batches are answered from hour 5 to 8 of ten."""
    return slow(sized(draw, 10, (5, 8, 1.05)), 4)


@trace
def nothing_is_counted(draw: Random) -> dict[str, Any]:
    """A provider that tells no counts before the end; all batches at once, 80 % in time."""
    return sized(draw, 8, (0.1, 8, 0.8), order="shared", counts=False)


@trace
def up_and_down(draw: Random) -> dict[str, Any]:
    """Capacity that goes up and down at random, for all rows."""
    return sized(draw, 12, *walk(draw, 11, 1.2))


@trace
def up_and_down_and_refused(draw: Random) -> dict[str, Any]:
    """Capacity that goes up and down at random, for 70 % of the rows, and refusals of one hour in three."""
    refused = tuple((hour * HOUR, (hour + 1) * HOUR) for hour in range(0, 14, 3))
    return sized(draw, 14, *walk(draw, 14, 0.7), refused=refused)


@trace
def a_million_rows(draw: Random) -> dict[str, Any]:
    """A million rows in files of 50,000, a live path that takes four hours, and 90 % answered evenly in 20 hours."""
    rate = 1_000_000 / (4 * HOUR)
    steps = ((0.0, 0.0), (1800.0, 900_000 / (19.5 * HOUR)))
    return {
        "rows": 1_000_000,
        "deadline_s": 20 * HOUR,
        "batch": steps,
        "live": ((0.0, rate),),
        "limit": rate,
        "answer_s": draw.uniform(3, 9),
    }


def traces(seed: int) -> list[Any]:
    """Return the traces of a seed."""
    return [made(Random(f"{seed} {number}")) for number, made in enumerate(MAKERS)]  # noqa: S311 - the same ones each time
