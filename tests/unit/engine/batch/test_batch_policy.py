"""The policy of mixed runs: rows wait in batches for as long as the live path could still send them all in time."""

from itertools import pairwise
from math import ceil
from typing import Any

import pytest
from batch_world import EPOCH, Trace, World, bound, twin
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from benchmarks.batch_traces import traces as benchmarked
from runner.batches import State
from runner.engine.batch.outlook import Decision, Flex, Live, Open, View
from runner.engine.batch.policy import CANCEL_S, MOST_PIECES, PIECES, USEFUL_S, decide, piece_rows

HOUR = 3600.0
KNOWN = Live(rows_per_s=10.0, most_slots=200, answer_s=5.0)
"""Half of it sends 18,000 rows an hour."""


def batch(number: int, waiting: int = 1000, *, state: State = "submitted", done: int = 0, at: float = 0.0, **more: float) -> Open:
    asked = more.get("asked")
    return Open(
        id=number,
        state=state,
        rows=waiting,
        waiting=waiting,
        done=done,
        submitted_at=EPOCH + at,
        cancel_asked_at=None if asked is None else EPOCH + asked,
    )


def view(at: float = 0.0, *batches: Open, open_rows: int = 0, hours: float | None = 8, **more: object) -> View:
    base = View(
        now=EPOCH + at,
        deadline=None if hours is None else EPOCH + hours * HOUR,
        began_at=EPOCH,
        batches=batches,
        open=open_rows,
        flying=0,
        live=KNOWN,
    )
    return structs.replace(base, **more)


def test_at_the_start_all_rows_go_into_batches() -> None:
    decision = decide(view(open_rows=20_000))
    assert (decision.live, decision.submit, decision.cancel, decision.late) == (0, 20_000, (), False)
    assert decision.piece_rows == ceil(20_000 / PIECES)
    assert EPOCH < decision.wake_at <= EPOCH + 60


@pytest.mark.parametrize("rows", [1, 24, 25, 700, 50_000, 1_000_000, 10_000_000])
@pytest.mark.parametrize("live", [Live(), KNOWN, Live(rows_per_s=0.01)])
def test_batches_are_many_but_not_too_many(rows: int, live: Live) -> None:
    size = piece_rows(rows, live)
    assert size >= 25
    assert ceil(rows / size) <= MOST_PIECES


def test_without_rows_nothing_is_done() -> None:
    decision = decide(view())
    assert (decision.live, decision.submit, decision.cancel, decision.overtake, decision.late) == (0, 0, (), (), False)


def test_without_a_deadline_batches_run_to_their_end_and_what_comes_back_goes_live() -> None:
    def at(*batches: Open, **seen: Any) -> tuple[int, bool]:
        decision = decide(structs.replace(view(90 * HOUR, *batches, hours=None), rows=10_000, **seen))
        assert (decision.cancel, decision.overtake, decision.late) == ((), (), False)
        assert decision.piece_rows >= 10_000
        return decision.live, decision.submit > 0

    # all go into batches first, whatever has come back of others
    assert at(open=10_000) == (0, True)
    assert at(batch(1), open=500, returned=200, returned_s=90.0) == (0, True)
    # then what has come back goes live: many at once, few after a minute, the last ones with the last batch
    assert at(batch(1), open=200, returned=200) == (200, False)
    assert at(batch(1), open=20, returned=20) == (0, False)
    assert at(batch(1), open=20, returned=20, returned_s=60.0) == (20, False)
    assert at(open=20, returned=20) == (20, False)
    # rows that nobody counted are read all the same
    assert at(batch(1), open=0) == (0, True)
    assert at(open=500, submitting="never") == (500, False)


def test_one_batch_is_cancelled_when_its_rows_could_no_longer_be_sent_and_not_before() -> None:
    # 9,000 rows take half an hour at half speed; a cancel took ten minutes; three more are for the last answer and its import
    waits = decide(view(8 * HOUR - 50 * 60, batch(1, 9000), cancels=[600.0]))
    assert waits.cancel == ()
    assert waits.wake_at <= EPOCH + 8 * HOUR - 48 * 60
    assert decide(view(8 * HOUR - 47 * 60, batch(1, 9000), cancels=[600.0])).cancel == (1,)
    # ... of which 8,000 are answered
    assert decide(view(8 * HOUR - 47 * 60, batch(1, 9000, done=8000), cancels=[600.0])).cancel == ()


