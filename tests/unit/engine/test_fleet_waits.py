"""One queue for several endpoints: what limits per minute, silence and closed doors make of it, and what the ledger says."""

from functools import partial
from typing import Any

import anyio
import pytest
from fleets import NOBODY, REFUSED, Fleet
from virtual import BACKEND

from runner.admission import Permit
from runner.engine.limits.choice import is_too_slow
from runner.engine.limits.roster import Member
from runner.errors import AttemptTimeoutError
from runner.model import Attempt

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> object:
    return BACKEND


def limit(fleet: Fleet, number: int, rpm: float) -> None:
    """Have one endpoint report a limit."""
    raw = [(b"x-ratelimit-limit-requests", str(rpm).encode()), (b"x-ratelimit-remaining-requests", b"1000")]
    permit = next(permit for permit in fleet.standings if permit.endpoint == number)
    fleet.lane.heard(permit, 200, raw)


def refused_with(code: str, permit: Permit) -> Attempt:
    return Attempt(key="k", number=1, started_at=0.0, duration_s=0.0, model="m", error_code=code, error=code, status=400)


async def test_the_last_rows_do_not_wait_for_the_limit_of_one_endpoint_if_others_answer_them_sooner() -> None:
    fleet = Fleet({}, {}, each=2)
    permits = [await fleet.go() for _ in range(4)]
    limit(fleet, 0, 2)
    await anyio.sleep(1)
    for permit in permits:
        if permit.endpoint == 0:
            fleet.answered(permit)
    await anyio.sleep(2)
    others = [permit for permit in permits if permit.endpoint == 1]
    # the first one is three times as quick, and takes two requests a minute
    fleet.lanes.last()
    found: list[int] = []

    async def one() -> None:
        found.append((await fleet.go()).endpoint)

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(one)
        await anyio.sleep(0.2)
        for permit in others:
            fleet.answered(permit)
        fleet.lanes.look()
        await anyio.sleep(6)
        for permit in list(fleet.standings):
            fleet.answered(permit)
        await anyio.sleep(2)
        group.cancel_scope.cancel()
    assert len(found) == 3
    assert found.count(0) <= 1


async def test_a_row_that_waits_for_a_limit_goes_elsewhere_once_no_further_row_comes() -> None:
    fleet = Fleet({}, {}, each=2)
    permits = [await fleet.go() for _ in range(4)]
    for number in range(2):
        limit(fleet, number, 1)
    await anyio.sleep(1)
    for permit in permits:
        fleet.answered(permit)
    went: list[Permit] = []

    async def one() -> None:
        went.append(await fleet.go())

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(one)
        await anyio.sleep(1)
        # the first two are the burst of both
        assert len(went) == 2
        (held,) = [lane for lane in fleet.lane._lanes.values() if lane._inside]
        fleet.lane._lanes[1 - held.member.number]._rates._rates["rpm"].change(600)
        await anyio.sleep(5)
        assert len(went) == 2
        fleet.lanes.last()
        await anyio.sleep(2)
        assert [permit.endpoint for permit in went[2:]] == [1 - held.member.number]
        group.cancel_scope.cancel()


async def test_a_silent_endpoint_gets_no_rows_until_it_is_heard_of() -> None:
    fleet = Fleet({}, {}, each=4)
    permits = [await fleet.go() for _ in range(4)]
    await anyio.sleep(0.5)
    quick = [permit for permit in permits if permit.endpoint == 0]
    silent = [permit for permit in permits if permit.endpoint == 1]
    assert [len(quick), len(silent)] == [2, 2]
    for permit in quick:
        fleet.begun(permit)
        fleet.answered(permit)
    await anyio.sleep(6)
    rows = [await fleet.go() for _ in range(4)]
    assert {permit.endpoint for permit in rows} == {0}
    # the quick one has no slot, and the silent one has two: the row waits
    assert await fleet.may_go() is None
    assert "e1: no answer" in (fleet.lane.state().waiting or "")
    fleet.begun(silent[0])
    assert (await fleet.go()).endpoint == 1


