"""Whose refusal it is: the rule by itself, and with the engine and a server in virtual time."""

from collections.abc import AsyncGenerator, Callable
from typing import Any

import anyio
import pytest
from virtual import BACKEND
from world import Server, World, an_item

from runner.admission import Permit, Standing
from runner.engine import pipeline
from runner.engine.judge import UNREACHED_S
from runner.engine.limits.holding import ALONE_S
from runner.engine.limits.streak import ALIKE, ALIKE_AT_FIRST, RAISED, Streak, look
from runner.errors import AttemptError, ProviderError
from runner.model import Attempt, Item, Outcome

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> object:
    return BACKEND


# -- how a refusal looks


def test_refusals_that_differ_in_numbers_and_ids_look_alike() -> None:
    one = look("bad_request", 403, "403: Blocked at 12:01:07, ray 8f3a1-FRA, request req_011CQ, row 17")
    assert one == look("bad_request", 403, "403: Blocked at 13:59:00, ray 9bb00-FRA, request req_99ZZ, row 4")
    assert one != look("bad_request", 403, "403: Forbidden at 12:01:07, ray 8f3a1-FRA, request req_011CQ, row 17")
    assert one != look("bad_request", 404, "403: Blocked at 12:01:07, ray 8f3a1-FRA, request req_011CQ, row 17")
    assert one != look("not_found", 403, "403: Blocked at 12:01:07, ray 8f3a1-FRA, request req_011CQ, row 17")
    assert look(None, None, None) == look(None, None, "")


# -- the rule


class Bench:
    """A streak with a clock that each event moves on by a second."""

    def __init__(self, *, succeeded: bool = True) -> None:
        self.streak, self.now = Streak(), 0.0
        if succeeded:
            self.streak.succeeded()

    def send(self) -> Permit:
        self.now += 1
        permit = Permit(admitted_at=self.now)
        if self.streak.watching:
            self.streak.sent(permit)
        return permit

    def refuse(self, standing: Standing | None = None, kind: str = "no", permit: Permit | None = None) -> tuple[Standing, bool]:
        standing, permit = standing or Standing(), permit or self.send()
        self.now += 1
        began = self.streak.refused(standing, permit, kind, self.now)
        if began:
            self.streak.begin(kind)
        return standing, began

    def answer(self, permit: Permit | None = None) -> None:
        permit = permit or self.send()
        self.now += 1
        if self.streak.watching:
            self.streak.answered(permit)

    def fate(self, standing: Standing) -> str | None:
        return self.streak.held[standing].fate


def test_so_many_alike_are_the_endpoints_and_all_are_tried_again() -> None:
    bench = Bench()
    held = [bench.refuse() for _ in range(ALIKE)]
    assert [began for _, began in held] == [False] * (ALIKE - 1) + [True]
    assert bench.streak.refusing
    assert {bench.fate(standing) for standing, _ in held} == {"again"}


def test_before_the_first_answer_more_are_needed() -> None:
    bench = Bench(succeeded=False)
    assert [bench.refuse()[1] for _ in range(ALIKE_AT_FIRST)] == [False] * (ALIKE_AT_FIRST - 1) + [True]


def test_one_that_was_answered_between_shows_that_the_rows_are_the_cause() -> None:
    bench = Bench()
    for _ in range(5):
        held = [bench.refuse() for _ in range(ALIKE - 1)]
        assert {bench.fate(standing) for standing, _ in held} == {None}
        bench.answer()
        assert {bench.fate(standing) for standing, _ in held} == {"fail"}
        assert not any(began for _, began in held)
        for standing, _ in held:
            bench.streak.let_go(standing)
    assert not bench.streak.watching


def test_an_answer_to_what_was_sent_before_proves_nothing() -> None:
    bench = Bench()
    early = bench.send()
    held = [bench.refuse() for _ in range(ALIKE - 1)]
    bench.answer(early)
    assert {bench.fate(standing) for standing, _ in held} == {None}
    assert bench.refuse()[1]


def test_an_answer_proves_nothing_about_what_was_refused_after_its_request_was_sent() -> None:
    bench = Bench()
    first, _ = bench.refuse()
    between = bench.send()
    later, _ = bench.refuse()
    bench.answer(between)
    assert (bench.fate(first), bench.fate(later)) == ("fail", None)


