"""A provider of batches, a live path and a run in virtual time: what a policy of mixed runs makes of a trace of their capacity.

Rows are alike, and a standard answer costs 1. The world goes on in ticks; the policy decides at polls, at its own instants, and
as batches end, as in a session.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from math import ceil, inf
from typing import Literal

from runner.engine.batch.outlook import Decision, Flex, Live, Open, View

BATCH, FLEX = 0.5, 0.5
"""Prices, as shares of the standard one."""
TICK_S = 20.0
POLL_S = 60.0
EPOCH = 1_800_000_000.0
MEASURED_S = 120.0
DAY_S = 86_400.0

Steps = Sequence[tuple[float, float]]
"""A value over time: (from this second on, value), in order, the first from 0 on."""


def value(steps: Steps, at: float) -> float:
    """Return the value at an instant."""
    return steps[max(0, bisect_right(steps, (at, inf)) - 1)][1]


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What happens at the provider. Seconds since the run began, rows per second."""

    name: str
    says: str
    rows: int
    deadline_s: float
    # how many rows of batches are answered, in which order, of how many batches at once, after which wait of each batch
    batch: Steps
    order: Literal["fifo", "shared"] = "fifo"
    at_once: int | None = None
    overhead_s: float = 0.0
    # until a batch expires; the share of its rows that is never answered in a batch
    window_s: float = DAY_S
    stuck: float = 0.0
    # when batches are refused; the most rows of all open batches
    refused: Sequence[tuple[float, float]] = ()
    quota: int | None = None
    # the most rows of one batch
    most: int = 50_000
    # how long a cancel takes that is asked for at an instant; whether rows are answered meanwhile; whether answered rows are told
    cancel_s: Steps = ((0.0, 240.0),)
    works_on: bool = False
    counts: bool = True
    # the live path; its limit as it is told (None: not at all); how long an answer takes; flex (None: there is none)
    live: Steps = ((0.0, 10.0),)
    limit: float | None = None
    answer_s: float = 8.0
    flex: Steps | None = None


@dataclass
class Batch:
    """A batch at the provider."""

    id: int
    rows: int
    at: float
    done: float = 0.0
    begun_at: float | None = None
    asked_at: float | None = None
    ends_at: float = inf
    overtaken: bool = False
    ended: bool = False


@dataclass
class Played:
    """What a policy made of a trace. cost: of all answers, those that were paid for twice included."""

    cost: float = 0.0
    late: int = 0
    finished_s: float = 0.0
    by_batch: int = 0
    by_flex: int = 0
    by_live: int = 0
    twice: int = 0
    batches: int = 0
    cancelled: int = 0
    # the instants of decisions to cancel, with what the policy saw
    cancels: list[tuple[View, Decision]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)


class _Lane:
    """A tier of the live path: a queue, and answers on their way."""

    def __init__(self, speed: Steps, answer_s: float) -> None:
        self._speed, self._answer_s = speed, answer_s
        self.queue, self._part = 0, 0.0
        self.answers: deque[tuple[float, int]] = deque()
        self._seen: deque[tuple[float, int]] = deque()
        self._busy_since: float | None = None

    @property
    def rows(self) -> int:
        return self.queue + sum(number for _, number in self.answers)

    def tick(self, at: float) -> int:
        """Send what the speed allows, and return the rows that were answered by now."""
        able = value(self._speed, at) * TICK_S + self._part
        sent = min(self.queue, int(able))
        self.queue -= sent
        self._part = min(able - sent, 1.0)
        if sent:
            self.answers.append((at + TICK_S + self._answer_s, sent))
        self._seen.append((at, sent))
        while self._seen[0][0] < at - MEASURED_S:
            self._seen.popleft()
        self._busy_since = None if not self.queue else at if self._busy_since is None else self._busy_since
        came = 0
        while self.answers and self.answers[0][0] <= at + TICK_S:
            came += self.answers.popleft()[1]
        return came

    def measured(self, at: float) -> float | None:
        """Return the rows per second over the last time, if it was busy throughout."""
        if self._busy_since is None or at - self._busy_since < MEASURED_S:
            return None
        return sum(number for _, number in self._seen) / (len(self._seen) * TICK_S)