async def test_where_all_are_silent_rows_go_out_as_ever() -> None:
    fleet = Fleet({}, {}, each=2)
    await fleet.known(1, 2)
    [await fleet.go(), await fleet.go()]
    await anyio.sleep(60)
    assert {(await fleet.go()).endpoint for _ in range(2)} == {0, 1}


async def test_a_last_row_does_not_wait_for_a_quick_endpoint_that_is_silent_now() -> None:
    fleet = Fleet({}, {}, each=4)
    permits = [await fleet.go() for _ in range(8)]
    await anyio.sleep(0.5)
    for permit in permits:
        fleet.begun(permit)
        if permit.endpoint == 1:
            fleet.answered(permit)
    await anyio.sleep(19.5)
    for permit in permits:
        if permit.endpoint == 0:
            fleet.answered(permit)
    # the second one is forty times as quick, and answers nothing from now on
    assert {(await fleet.go()).endpoint for _ in range(4)} == {1}
    fleet.lanes.last()
    await anyio.sleep(10)
    permit = await fleet.may_go()
    assert permit is not None
    assert permit.endpoint == 0


async def silence(fleet: Fleet, seconds: float) -> list[Permit]:
    """Have the first endpoint answer, and the second be silent; return what is open there at the end of the run."""
    permits = [await fleet.go() for _ in range(6)]
    given_up: list[Permit] = []
    for permit in permits:
        permit.give_up = partial(given_up.append, permit)
    await anyio.sleep(0.5)
    for permit in permits:
        if permit.endpoint == 0:
            fleet.begun(permit)
            fleet.answered(permit)
    fleet.lanes.last()
    await anyio.sleep(seconds)
    fleet.lanes.look()
    return given_up


async def test_at_the_end_of_a_run_what_is_open_at_a_silent_endpoint_is_given_up_once() -> None:
    fleet = Fleet({}, {}, each=3)
    assert not await silence(fleet, 29)
    fleet.lanes.look()
    fleet = Fleet({}, {}, each=3)
    given_up = await silence(fleet, 31)
    assert [permit.endpoint for permit in given_up] == [1, 1, 1]
    standings = [fleet.failed(permit, AttemptTimeoutError("silent", timeout="first_byte")) for permit in given_up]
    # it is an outage, in which nothing counts against a row; and another endpoint takes them
    assert [fleet.lane.counted(standing) for standing in standings] == [0, 0, 0]
    assert all(standing.elsewhere for standing in standings)
    again = [await fleet.go(standing) for standing in standings]
    assert {permit.endpoint for permit in again} == {0}
    for permit in again:
        permit.give_up = partial(given_up.append, permit)
    await anyio.sleep(400)
    fleet.lanes.look()
    assert len(given_up) == 3


async def test_one_long_answer_of_an_endpoint_that_has_answered_is_not_given_up() -> None:
    fleet = Fleet({}, {}, each=3)
    await fleet.known(1, 2)
    permits = [await fleet.go() for _ in range(2)]
    given_up: list[Permit] = []
    for permit in permits:
        permit.give_up = partial(given_up.append, permit)
    assert {permit.endpoint for permit in permits} == {0, 1}
    fleet.begun(permits[0])
    fleet.lanes.last()
    await anyio.sleep(300)
    fleet.lanes.look()
    assert not given_up