def test_an_answer_that_has_begun_keeps_older_refusals_from_counting_until_it_ends() -> None:
    bench = Bench()
    for _ in range(ALIKE - 1):
        bench.refuse()
    begun = bench.send()
    begun.accepted = True
    assert not bench.refuse()[1]
    bench.streak.ended(begun)
    assert bench.refuse()[1]


def test_refusals_of_another_look_do_not_count_and_do_not_break_the_streak() -> None:
    bench = Bench()
    for number in range(ALIKE - 1):
        assert not bench.refuse()[1]
        assert not bench.refuse(kind=f"other {chr(97 + number)}")[1]
    assert bench.refuse()[1]


def test_a_row_that_is_refused_again_after_an_outage_counts_no_more_and_raises_the_number() -> None:
    bench = Bench()
    held = [bench.refuse()[0] for _ in range(ALIKE)]
    for standing in held:
        bench.streak.let_go(standing)
    bench.streak.end()
    for standing in held:
        assert not bench.refuse(standing)[1]
        assert bench.fate(standing) is None
    assert bench.streak.needed("no") == RAISED * ALIKE
    assert bench.streak.needed("another") == ALIKE
    # others are still counted
    assert [bench.refuse()[1] for _ in range(RAISED * ALIKE)].index(True) == RAISED * ALIKE - 1


def test_a_row_that_is_refused_in_another_way_after_an_outage_counts() -> None:
    bench = Bench()
    held = [bench.refuse()[0] for _ in range(ALIKE)]
    bench.streak.end()
    assert [bench.refuse(standing, "another")[1] for standing in held][-1]
    assert bench.streak.needed("no") == ALIKE


def test_what_is_refused_in_an_outage_is_tried_again_and_counts_nothing() -> None:
    bench = Bench()
    for _ in range(ALIKE):
        bench.refuse()
    for kind in ("no", "another"):
        standing, began = bench.refuse(kind=kind)
        assert (bench.fate(standing), began) == ("again", False)
    bench.streak.end()
    assert not bench.refuse()[1]


def test_rows_that_failed_because_they_were_the_last_ones_still_count() -> None:
    bench = Bench()
    for _ in range(ALIKE - 1):
        standing, _ = bench.refuse()
        bench.streak.give_up()
        assert bench.fate(standing) == "fail"
        bench.streak.let_go(standing)
    assert bench.refuse()[1]


# -- with the engine


BAD = ProviderError("400: no such field 7", code="bad_request", verdict="fail", status=400)
FORBIDDEN = ProviderError("403: not from here", code="bad_request", verdict="fail", status=403)


def world(fault: Callable[[str, float], AttemptError | None], *, ceiling: int = 8, **more: Any) -> World:
    return World(Server(fault=fault, service=(0.5, 1.0)), ceiling=ceiling, tuned=False, **more)


def during(begin: float, end: float, error: AttemptError = FORBIDDEN) -> Callable[[str, float], AttemptError | None]:
    return lambda _item, since: error if begin <= since < end else None


def outcomes(made: World) -> tuple[int, int]:
    return len(made.outcomes) - len(made.failed), len(made.failed)


@pytest.mark.parametrize("ceiling", [1, 8, 64])
async def test_a_while_of_refusals_fails_nothing(ceiling: int) -> None:
    made = world(during(5, 15), ceiling=ceiling)
    await made.work(300)
    assert outcomes(made) == (300, 0)
    assert made.server.requests - 300 < 2 * ALIKE + ceiling + 15


async def test_one_that_is_refused_costs_one_request_and_does_not_wait() -> None:
    made = world(lambda item, _since: BAD if item == "99" else None)
    await made.work(100)
    assert (outcomes(made), made.server.requests) == ((99, 1), 100)
    (failed,) = made.failed
    assert (failed.attempt, failed.booked, failed.attempts, failed.error_code) == (None, True, 1, "bad_request")
    # it was the last one, and is on the books by itself
    assert [entry.key for entry in made.entries if isinstance(entry, Attempt)] == ["99"]
    assert made.server.times[-1] + 2.0 > made.server.since