def test_no_more_batches_are_cancelled_than_the_live_path_needs() -> None:
    many = [batch(number, at=number) for number in range(1, 19)]
    cancel = decide(view(8 * HOUR - 3600 - 10 * 60, *many, cancels=[400.0])).cancel
    assert 1 <= len(cancel) < 10


def test_the_least_promising_batch_is_cancelled_first() -> None:
    some = [batch(1, 4000, at=0, done=3000), batch(2, 4000, at=0), batch(3, 4000, at=60), batch(4, 4000, state="written")]
    order = [decide(view(8 * HOUR - left, *some, cancels=[400.0])).cancel for left in range(4800, 600, -60)]
    seen = list(dict.fromkeys(number for cancel in order for number in cancel))
    assert seen == [4, 3, 2, 1]
    assert all(set(a) <= set(b) for a, b in pairwise(order))


def test_one_cancel_is_tried_early_to_learn_how_long_they_take() -> None:
    some = [batch(1), batch(2)]
    assert decide(view(8 * HOUR - 2 * CANCEL_S - 300, *some)).cancel == ()
    tried = decide(view(8 * HOUR - 2 * CANCEL_S - 200, *some)).cancel
    assert len(tried) == 1
    # it took a minute: the other can wait; it lasts: the other cannot
    assert decide(view(8 * HOUR - CANCEL_S, batch(1), cancels=[60.0])).cancel == ()
    lasts = batch(2, state="cancelling", asked=8 * HOUR - 2 * CANCEL_S - 200)
    assert decide(view(8 * HOUR - CANCEL_S, batch(1), lasts)).cancel == (1,)


def test_rows_go_live_once_there_is_no_time_for_a_batch() -> None:
    few = decide(view(8 * HOUR - CANCEL_S - USEFUL_S, open_rows=100))
    assert (few.live, few.submit) == (100, 0)
    early = decide(view(6 * HOUR, open_rows=100))
    assert (early.live, early.submit) == (0, 100)


def test_rows_that_no_batch_takes_wait_for_one_until_they_must_go() -> None:
    assert decide(view(HOUR, open_rows=20_000, submitting="never")).live == 20_000
    full = decide(view(HOUR, open_rows=20_000, submitting="full"))
    assert (full.live, full.submit) == (0, 0)
    assert decide(view(HOUR, open_rows=20_000, submitting="full", room=300)).submit == 300
    must = decide(view(7 * HOUR, open_rows=20_000, submitting="full"))
    assert must.live > 5000
    assert must.submit == 0


def test_no_row_goes_live_a_second_time_because_it_is_on_its_way() -> None:
    first = decide(view(7 * HOUR, open_rows=20_000, submitting="full", cancels=[60.0]))
    then = decide(view(7 * HOUR, open_rows=20_000 - first.live, flying=first.live, submitting="full", cancels=[60.0]))
    assert then.live <= 1


def test_what_cannot_be_done_in_time_is_said_at_once_and_the_live_path_gets_all_it_can_take() -> None:
    decision = decide(view(open_rows=1_000_000))
    assert decision.late
    assert (
        decision.told
        == "the live path makes 600 rows a minute, too few for 1,000,000 rows in 8.0 h; it gets all that it can take"
    )
    assert decision.live >= 10 * 60 * 10
    assert decision.live + decision.submit == 1_000_000


def test_behind_the_deadline_everything_goes_live() -> None:
    late = decide(view(9 * HOUR, batch(1), batch(2, state="written"), open_rows=400, cancels=[60.0]))
    assert late.late
    assert late.told == "the deadline has passed with 2,400 rows left; they go live at up to 600 rows a minute"
    assert (late.live, late.submit, set(late.cancel)) == (400, 0, {1, 2})


def test_a_deadline_before_the_start_is_a_deadline_that_has_passed() -> None:
    decision = decide(view(open_rows=400, hours=-1))
    assert (decision.live, decision.submit, decision.late) == (400, 0, True)


def test_while_nothing_is_known_of_the_live_path_a_few_rows_try_it() -> None:
    first = decide(view(open_rows=20_000, live=Live()))
    assert (first.live, first.submit, first.late) == (32, 19_968, False)
    waits = decide(view(60, batch(1, 19_968), flying=32, live=Live()))
    assert (waits.live, waits.cancel, waits.late) == (0, (), False)
    # it does not answer: the worst is expected
    assert decide(view(HOUR, batch(1, 10_000), batch(2, 9968), flying=32, live=Live())).late
    assert decide(view(open_rows=3, live=Live())).live == 1


