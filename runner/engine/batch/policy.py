"""Decides what of a mixed run waits in batches, and what goes live when, so that it is done in time at the lowest price. Pure.

A row in a batch costs half, but nobody knows when it comes back. The live path costs more, and how fast it is can be known. So
rows wait in batches as long as the live path could still send all that is left in time, and no longer:

    rows left - rows that the live path can send until the deadline, at half its speed = rows that must go live now

Rows that wait nowhere go first. Then batches are cancelled one by one, the least promising first, and early enough, for a cancel
takes minutes. As half its speed is planned with, the run is still in time if the live path becomes half as fast.

Instants are seconds since the epoch, rates rows per second. A clock that jumps back only makes batches wait longer.
"""

import math

from runner.batches import State
from runner.durations import format_span
from runner.engine.batch.outlook import Decision, Live, Open, View
from runner.text import plural

CAREFUL = 0.5
"""The share of the speed of the live path that is planned with."""
HURRIED = 0.75
"""The same for rows of a batch whose cancel takes too long: they may be paid for twice, so they wait longer."""
CANCEL_S = 1800.0
"""Seconds that a cancel is expected to take before one of the run was seen to end. Providers name ten minutes; it may be more."""
LEAST_CANCEL_S = 600.0
"""Seconds that are expected at least, however fast those were that were seen."""
FEW = 3
"""Cancels of which the longest tells less of the next than that of more."""
FLEX_CAREFUL = 0.1
"""The share of the speed of flex that is planned with where it costs no more than a batch: its capacity comes and goes."""
FLEX_UNSEEN = 0.2
"""The speed of flex, as a share of that of the standard tier, as long as it was not seen."""
USEFUL_S = 600.0
"""A batch is worth making if it has at least these seconds before it would have to be cancelled, or an eighth of a short span."""
IMPORT_S = 120.0
"""Seconds for the last poll, the download and the import."""
ANSWER_S, SLOTS = 30.0, 8
"""Taken for the duration of a live answer and the requests open at once while nothing is known."""
LEARNING_S = 600.0
"""For so long the first live rows may take to tell the speed of the live path, before the worst is expected of it."""
TRIALS, TRIAL_SHARE, UNKNOWN_SHARE = 32, 0.002, 0.01
"""Rows that go live at the start to tell its speed: so many at most, and this share of all rows; a larger one without limits."""
FLEX_ANSWER_S = 900.0
"""Taken for the duration of the slowest answers of flex while none is known."""
RETURNED_S, RETURNED_PART = 60.0, 50
"""Without a deadline, rows that came back go live after so many seconds, or at once if they are such a part of all rows: for each
time the input is read."""
PIECES, MOST_PIECES = 28, 40
"""Batches that the rows are divided into: at least and at most, where the provider's limits let one choose.

Each is asked for once a minute, and some providers allow 50 such requests a minute."""
LEAST_PIECE = 25
SOON_S = 0.1
"""What is to be decided within these seconds is decided now, or at the next step."""
PIECE_S = 600.0
"""A batch should hold no more rows than the live path sends in this time, since all of them come back at once."""
_ALL = 1 << 62
UNSENT: tuple[State, ...] = ("writing", "written", "uploading", "uploaded")
"""States in which the provider has no batch yet: it can be dropped."""


def piece_rows(rows: int, live: Live) -> int:
    """Return how many rows a batch is to have at most, of so many that are left."""
    fine = rows / PIECES if live.speed is None else min(rows / PIECES, live.speed * PIECE_S)
    return max(LEAST_PIECE, math.ceil(fine), math.ceil(rows / MOST_PIECES))


def decide(view: View, careful: float = CAREFUL) -> Decision:
    """Return what is to be done now. Call it again after each event, and at ``wake_at``.

    careful: share of the speed of the live path that is planned with.
    """
    if view.deadline is None:
        return _unhurried(view)
    return _Plan(view, view.deadline, careful).decision()


def _unhurried(view: View) -> Decision:
    """Without a deadline, batches run to their end, and what came back goes live once all other rows are in batches."""
    soon = view.returned_s >= RETURNED_S or view.returned * RETURNED_PART >= view.rows
    first = view.open > view.returned
    live = view.returned if not view.batches or (soon and not first) else 0
    if view.submitting == "never":
        live = view.open
    return Decision(
        live=live,
        tier="flex" if view.live.flex is not None else None,
        # counts are not exact where rows wait for others with the same request
        submit=_fits(view, _ALL if first or not view.returned else 0),
        # as large as the provider takes them: none will be cancelled
        piece_rows=max(1, view.rows, view.open),
        wake_at=view.now + view.step_s,
        open=view.open,
    )


