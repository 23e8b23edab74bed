"""Where the time went: the ledger of all sessions of a run, and the limit of requests in flight over time."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from runner.exports.report import words
from runner.exports.report.blocks import Block, Cell, Part, Share, Table, Tone, Whole, Words
from runner.figures import Course, Period
from runner.time_ledger import NAMES, PARTS, Moment, TimeLedger

_TOLD: dict[str, tuple[Tone, str]] = {
    "answering_s": ("done", "the server worked on requests"),
    "limits_s": ("refused", "limits per minute, pauses that the server asked for, a budget"),
    "retry_wait_s": ("two", "rows waited for their next attempt"),
    "server_queue_s": ("four", "the first token took longer than at best"),
    "outage_s": ("failed", "the server did not respond"),
    "runner_s": ("one", "reading, sending, saving"),
    "idle_s": ("left", "no row was left to send, or nobody took the answers"),
}


def ledger(time: TimeLedger | None, advice: str | None) -> list[Block]:
    """Return the ledger as a bar and a table. advice: what would make the run faster, in a sentence."""
    if time is None or not time.total_s:
        return [Words("No session of this run has noted where its time went.")]
    parts = [(NAMES[name], *_TOLD[name], getattr(time, name)) for name in PARTS]
    bar = Whole(
        words=", ".join(f"{name} {words.percent(seconds, time.total_s)}" for name, _, _, seconds in parts),
        parts=[
            Part(name, words.percent(seconds, time.total_s), seconds / time.total_s, tone)
            for name, tone, _, seconds in parts
            if seconds
        ],
    )
    rows: list[list[Cell]] = [
        [name, Share(seconds / time.total_s, words.percent(seconds, time.total_s), tone), words.seconds(seconds), what]
        for name, tone, what, seconds in parts
    ]
    table = Table(
        caption=f"{words.seconds(time.total_s)} of slots in {words.seconds(time.elapsed_s)} by the clock",
        head=["what a slot did", "share", "time of slots", "that is"],
        rows=rows,
        numeric=(2,),
        texts=(3,),
    )
    return [*([Words(words.sentence(advice), strong=True)] if advice else []), bar, table]


def limit_over(course: Course | None, sessions: Iterable[tuple[float, Sequence[Moment]]]) -> list[float | None]:
    """Return how many requests might be in flight in each slice of the time, in the mean; None where no session has noted it.

    sessions: when each began, with its moments. What it takes grows with the moments, and not with the periods beside them.
    """
    if course is None:
        return []
    sums, known = [0.0] * len(course.slices), [0.0] * len(course.slices)
    behind = [*(period.first for period in course.periods[1:]), len(course.slices)]
    ends = [course.slices[place - 1].begin + course.width for place in behind]
    for began, moments in sessions:
        since = began
        for moment in moments:
            until = began + moment.at
            # those before have ended
            for place in range(bisect_right(ends, since), len(ends)):
                period = course.periods[place]
                if period.begin >= until:
                    break
                # in a store that somebody has changed, a stretch may end far behind all of it
                for at in _slices(period, behind[place], course.width, since, min(until, ends[place])):
                    begin = course.slices[at].begin
                    shared = min(until, begin + course.width) - max(since, begin)
                    if shared > 0:
                        sums[at] += shared * moment.slots
                        known[at] += shared
            since = until
    return [total / seconds if seconds else None for total, seconds in zip(sums, known, strict=True)]


def _slices(period: Period, behind: int, width: float, since: float, until: float) -> range:
    """Return the slices of a period that have a part of a stretch of time. behind: the first slice that it no longer has."""
    first, last = (period.first + int((instant - period.begin) // width) for instant in (since, until))
    return range(max(period.first, first), min(behind, last + 1))