def test_the_speed_is_what_was_seen_else_what_limits_and_slots_allow() -> None:
    assert Live().speed is None
    assert Live(rows_per_s=10, measured=4).speed == 4
    assert Live(slots=8, answer_s=2).speed == 4
    assert Live(rows_per_s=10, slots=8, most_slots=64, answer_s=8).speed == 8
    assert Live(rows_per_s=10, slots=8, answer_s=8).speed == 10


def test_a_clock_that_jumps_back_makes_batches_wait() -> None:
    some = [batch(1, 9000, at=7.5 * HOUR), batch(2, 9000, state="cancelling", at=7.5 * HOUR, asked=7.6 * HOUR)]
    before = decide(view(7.7 * HOUR, *some))
    assert before.cancel == (1,)
    back = decide(view(-2 * HOUR, *some))
    assert (back.cancel, back.overtake, back.live, back.late) == ((), (), 0, False)
    assert back.wake_at <= EPOCH - 2 * HOUR + 60


def test_a_cancel_that_takes_too_long_is_overtaken_at_the_last_moment_only() -> None:
    def at(left_s: float, asked: float = 6.0, state: State = "cancelling") -> tuple[int, ...]:
        one = batch(1, 3000, state=state, done=1500, **({"asked": asked * HOUR} if state == "cancelling" else {}))
        return decide(view(8 * HOUR - left_s, one, cancels=[300.0])).overtake

    # 3,000 rows take 400 seconds at three quarters of the speed; three minutes are for the last answer and its import
    assert at(1200) == ()
    assert at(600) == (1,)
    # one that is young may end any moment
    assert at(600, asked=7.8) == ()
    # nor does the run wait beyond its time for results that are missing
    assert at(1200, state="ended") == ()
    assert at(600, state="ended") == (1,)


def test_flex_comes_before_standard_and_rows_wait_for_it_no_longer_than_they_can() -> None:
    flexible = structs.replace(KNOWN, flex=Flex(rows_per_s=3.0))
    early = decide(view(HOUR, batch(1, 30_000), open_rows=10_000, live=flexible, cancels=[60.0]))
    assert early.tier == "flex"
    assert early.live > 0
    assert 0 < early.flex_patience_s < 7 * HOUR
    late = decide(view(7.5 * HOUR, batch(1, 30_000), open_rows=10_000, live=flexible, cancels=[60.0]))
    assert (late.tier, late.flex_patience_s) == (None, 0.0)
    # flex that is full gets no more than what tries it; flex at the full price is none
    full = structs.replace(KNOWN, flex=Flex(rows_per_s=0.0))
    assert decide(view(HOUR, batch(1, 30_000), open_rows=10_000, live=full, cancels=[60.0])).live <= 1
    dear = structs.replace(KNOWN, flex=Flex(rows_per_s=3.0, price=1.0))
    assert decide(view(HOUR, open_rows=10_000, live=dear)).tier is None


def views() -> st.SearchStrategy[View]:
    states: list[State] = ["written", "creating", "submitted", "submitted", "cancelling", "ended"]

    def made(numbers: list[tuple[int, State, float, float]], at: float, **more: object) -> View:
        some = [
            batch(number, rows, state=state, done=int(rows * done), at=begun, asked=begun + 60)
            if state == "cancelling"
            else batch(number, rows, state=state, done=int(rows * done), at=begun)
            for number, (rows, state, done, begun) in enumerate(numbers)
        ]
        return view(at, *some, **more)

    one = st.tuples(st.integers(0, 5000), st.sampled_from(states), st.floats(0, 1), st.floats(0, 8 * HOUR))
    lives = st.builds(
        Live,
        rows_per_s=st.none() | st.floats(0.01, 100),
        answer_s=st.none() | st.floats(0.1, 100),
        measured=st.none() | st.floats(0, 100),
        flex=st.none() | st.builds(Flex, rows_per_s=st.none() | st.floats(0, 50)),
    )
    return st.builds(
        made,
        st.lists(one, max_size=12),
        st.floats(-HOUR, 10 * HOUR),
        open_rows=st.integers(0, 50_000),
        flying=st.integers(0, 2000),
        live=lives,
        cancels=st.lists(st.floats(1, 3000), max_size=3),
        submitting=st.sampled_from(["open", "full", "closed", "never"]),
        room=st.none() | st.integers(0, 9000),
    )