async def test_it_stops_when_the_patience_is_over_and_what_was_held_stays_open() -> None:
    made = world(during(5, float("inf")))
    with anyio.fail_after(600):
        await made.work(300)
    assert made.stop.error is not None
    assert (made.stop.error.code, made.failed) == ("refused", [])
    assert str(made.stop.error).startswith("403: not from here (every row was refused for 2 min)")
    assert 120 < made.server.since < 150
    assert len(made.outcomes) == made.server.served
    # each request is on the books
    assert len(made.entries) == made.server.requests


async def test_an_endpoint_that_refuses_from_the_first_answer_on_gets_less_patience() -> None:
    made = world(during(0, float("inf")))
    await made.work(300)
    assert made.stop.error is not None
    assert made.stop.error.code == "refused"
    assert UNREACHED_S < made.server.since < UNREACHED_S + 10
    assert made.outcomes == []


async def test_a_few_rows_that_are_all_refused_fail_at_once() -> None:
    made = world(during(0, float("inf")))
    await made.work(5)
    assert (outcomes(made), made.server.requests) == ((0, 5), 5)
    assert made.server.since < 1


async def test_a_stop_leaves_what_is_held_open() -> None:
    made = world(lambda item, _since: BAD if int(item) >= 1 else None)

    async def stop() -> None:
        await anyio.sleep(3)
        made.stop.request("by hand", grace_s=1.0)

    async def source() -> AsyncGenerator[Item | Outcome, None]:
        for number in range(4):
            yield an_item(number)
            await anyio.sleep(0.9)
        await anyio.sleep_forever()

    async with anyio.create_task_group() as group:
        group.start_soon(stop)
        await pipeline.run(source(), made.attempts.handle, made.save, workers=8, stop=made.stop)
    # each row came less than ALONE_S after the one before, so none of them was taken for the last one
    assert outcomes(made) == (1, 0)
    assert {entry.key for entry in made.entries if isinstance(entry, Attempt)} == {"1", "2", "3"}


async def test_a_row_that_is_held_while_more_may_come_waits_a_moment() -> None:
    made = world(lambda item, _since: BAD if item == "1" else None)

    async def source() -> AsyncGenerator[Item | Outcome, None]:
        yield an_item(0)
        await anyio.sleep(5)
        yield an_item(1)
        await anyio.sleep(60)
        yield an_item(2)

    await pipeline.run(source(), made.attempts.handle, made.save, workers=8, stop=made.stop)
    assert outcomes(made) == (2, 1)
    order = [entry.key for entry in made.outcomes]
    assert order == ["0", "1", "2"]
    assert ALONE_S < 60


async def test_each_lane_has_its_own_streak() -> None:
    made = world(lambda item, since: FORBIDDEN if item.startswith("b") and 5 <= since < 30 else None)
    await made.work(an_item(f"{'ab'[number % 2]}{number}", model="ab"[number % 2]) for number in range(200))
    assert outcomes(made) == (200, 0)
    # the other model's rows did not wait
    assert [entry.key for entry in made.outcomes[:100]].count("a") <= 100
    assert sum(entry.key.startswith("a") for entry in made.outcomes[:130]) == 100


@pytest.mark.parametrize("share", [0.5, 0.9])
async def test_rows_that_are_refused_for_themselves_fail_and_no_other(share: float) -> None:
    bad = {str(number) for number in range(10, 300) if (number * 7919) % 100 < 100 * share}
    made = world(lambda item, _since: BAD if item in bad else None)
    await made.work(300)
    assert {outcome.key for outcome in made.failed} == bad
    assert made.stop.error is None
    assert made.server.since < 200


async def test_the_screen_quotes_the_last_answer() -> None:
    made = world(during(5, 20))
    seen: set[str] = set()

    async def look_on() -> None:
        while True:
            await anyio.sleep(0.5)
            seen.update(words for state in made.lanes.states() if (words := state.waiting))

    async with anyio.create_task_group() as group:
        group.start_soon(look_on)
        await made.work(300)
        group.cancel_scope.cancel()
    assert seen
    for words in seen:
        assert words.startswith("server refusing all rows for ")
        assert words.endswith("(403: not from here); retrying")