async def test_free_slots_count_for_what_keeps_the_rows_from_them() -> None:
    async def causes(fleet: Fleet, begin: Any) -> dict[str, float]:
        fleet.lanes.ledger.begin()
        async with anyio.create_task_group() as group:
            await begin()
            fleet.lanes.ledger.last()
            for _ in range(20):
                group.start_soon(fleet.go)
            await anyio.sleep(30)
            group.cancel_scope.cancel()
        return {cause: round(seconds) for cause, seconds in fleet.lanes.ledger.read().free.items() if round(seconds)}

    # one endpoint is full, and the other waits for its limit
    fleet = Fleet({}, {}, each=4)

    async def full_and_limited() -> None:
        permits = [await fleet.go() for _ in range(8)]
        limit(fleet, 1, 1)
        for permit in permits:
            if permit.endpoint == 1:
                fleet.answered(permit)

    found = await causes(fleet, full_and_limited)
    assert set(found) == {"rpm"}
    # one endpoint is full, and the other is out of service
    fleet = Fleet({}, {}, each=4)

    async def full_and_down() -> None:
        permits = [await fleet.go() for _ in range(8)]
        for permit in permits:
            if permit.endpoint == 1:
                fleet.failed(permit, NOBODY)

    found = await causes(fleet, full_and_down)
    assert set(found) <= {"outage"}
    # a fallback that gets no rows has no slots for the session
    fleet = Fleet({}, {"fallback": True}, each=4)

    async def full() -> None:
        for _ in range(4):
            await fleet.go()

    assert not await causes(fleet, full)


async def test_a_fallback_takes_what_would_wait_long_for_limits_per_minute() -> None:
    for reasons, taken in ((frozenset({"rate_limited"}), True), (frozenset({"outage"}), False)):
        fleet = Fleet({}, {"fallback": True}, each=9, on=reasons, rpm=10)
        assert (await fleet.go()).endpoint == 0
        # the next one is due after six seconds
        start = anyio.current_time()
        with anyio.move_on_after(30):
            permits = [await fleet.go(), await fleet.go()]
            assert {permit.endpoint for permit in permits} == ({0, 1} if taken else {0})
            assert (anyio.current_time() - start < 7) is taken
    # a limit that lets the next row through soon is no reason
    fleet = Fleet({}, {"fallback": True}, each=90, on=frozenset({"rate_limited"}), rpm=120)
    assert {(await fleet.go()).endpoint for _ in range(9)} == {0}


async def test_content_that_is_refused_uses_up_no_attempt_and_goes_to_the_fallback_once() -> None:
    fleet = Fleet({}, {"fallback": True}, on=frozenset({"content_policy"}))
    permit = await fleet.go()
    standing = fleet.standings[permit]
    standing.ended = anyio.current_time()
    fleet.lane.refused(standing, permit, refused_with("content_policy", permit))
    fleet.lane.release(permit)
    assert await fleet.lane.fate(standing) == "again"
    assert (fleet.lane.counted(standing), standing.elsewhere) == (0, True)
    # the fallback is down, so that the row is asked where it was, and that is its end
    fleet.lane._lanes[1].pause(500, "503")
    permit = await fleet.go(standing)
    assert permit.endpoint == 0
    fleet.lane.refused(standing, permit, refused_with("content_policy", permit))
    assert await fleet.lane.fate(standing) == "fail"


async def test_a_refusal_that_another_endpoint_is_to_confirm_ends_no_outage_of_refusals() -> None:
    fleet = Fleet({}, {})
    permit = await fleet.go()
    lane = fleet.lane._lanes[permit.endpoint]
    lane._outage.refuse(anyio.current_time(), "forbidden", late=False)
    await anyio.sleep(1)
    probe = await fleet.go(fleet.lane.enter(0))
    assert (probe.probe, probe.endpoint) == (True, permit.endpoint)
    fleet.lane.refused(fleet.standings[probe], probe, refused_with("forbidden", probe))
    assert lane.blocked
    # the next probe may go
    assert lane._outage.probe_in_s is not None