class World:
    """One run of a policy against a trace."""

    def __init__(self, trace: Trace, policy: Callable[[View], Decision]) -> None:
        self._trace, self._policy = trace, policy
        self._open, self._returned = trace.rows, 0
        self._batches: list[Batch] = []
        self._standard = _Lane(trace.live, trace.answer_s)
        self._flex = _Lane(trace.flex or ((0.0, 0.0),), 4 * trace.answer_s)
        self._flex_until = inf
        self._cancels: list[float] = []
        self._answered = False
        self.played = Played()

    def play(self) -> Played:
        """Play the run until every row is done; those behind the deadline are late."""
        at, poll_at, left = 0.0, 0.0, self._trace.rows
        while left:
            ended = self._provider(at)
            if at >= poll_at or ended:
                left -= self._import()
                poll_at = min(at + POLL_S, max(at + TICK_S, self._decide(at) - EPOCH))
            left -= self._lanes(at)
            at += TICK_S
            if at > self._trace.deadline_s:
                self.played.late = self.played.late or left
            if at > 4 * self._trace.deadline_s + 4 * DAY_S:
                raise RuntimeError(f"{self._trace.name}: {left} rows are never done")
        # a batch whose rows went live meanwhile is billed for what it answered
        late = sum(int(one.done) for one in self._batches)
        self.played.cost += BATCH * late
        self.played.twice += late
        self.played.finished_s = at
        return self.played

    # the provider

    def _provider(self, at: float) -> bool:
        """Answer rows of batches for a tick; return True if a batch has ended."""
        trace, able = self._trace, value(self._trace.batch, at) * TICK_S
        working = [one for one in self._batches if not one.ended and (one.asked_at is None or trace.works_on)]
        for one in working[: trace.at_once]:
            one.begun_at = at if one.begun_at is None else one.begun_at
        working = [one for one in working[: trace.at_once] if one.begun_at is not None and at >= one.begun_at + trace.overhead_s]
        if trace.order == "shared":
            working.sort(key=self._unanswered)
        for number, one in enumerate(working):
            share = able / (len(working) - number) if trace.order == "shared" else able
            answered = min(share, self._unanswered(one))
            one.done, able = one.done + answered, able - answered
        ended = False
        for one in self._batches:
            whole = one.done >= one.rows - 1e-6
            if not one.ended and (whole or at >= min(one.ends_at, one.at + trace.window_s)):
                one.ended = ended = True
                if one.asked_at is not None:
                    self._cancels.append(max(1.0, at - one.asked_at))
        return ended

    def _unanswered(self, one: Batch) -> float:
        return max(0.0, one.rows - ceil(one.rows * self._trace.stuck) - one.done)

    def _import(self) -> int:
        """Import the batches that have ended, and return the rows that are done by it."""
        rows = 0
        for one in [one for one in self._batches if one.ended]:
            self._batches.remove(one)
            done = int(one.done + 1e-6)
            self.played.cost += BATCH * done
            if one.overtaken:
                self.played.twice += done
                continue
            rows += done
            self._open += one.rows - done
            self._returned += one.rows - done
        self.played.by_batch += rows
        return rows

    # the live path

    def _lanes(self, at: float) -> int:
        if at >= self._flex_until:
            self._to_standard()
        by_flex, by_live = self._flex.tick(at), self._standard.tick(at)
        self._answered = self._answered or by_flex + by_live > 0
        self.played.by_flex += by_flex
        self.played.by_live += by_live
        self.played.cost += FLEX * by_flex + by_live
        return by_flex + by_live

    def _to_standard(self) -> None:
        self._standard.queue += self._flex.queue
        self._flex.queue = 0

    # the run

    def _decide(self, at: float) -> float:
        view = self._view(at)
        decision = self._policy(view)
        if decision.told and decision.told not in self.played.told[-1:]:
            self.played.told.append(decision.told)
        if decision.cancel:
            self.played.cancels.append((view, decision))
        by_id = {one.id: one for one in self._batches}
        for number in decision.cancel:
            one = by_id[number]
            assert one.asked_at is None
            one.asked_at, one.ends_at = at, at + value(self._trace.cancel_s, at)
            self.played.cancelled += 1
        for number in decision.overtake:
            by_id[number].overtaken = True
            self._open += by_id[number].rows
            self._returned += by_id[number].rows
        self._go_live(decision, at, sum(by_id[number].rows for number in decision.overtake))
        self._submit(decision, at)
        return decision.wake_at

    def _go_live(self, decision: Decision, at: float, overtaken: int) -> None:
        number = decision.live + overtaken
        assert 0 <= number <= self._open, f"{number} of {self._open} rows go live"
        self._open -= number
        self._returned = max(0, self._returned - number)
        if decision.tier == "flex":
            self._flex.queue += number
            self._flex_until = at + decision.flex_patience_s
        else:
            self._standard.queue += number
        if decision.tier is None:
            # rows that wait for flex find at their next refusal that no time is left for it
            self._to_standard()

    def _submit(self, decision: Decision, at: float) -> None:
        assert 0 <= decision.submit <= self._open
        room, left = self._room(), decision.submit
        while left and not self._closed(at):
            rows = min(left, decision.piece_rows, self._trace.most)
            if room is not None and rows > room:
                break
            self._batches.append(Batch(self.played.batches + 1, rows, at))
            self.played.batches += 1
            self._open -= rows
            # the returned ones go live first, so that those that are submitted are others if there are any
            self._returned = min(self._returned, self._open)
            left -= rows
            room = None if room is None else room - rows

    def _room(self) -> int | None:
        quota = self._trace.quota
        return None if quota is None else quota - sum(one.rows for one in self._batches)

    def _closed(self, at: float) -> bool:
        return any(since <= at < until for since, until in self._trace.refused)

    def _view(self, at: float) -> View:
        trace = self._trace
        measured = {"standard": self._standard.measured(at), "flex": self._flex.measured(at)}
        flex = None if trace.flex is None else Flex(rows_per_s=measured["flex"], slowest_s=4 * trace.answer_s, price=FLEX)
        live = Live(
            rows_per_s=trace.limit,
            answer_s=trace.answer_s if self._answered else None,
            slots=max(1, round(value(trace.live, at) * trace.answer_s)),
            measured=measured["standard"],
            flex=flex,
        )
        return View(
            now=EPOCH + at,
            deadline=EPOCH + trace.deadline_s,
            began_at=EPOCH,
            batches=[self._as_seen(one) for one in self._batches],
            open=self._open,
            returned=self._returned,
            rows=trace.rows,
            flying=self._standard.rows + self._flex.rows,
            live=live,
            cancels=self._cancels,
            submitting="closed" if self._closed(at) else "open",
            step_s=POLL_S,
        )

    def _as_seen(self, one: Batch) -> Open:
        return Open(
            id=one.id,
            state="submitted" if one.asked_at is None else "cancelling",
            rows=one.rows,
            waiting=0 if one.overtaken else one.rows,
            done=int(one.done) if self._trace.counts else 0,
            submitted_at=EPOCH + one.at,
            cancel_asked_at=None if one.asked_at is None else EPOCH + one.asked_at,
        )