def _fits(view: View, rows: int) -> int:
    if view.submitting == "never" or (view.submitting == "full" and not view.room):
        return 0
    return max(0, rows if view.room is None else min(rows, view.room))


class _Plan:
    """The decision about a run with a deadline."""

    def __init__(self, view: View, deadline: float, careful: float) -> None:
        self._view, self._now, self._careful = view, view.now, careful
        span_s = max(1.0, deadline - view.began_at)
        slowest_s = view.live.slowest_s or view.live.answer_s or ANSWER_S
        # the last row must be sent by then
        self._end = deadline - min(max(60.0, 2 * slowest_s) + IMPORT_S, span_s / 10)
        self._deadline = deadline
        speed = view.live.speed
        # the first live rows may still tell how fast the live path is
        self._learning = speed is None and view.now < view.began_at + min(LEARNING_S, span_s / 10)
        self._speed = max(1e-9, SLOTS / (view.live.answer_s or ANSWER_S) if speed is None else speed)
        self._unseen_s, self._useful_s = min(CANCEL_S, span_s / 8), min(USEFUL_S, span_s / 8)
        self._cancelling = [batch for batch in view.batches if batch.state == "cancelling"]
        self._left = view.open + view.flying + sum(batch.undone for batch in view.batches)
        # rows that are there without a further cancel
        coming = sum(batch.undone for batch in view.batches if batch.state in ("cancelling", "ended"))
        self._supply = view.flying + coming
        self._seen_s = max(view.cancels, default=None)
        lasting = max((view.now - (batch.cancel_asked_at or view.now) for batch in self._cancelling), default=0.0)
        # what a cancel takes, as far as can be known; and from when on one takes too long
        least_s = min(LEAST_CANCEL_S, self._unseen_s)
        longer = 1.25 if len(view.cancels) > FEW else 1.5
        expected_s = self._unseen_s if self._seen_s is None else max(least_s, longer * self._seen_s)
        self._cancel_s = max(expected_s, 1.25 * lasting)
        self._overdue_s = self._unseen_s if self._seen_s is None else max(least_s / 2, 1.1 * self._seen_s + view.step_s)

    def _needed(self, ahead_s: float) -> int:
        """Return how many rows must be done or with the live path so many seconds from now if no batch ends before.

        No more than the live path could take until then, twice over.
        """
        return 0 if self._learning else self._beyond(ahead_s, self._speed, self._careful)

    def _beyond(self, ahead_s: float, speed: float, share: float) -> int:
        later = share * speed * max(0.0, self._end - self._now - ahead_s)
        return math.ceil(max(0.0, min(self._left - later, 2 * speed * ahead_s + 1)))

    @property
    def _flex_speed(self) -> float | None:
        """Rows per second of flex; None: there is none, it saves nothing, or its answers would come too late."""
        flex = self._view.live.flex
        if flex is None or flex.price >= 1 or self._learning:
            return None
        if self._end - self._now < (FLEX_ANSWER_S if flex.slowest_s is None else flex.slowest_s):
            return None
        return FLEX_UNSEEN * self._speed if flex.rows_per_s is None else flex.rows_per_s

    def _wanted_by_flex(self, cancels: int) -> int:
        """Return how many rows are to be at flex now. cancels: 1 if the time of a cancel lies between."""
        speed = self._flex_speed
        ahead_s = 2 * self._view.step_s + cancels * min(self._cancel_s, LEAST_CANCEL_S)
        flex = self._view.live.flex
        if speed is None or flex is None:
            return 0
        return self._beyond(ahead_s, speed, FLEX_CAREFUL if flex.price <= self._view.price else self._careful)

    def decision(self) -> Decision:
        """Return what is to be done now."""
        view = self._view
        late = not self._learning and self._left > self._speed * max(0.0, self._deadline - self._now)
        # rows that a batch could only hold up
        kept = self._needed(self._cancel_s + self._useful_s) - self._supply
        due = max(self._needed(view.step_s), self._wanted_by_flex(0)) - view.flying
        live = max(0, min(view.open, max(kept, due, self._trials())))
        if view.submitting == "never" or self._end - self._now <= self._cancel_s + self._useful_s:
            live = view.open
        hurry = self._needed(view.step_s) > 0
        flex = self._flex_speed is not None and not hurry
        last_s = self._end - self._now - self._left / (self._careful * self._speed) - view.step_s
        piece = piece_rows(max(view.rows, self._left), view.live)
        # what flex takes soon need not be cancelled then
        soon = self._wanted_by_flex(1)
        waits = max(live, soon - self._supply + piece if soon else 0)
        return Decision(
            live=live,
            tier="flex" if flex else None,
            flex_patience_s=max(0.0, last_s) if flex else 0.0,
            submit=_fits(view, view.open - waits),
            piece_rows=piece,
            cancel=self._to_cancel(),
            overtake=self._to_overtake(),
            wake_at=self._wake_at(),
            open=view.open,
            late=late,
            told=self._too_late() if late else None,
            about=None if not late else "speed" if self._now < self._deadline else "deadline",
        )

    def _trials(self) -> int:
        """Return how many rows go live to tell how fast the live path is."""
        if self._view.live.answer_s is not None or self._view.flying:
            return 0
        share = UNKNOWN_SHARE if self._view.live.rows_per_s is None else TRIAL_SHARE
        return min(TRIALS, math.ceil(self._left * share))

    def _to_cancel(self) -> tuple[int, ...]:
        view, ahead_s = self._view, self._cancel_s + self._view.step_s
        able = [batch for batch in view.batches if batch.state == "submitted" or batch.state in UNSENT]
        if not able or self._learning:
            return ()
        able.sort(key=self._promise, reverse=True)
        left_s = self._end - self._now
        # answers that are there already come with the end of their batch only
        if left_s <= ahead_s and (view.cancels or self._cancelling or left_s <= self._unseen_s + view.step_s):
            return tuple(batch.id for batch in able)
        short, chosen = max(self._needed(ahead_s), self._wanted_by_flex(1)) - self._supply - view.open, list[int]()
        for batch in able:
            if short <= 0:
                break
            chosen.append(batch.id)
            short -= batch.undone
        # one is cancelled so early that the others can wait for as long as its cancel shows
        first = not (view.cancels or self._cancelling or chosen) and left_s <= 2 * self._unseen_s + view.step_s
        return (able[0].id,) if first and len(able) > 1 else tuple(chosen)

    def _promise(self, batch: Open) -> tuple[float, float, int]:
        """Return how far off the end of a batch is, to sort by."""
        if batch.state in UNSENT or batch.submitted_at is None:
            return math.inf, math.inf, batch.id
        age_s = max(0.0, self._now - batch.submitted_at)
        left_s = math.inf if not batch.done and batch.undone else age_s * batch.undone / max(1, batch.done)
        return left_s, batch.submitted_at, batch.id

    def _to_overtake(self) -> tuple[int, ...]:
        view = self._view
        # ended: results are missing, and looked for again
        stuck = [batch for batch in view.batches if batch.waiting and batch.state in ("cancelling", "creating", "ended")]
        at_once = HURRIED * self._speed * max(0.0, self._end - self._now - view.step_s)
        short = view.flying + view.open + sum(batch.waiting for batch in stuck) - at_once
        # the live path has enough to do for now
        short = min(short, 2 * self._speed * view.step_s - view.flying - view.open)
        chosen = list[int]()
        for batch in sorted(stuck, key=lambda batch: batch.cancel_asked_at or 0.0):
            if short <= 0:
                break
            if batch.cancel_asked_at is not None and self._now - batch.cancel_asked_at < self._overdue_s:
                continue
            chosen.append(batch.id)
            short -= batch.waiting
        return tuple(chosen)

    def _wake_at(self) -> float:
        """Return the instant at which rows must go live or a batch must be cancelled if nothing happens before."""
        last = self._end - self._left / (self._careful * self._speed) - self._cancel_s - self._view.step_s
        first = self._end - 2 * self._unseen_s - self._view.step_s
        later = [at for at in (last, first) if at > self._now + SOON_S]
        return min([*later, self._now + self._view.step_s])

    def _too_late(self) -> str:
        rows, left_s = plural(self._left, "row"), self._deadline - self._now
        most = f"{self._speed * 60:,.0f} rows a minute"
        if left_s <= 0:
            return f"the deadline has passed with {rows} left; they go live at up to {most}"
        return f"the live path makes {most}, too few for {rows} in {format_span(left_s)}; it gets all that it can take"