@pytest.mark.parametrize("closed_by", ["contradictions", "refusals"])
async def test_an_endpoint_that_closes_gives_back_the_row_that_waits_for_its_limit(closed_by: str) -> None:
    fleet = Fleet({}, {}, each=60)
    permits = [await fleet.go() for _ in range(50)]
    limit(fleet, 0, 1)
    there = [permit for permit in permits if permit.endpoint == 0]
    fleet.roster.take_out(fleet.roster.members[1], "auth")
    async with anyio.create_task_group() as group:
        # the first is the burst of the limit
        group.start_soon(fleet.go)
        group.start_soon(fleet.go)
        await anyio.sleep(1)
        lane = fleet.lane._lanes[0]
        assert lane._inside
        fleet.roster.take_back(fleet.roster.members[1])
        if closed_by == "contradictions":
            for permit in [permit for permit in permits if permit.endpoint == 1][:3]:
                fleet.standings[permit].refused_at = 0
                fleet.answered(permit)
        else:
            fleet.roster.take_out(fleet.roster.members[1], "auth")
            for permit in there:
                fleet.standings[permit].ended = anyio.current_time()
                fleet.lane.refused(fleet.standings[permit], permit, refused_with("forbidden", permit))
            fleet.roster.take_back(fleet.roster.members[1])
        assert lane.blocked
        await anyio.sleep(1)
        assert not lane._inside
        group.cancel_scope.cancel()


async def test_a_pause_of_the_only_endpoint_in_service_is_what_rows_wait_for() -> None:
    fleet = Fleet({}, each=2)
    fleet.lanes.ledger.begin()
    fleet.failed(await fleet.go(), REFUSED)
    async with anyio.create_task_group() as group:
        group.start_soon(fleet.go)
        group.start_soon(fleet.go)
        await anyio.sleep(10)
        group.cancel_scope.cancel()
    assert fleet.lanes.ledger.read().free["pause"] > 8


async def test_the_most_slots_are_those_of_the_endpoints_that_get_requests() -> None:
    # there is room for more, as some may come
    fleet = Fleet({}, {}, each=4)
    assert fleet.lanes.ceiling == 8
    fleet.roster.join(Member(number=2, name="e2"))
    assert fleet.lanes.ceiling == 12
    fleet.roster.take_out(fleet.roster.members[0], "gone")
    assert fleet.lanes.ceiling == 8


async def test_a_request_that_ended_without_a_word_leaves_no_silence_behind() -> None:
    fleet = Fleet({}, {}, each=4)
    permits = [await fleet.go() for _ in range(4)]
    await anyio.sleep(0.5)
    for permit in permits:
        if permit.endpoint == 0:
            fleet.begun(permit)
            fleet.answered(permit)
        else:
            # it was cancelled before anything came
            fleet.lane.told_nothing(permit)
            fleet.over(permit)
    await anyio.sleep(60)
    assert fleet.lane.state().waiting is None
    assert {(await fleet.go()).endpoint for _ in range(8)} == {0, 1}


async def test_a_row_that_waits_for_a_limit_stays_there_as_long_as_no_other_endpoint_could_send_it_at_once() -> None:
    fleet = Fleet({}, {}, each=2)
    permits = [await fleet.go() for _ in range(4)]
    for number in range(2):
        limit(fleet, number, 1)
    await anyio.sleep(1)
    for permit in permits:
        fleet.answered(permit)
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(fleet.go)
        await anyio.sleep(1)
        every = [*fleet.lane._lanes.values()]
        (held,) = [lane for lane in every if lane._inside]
        assert not held.hinders(every)
        other = every[1 - held.member.number]
        other._rates._rates["rpm"].change(600)
        await anyio.sleep(5)
        assert held.hinders(every)
        other.pause(60, "503")
        assert not held.hinders(every)
        group.cancel_scope.cancel()


@pytest.mark.parametrize(("rows", "too_slow"), [(1, True), (3, True), (4, False), (5, False)])
async def test_an_endpoint_is_too_slow_for_the_last_rows_that_others_answer_before_it(rows: int, too_slow: bool) -> None:
    fleet = Fleet({}, {}, each=1)
    quick, slow = lanes = [*fleet.lane._lanes.values()]
    # the quick one answers a row each second, the first of them in two, as it is busy
    quick.usual_s, slow.usual_s = 1.0, 4.5
    assert is_too_slow(slow, lanes, rows, Permit(admitted_at=0.0)) is too_slow
    assert not is_too_slow(quick, lanes, rows, Permit(admitted_at=0.0))