@settings(max_examples=60)
@given(seen=views(), careful=st.floats(0.05, 1.0), less=st.floats(0.1, 1.0))
def test_more_care_never_means_fewer_rows_live_or_fewer_cancels(seen: View, careful: float, less: float) -> None:
    bold, meek = decide(seen, careful), decide(seen, careful * less)
    check(seen, bold)
    assert meek.live >= bold.live
    # one that was cancelled to learn from may be another one than those that are needed
    assert set(meek.cancel) >= set(bold.cancel)


def check(seen: View, decision: Decision) -> None:
    """What is true of every decision: no row is given away twice, and only what can be cancelled is."""
    assert decision.live >= 0
    assert decision.submit >= 0
    assert decision.live + decision.submit <= seen.open
    states = {one.id: one.state for one in seen.batches}
    assert all(states[number] in ("submitted", "written") for number in decision.cancel)
    assert all(states[number] in ("cancelling", "creating", "ended") for number in decision.overtake)
    assert seen.now < decision.wake_at <= seen.now + seen.step_s


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    hours, rows = draw(st.floats(3, 12)), draw(st.integers(500, 20_000))
    # half the speed sends all rows in this share of the time
    rate = rows / (hours * HOUR * 0.5 * draw(st.floats(0.02, 0.7)))
    steps = draw(st.lists(st.tuples(st.floats(0, hours), st.sampled_from([0, 0, 0.3, 1, 5])), max_size=8))
    every = rows / (hours * HOUR)
    cancel_s, limit, answer_s = draw(st.floats(1, 600)), draw(st.sampled_from([None, rate])), draw(st.floats(1, 30))
    if limit is None:
        # the requests that are open at once tell the speed instead
        answer_s = draw(st.integers(4, 64)) / rate
    return Trace(
        name="drawn",
        says="",
        rows=rows,
        deadline_s=hours * HOUR,
        batch=((0.0, 0.0), *sorted((at * HOUR, share * every) for at, share in steps)),
        order=draw(st.sampled_from(["fifo", "shared"])),
        at_once=draw(st.none() | st.integers(1, 4)),
        stuck=draw(st.sampled_from([0.0, 0.0, 0.1])),
        refused=draw(st.sampled_from([(), ((0.0, 2 * HOUR),), ((HOUR, 20 * HOUR),)])),
        quota=draw(st.none() | st.just(max(1000, rows // 10))),
        cancel_s=((0.0, cancel_s), (hours * 0.8 * HOUR, draw(st.floats(0.5, 1.2)) * cancel_s)),
        works_on=draw(st.booleans()),
        counts=draw(st.booleans()),
        live=((0.0, rate),),
        limit=limit,
        answer_s=answer_s,
        flex=draw(st.sampled_from([None, ((0.0, rate / 3),), ((0.0, rate / 3), (hours * 0.6 * HOUR, 0.0))])),
    )


@settings(max_examples=12)
@given(trace=traces(), halves=st.none() | st.floats(0, 1))
def test_no_row_is_late_whatever_batches_do_and_no_batch_is_cancelled_in_vain(trace: Trace, halves: float | None) -> None:
    if halves is not None:
        trace = twin(trace, halves * trace.deadline_s)
    seen = list[tuple[View, Decision]]()

    def noted(now: View) -> Decision:
        decision = decide(now)
        check(now, decision)
        seen.append((now, decision))
        return decision

    played = World(trace, noted).play()
    assert played.late == 0
    assert played.by_batch + played.by_live + played.by_flex == trace.rows
    if trace.flex is not None:
        return
    for now, decision in seen:
        speed = (now.live.speed or 0.0) / 2
        left = now.open + now.flying + sum(one.undone for one in now.batches)
        spare_s = (now.deadline or 0.0) - now.now - 2 * CANCEL_S - USEFUL_S - 2 * trace.answer_s
        if decision.cancel and speed:
            assert left / speed > spare_s


def test_the_traces_of_the_benchmark_cost_little_more_than_an_oracle_would_pay() -> None:
    for trace in benchmarked(0):
        played, least = World(trace, decide).play(), bound(trace)
        assert played.late == 0, trace.name
        if least.careful <= 1.05 * least.oracle:
            assert played.cost <= 1.05 * least.oracle, trace.name
