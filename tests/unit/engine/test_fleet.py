"""One queue for several endpoints: who gets the next row, what a closed endpoint gives back, and what its failures count as."""

import anyio
import pytest
from fleets import REFUSED, Fleet
from virtual import BACKEND

from runner.admission import Permit
from runner.errors import AttemptError

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> object:
    return BACKEND


async def test_the_quicker_endpoint_is_asked_first_and_the_slower_one_once_that_is_in_use() -> None:
    fleet = Fleet({}, {}, each=8)
    permits = [await fleet.go() for _ in range(16)]
    await anyio.sleep(1)
    for permit in permits:
        if permit.endpoint == 0:
            fleet.answered(permit)
    await anyio.sleep(4)
    for permit in list(fleet.standings):
        fleet.answered(permit)
    assert [(await fleet.go()).endpoint for _ in range(4)] == [0] * 4
    assert {(await fleet.go()).endpoint for _ in range(8)} == {0, 1}


async def test_the_last_rows_wait_for_the_quick_endpoint_and_many_rows_do_not() -> None:
    fleet = Fleet({}, {})
    await fleet.known(1, 20)
    quick = [await fleet.go(), await fleet.go()]
    assert [permit.endpoint for permit in quick] == [0, 0]
    fleet.lanes.last()
    assert await fleet.may_go() is None
    async with anyio.create_task_group() as group:
        # so many that the quick one would need longer for them all
        for _ in range(60):
            group.start_soon(fleet.go)
        # the endpoints are looked at again within a second
        await anyio.sleep(1.1)
        assert sorted(permit.endpoint for permit in fleet.standings) == [0, 0, 1, 1]
        group.cancel_scope.cancel()


async def test_weights_give_turns() -> None:
    fleet = Fleet({"weight": 3.0}, {}, {"weight": 0.5}, each=100)
    went = [(await fleet.go()).endpoint for _ in range(90)]
    assert [went.count(number) for number in range(3)] == [60, 20, 10]


async def test_an_endpoint_that_is_not_there_is_closed_after_three_failures_and_the_rows_go_on_at_once() -> None:
    fleet = Fleet({}, {}, each=3)
    permits = [await fleet.go() for _ in range(6)]
    for permit in permits:
        if permit.endpoint == 0:
            assert fleet.failed(permit).elsewhere
    assert (fleet.lane.out_of_service_s, fleet.lane.blocked) == (0, False)
    assert "e0: server unreachable" in (fleet.lane.state().waiting or "")
    for permit in permits:
        if permit.endpoint == 1:
            fleet.answered(permit)
    assert {(await fleet.go()).endpoint for _ in range(3)} == {1}


async def test_a_row_that_waits_for_the_limit_of_an_endpoint_comes_back_if_that_closes() -> None:
    fleet = Fleet({}, {}, rpm=6)
    first, second = await fleet.go(), await fleet.go()
    assert {first.endpoint, second.endpoint} == {0, 1}
    found: list[Permit] = []

    async def one() -> None:
        found.append(await fleet.go())

    async with anyio.create_task_group() as group:
        group.start_soon(one)
        await anyio.sleep(1)
        # both limits hold, so that the row waits at one of them; both close, and one of them for long
        fleet.failed(first, REFUSED)
        fleet.lane.pause(500, "503", asked=True)
        fleet.answered(second)
        await anyio.sleep(20)
        assert [permit.endpoint for permit in found] == [second.endpoint]
        group.cancel_scope.cancel()


async def test_a_fallback_is_open_while_all_others_are_closed_for_a_reason_that_counts() -> None:
    for reasons, opened in ((frozenset({"rate_limited"}), 1), (frozenset({"outage"}), None)):
        fleet = Fleet({}, {"fallback": True}, on=reasons)
        standing = fleet.failed(await fleet.go(), REFUSED)
        assert standing.elsewhere is (opened is not None)
        permit = await fleet.may_go(standing)
        assert (permit.endpoint if permit is not None else None) == opened


async def test_failures_of_an_endpoint_that_is_left_out_count_against_no_row() -> None:
    fleet = Fleet({}, {})
    permit = await fleet.go()
    standing = fleet.failed(permit, AttemptError("broken", code="closed"))
    assert fleet.lane.counted(standing) == 1
    fleet.roster.take_out(fleet.roster.members[permit.endpoint], "auth")
    assert fleet.lane.counted(standing) == 0
    assert (await fleet.go(standing)).endpoint != permit.endpoint
