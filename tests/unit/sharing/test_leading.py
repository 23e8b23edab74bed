"""What a lane asks for and tells while another run leads it, and who is waited for when that run has gone."""

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest
from sharing import SAME, Run
from simulating import until

from runner.engine.clock import Clock
from runner.engine.limits.ledger import Ledger
from runner.engine.limits.places import Places
from runner.engine.limits.shared_lane import SharedLane
from runner.engine.limits.slots import Slots
from runner.sharing import serving, share
from runner.sharing.hand import HEADERS_S, Hand
from runner.sharing.messages import Ask, Drop, FromRun, Headers
from runner.sharing.party import Notes, Party
from runner.sharing.share import Visit
from runner.sharing.times import BEAT_S, LATE_S, WELCOME_S

pytestmark = pytest.mark.anyio

LIMITS = [(b"date", b"x"), (b"x-ratelimit-limit-requests", b"120")]


@pytest.fixture
def runtime() -> Iterator[Path]:
    """A folder with a short path."""
    with tempfile.TemporaryDirectory(prefix="rt-", dir="/tmp") as name:
        yield Path(name)


class Time:
    """A clock that stands still until it is moved. read: how often it was read."""

    def __init__(self) -> None:
        self.now, self.read = 100.0, 0

    def __call__(self) -> float:
        self.read += 1
        return self.now


def unexpected(error: Exception) -> None:
    raise AssertionError from error


def lane_at(time: Time) -> SharedLane:
    places = Places(1_000, Ledger(time, 1_000, 1))
    return SharedLane("m", Slots(256, tuned=True, clock=time), places, {}, Clock(monotonic=time))


async def test_headers_of_good_answers_are_passed_on_now_and_then_and_those_of_refusals_always() -> None:
    time, said = Time(), list[FromRun]()
    hand = Hand(lane_at(time), time, unexpected)
    hand.begin(said.extend)
    for always, later_s in ((False, 0.0), (False, HEADERS_S / 2), (True, HEADERS_S / 2), (False, 1.25 * HEADERS_S)):
        time.now = 100.0 + later_s
        hand.hear(LIMITS, always=always)
    hand._flush()
    assert said == [Headers(LIMITS, refusal) for refusal in (False, True)]
    time.now = 100.0 + 2 * HEADERS_S
    hand.hear(LIMITS, always=False)
    hand._flush()
    assert len(said) == 3


async def test_a_lane_in_an_outage_wants_a_ticket_for_its_probe_alone() -> None:
    time = Time()
    lane = lane_at(time)
    hand = Hand(lane, time, unexpected)
    hand.begin(None)
    rows = [asyncio.ensure_future(lane.acquire(lane.enter(0), 100, 10)) for _ in range(5)]
    await until(lambda: len(lane.wants(standard=False)) == 5)
    lane._outage.refuse(time.now, "forbidden", late=False)
    assert lane.wants(standard=False) == []
    time.now += 60
    assert len(lane.wants(standard=False)) == 1
    for row in rows:
        row.cancel()
    await asyncio.wait(rows)


async def test_the_last_of_two_waits_for_nobody(runtime: Path) -> None:
    one = Run(runtime)
    await one.with_others(0)
    other = Run(runtime)
    await one.with_others(2)
    await other.with_others(2)
    await one.end()
    await until(lambda: other.share._serving is not None)
    serving = other.share._serving
    assert serving is not None
    assert (serving._office, other.lane._leader) == (None, None)
    await other.end()


async def test_the_most_slots_are_those_that_the_present_runs_may_have_together(runtime: Path) -> None:
    runs = [Run(runtime, slots=3)]
    await runs[0].with_others(0)
    for number, slots in ((2, 5), (3, 40)):
        runs.append(Run(runtime, slots=slots))
        await runs[0].with_others(number)
    serving = runs[0].share._serving
    assert serving is not None
    assert serving._office is not None
    assert serving._office.lane._slots.ceiling == 48
    await runs.pop().end()
    await runs[0].with_others(2)
    assert serving._office.lane._slots.ceiling == 8
    for run in runs:
        await run.end()


@pytest.mark.parametrize("stopped", [True, False])
async def test_a_run_that_was_stopped_itself_reads_first_what_has_come(stopped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share, "BEAT_S", 0.001)
    time = Time()
    lane = lane_at(time)
    hand = Hand(lane, time, unexpected)
    visit = Visit(Party(lane, hand, Clock(monotonic=time), SAME, "this run", Notes(lambda _: None), unexpected))
    over = asyncio.ensure_future(visit.over())
    before = time.read
    await until(lambda: time.read > before + 2)
    if stopped:
        time.now += 60
        before = time.read
        await until(lambda: time.read > before + 2 or over.done())
        assert not visit.silent
        over.cancel()
    else:
        for _ in range(3):
            before = time.read
            time.now += min(BEAT_S + LATE_S, WELCOME_S / 2)
            await until(lambda before=before: time.read > before + 1 or over.done())  # type: ignore[misc]
        assert visit.silent
    await asyncio.wait([over])


async def test_a_run_that_serves_and_was_stopped_gives_nobody_up_for_that(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "BEAT_S", 0.01)
    later_s = 0.0
    one = Run(runtime, clock=Clock(monotonic=lambda: monotonic() + later_s))
    await one.with_others(0)
    other = Run(runtime)
    await one.with_others(2)
    found = one.share._serving
    assert found is not None
    office = found._office
    assert office is not None
    later_s = 600.0
    woken = monotonic() + later_s
    await until(lambda: all(guest.heard_at >= woken for guest in office.guests))
    assert len(office.guests) == 2
    assert len(one.notes) == 1
    await other.end()
    await one.end()


async def test_a_row_that_is_cancelled_gives_back_its_ticket_though_nobody_says_anything() -> None:
    time, said = Time(), list[FromRun]()
    lane = lane_at(time)
    hand = Hand(lane, time, unexpected)
    hand.begin(said.extend)
    row = asyncio.ensure_future(lane.acquire(lane.enter(0), 100, 10))
    await until(lambda: bool(said))
    (asked,) = said
    assert isinstance(asked, Ask)
    row.cancel()
    await until(lambda: len(said) > 1)
    assert said[1:] == [Drop([asked.tickets[0].number])]
