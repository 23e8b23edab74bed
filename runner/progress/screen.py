"""The three lines that a terminal shows while a session goes on. Pure: an event and a width in, lines out.

    how far     45% [#####     ]   450 done     3 failed   547 left    0:12:20 to go
    how fast    8 of   48 open     12.3 rows/s     15.1 requests/s     1,234 tokens/s
                8 of   48 open     12.3 rows/s  $0.12 spent, about $4.80 in all          where a price is known
    why not     waiting for the requests/min limit, 3 rows on attempt 4 of 5

Every part has its place: which parts there are, and how wide, depends on the width and on the number of rows alone. Done, failed
and left always add up to the rows.
"""

from collections.abc import Sequence
from typing import NamedTuple

from tqdm import tqdm

from runner.durations import clock
from runner.event_types import Progress
from runner.money import PICO, shown
from runner.pace import batches_words
from runner.progress.tqdm_internals import disp_len
from runner.text import clean

GREEN, YELLOW, RED = "32", "33", "31"
_MOST_BAR, _LEAST_BAR = 24, 7
_HUNDRED_HOURS_S = 360_000.0
_COST = 36
"""Columns of the cost, so that what follows it keeps its place."""


class Look(NamedTuple):
    """How lines are drawn: columns that may be used, colours or none, characters beyond ASCII or none."""

    columns: int
    colour: bool = False
    ascii_only: bool = False


def lines(event: Progress, look: Look) -> list[str]:
    """Return the three lines, each at most as wide as the look says."""
    waiting, shared = why(event), sharing(event)
    others = [f"limits shared by {shared:,} runs"] if shared else []
    last = clean("; ".join([waiting, *others] if waiting else others), look.columns)
    return [_how_far(event, look), _how_fast(event, look), _painted(last, YELLOW if waiting else "", look)]


def _how_far(event: Progress, look: Look) -> str:
    done, failed, left = event.settled_rows
    width = len(f"{event.wanted:,}")
    share = int(100 * (done + failed) / event.wanted) if event.wanted else 100
    parts = [
        (f"{share:3}%", ""),
        (f"{done:{width},} done", GREEN),
        (f"{failed:{width},} failed", RED if failed else ""),
        (f"{left:{width},} left", ""),
        (time_left(event), ""),
    ]
    kept = _fitting(parts, look.columns)
    room = look.columns - sum(disp_len(text) for text, _ in kept) - 2 * len(kept)
    painted = [_painted(text, code, look) for text, code in kept]
    if room >= _LEAST_BAR:
        painted.insert(1, _bar(done + failed, event.wanted, min(room, _MOST_BAR), look))
    return "  ".join(painted)


def _how_fast(event: Progress, look: Look) -> str:
    in_flight, slots = open_requests(event)
    of = f" of {slots:4,}" if slots else " " * 8
    workers = event.pace.workers
    parts = [
        (f"{in_flight:4,}{of} open", ""),
        *([(f"{workers.live:3,} {'worker ' if workers.live == 1 else 'workers'}", "")] if workers is not None else []),
        (f"{rate(event.rows_per_s):>7} {'rows' if event.answers is None else 'answers'}/s", ""),
        # where there is not room for everything, money comes first
        *([(f"{cost(event):{_COST}}", "")] if event.cost is not None else []),
        (f"{rate(event.requests_per_s):>7} requests/s", ""),
        (f"{rate(event.tokens_per_s):>7} tokens/s", ""),
    ]
    return "  ".join(text for text, _ in _fitting(parts, look.columns))


def why(event: Progress) -> str:
    """Return why requests wait, and which rows are tried again; empty if neither is so."""
    lanes = event.pace.lanes
    words = [
        f"{clean(lane.model, 30)}: {clean(lane.waiting)}" if len(lanes) > 1 else clean(lane.waiting)
        for lane in lanes
        if lane.waiting
    ]
    batches = [clean(batches_words(event.pace.batches))] if event.pace.batches is not None else []
    return "; ".join([*filter(None, batches), *words, *([clean(event.pace.retrying)] if event.pace.retrying else [])])


def cost(event: Progress) -> str:
    """Return what the run has cost, and what it is expected to cost; empty if no price is known."""
    if event.cost is None:
        return ""
    words = f"{shown(round(event.cost * PICO))} spent"
    projected = event.cost_projected
    return words if projected is None else f"{words}, about {shown(round(projected * PICO))} in all"


def open_requests(event: Progress) -> tuple[int, int]:
    """Return how many requests are open, and how many may be; 0 if that is not known yet."""
    lanes = event.pace.lanes
    if not lanes:
        return event.in_flight, 0
    # the lanes of a session share one ceiling
    ceiling = max(lane.ceiling for lane in lanes)
    return sum(lane.in_flight for lane in lanes), min(sum(lane.slots for lane in lanes), ceiling)


def sharing(event: Progress) -> int:
    """Return how many runs share the limits, this one included; 0 if it shares them with none."""
    return max((lane.shared for lane in event.pace.lanes), default=0)


def rate(per_s: float | None) -> str:
    """Return a rate with one decimal as long as it is small; a dash if it is unknown."""
    if per_s is None:
        return "-"
    if per_s < 1000:
        return f"{per_s:,.1f}"
    return f"{per_s:,.0f}" if per_s < 100_000 else f"{per_s / 1000:,.0f}k"


def time_left(event: Progress) -> str:
    """Return the time left, always of the same width. In an outage nobody knows its end: the time is counted from there on."""
    words = "after it" if in_outage(event) else "to go   "
    if event.left_s is None:
        left = "-:--"
    elif event.left_s < _HUNDRED_HOURS_S:
        left = clock(event.left_s)
    else:
        left = f"{event.left_s / 86_400:,.1f} d"
    return f"{left:>8} {words}"


def in_outage(event: Progress) -> bool:
    """Return True if every lane is in an outage."""
    return bool(event.pace.lanes) and all(lane.outage_s > 0 for lane in event.pace.lanes)


def _fitting(parts: Sequence[tuple[str, str]], columns: int) -> list[tuple[str, str]]:
    """Return the first parts that fit, with two spaces between them. A first one that is too wide by itself is cut."""
    kept: list[tuple[str, str]] = []
    used = 0
    for text, code in parts:
        used += disp_len(text) + (2 if kept else 0)
        if used > columns:
            break
        kept.append((text, code))
    return kept or [(parts[0][0][: max(0, columns)], parts[0][1])]


def _bar(number: int, total: int, columns: int, look: Look) -> str:
    meter = tqdm.format_meter(
        n=min(number, total), total=max(1, total), elapsed=1.0, ncols=columns - 2, ascii=look.ascii_only, bar_format="{bar}"
    )
    return f"[{meter}]"


def _painted(text: str, code: str, look: Look) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if look.colour and code and text else text