@dataclass(frozen=True)
class Bound:
    """What a trace costs at least. oracle: with knowledge of all that will happen. safe: for a policy that is surely in time.

    Both may cut batches as fine as they like, and have every answer at once; a cancel takes them no time, and a quota costs them
    nothing. So both are cheaper than what is possible. ``safe`` knows how fast the live path will be, but not what batches will
    bring: it must have sent live by each instant what the live path could not send after it if batches brought nothing more.
    ``careful`` is the same for a policy that is in time even if the live path becomes half as fast at any instant. ``at``: the
    instant that forces most rows of it to go live.
    """

    oracle: float
    safe: float
    careful: float
    at: float


def bound(trace: Trace) -> Bound:
    """Return the least costs of a trace."""
    times = [number * TICK_S for number in range(int(trace.deadline_s / TICK_S))]
    begin = min((at for at in times if not any(a <= at < b for a, b in trace.refused)), default=inf) + trace.overhead_s
    able = [value(trace.batch, at) * TICK_S if at >= begin else 0.0 for at in times]
    most = trace.rows - ceil(trace.rows * trace.stuck)
    back = [min(most, total) for total in accumulate(able)]
    flex = list(accumulate(value(trace.flex, at) * TICK_S if trace.flex else 0.0 for at in times))
    after = list(accumulate(value(trace.live, at) * TICK_S for at in reversed(times)))[::-1]
    cheap = min(trace.rows, back[-1] + flex[-1])

    def forced(share: float) -> tuple[float, float]:
        return max((trace.rows - back[n] - flex[n] - share * after[n], at) for n, at in enumerate(times))

    def cost(rows: float) -> float:
        live = min(trace.rows, max(trace.rows - cheap, rows, 0.0))
        return BATCH * (trace.rows - live) + live

    rows, at = forced(0.5)
    return Bound(cost(0.0), cost(forced(1.0)[0]), cost(rows), at)


def twin(trace: Trace, at: float) -> Trace:
    """Return a trace that is the same until an instant; then batches bring nothing more, and the live path is half as fast."""
    before = [step for step in trace.batch if step[0] < at]
    live = [*(step for step in trace.live if step[0] < at), (at, value(trace.live, at) / 2)]
    return replace(trace, name=f"{trace.name}, twin", batch=(*before, (at, 0.0)), live=live)
