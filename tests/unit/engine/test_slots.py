"""Slots: they adapt to the server's limit, and a short disturbance does not cost all of them."""

import itertools
import random
from collections.abc import Callable, Sequence

import anyio
import pytest
from virtual import BACKEND
from world import Server, World, busy, experiment, limited

from runner.admission import Permit
from runner.engine.limits.slots import (
    FIXED_DOUBLING_S,
    FIXED_START,
    HOLD_ANSWERS,
    HOLD_PAUSES,
    HOLD_S,
    REOPENED_DOUBLING_S,
    START,
    Slots,
)
from runner.errors import AttemptError

Fault = Callable[[float, float], AttemptError | None]


class Crew:
    """Slots with a clock that stands still until a test moves it."""

    def __init__(self, ceiling: int = 256, *, tuned: bool = True) -> None:
        self.now = 100.0
        self.slots = Slots(ceiling, tuned=tuned, clock=lambda: self.now)

    @property
    def limit(self) -> int:
        return self.slots.limit

    def send(self, most: int = 10_000) -> list[Permit]:
        """Send as many requests as allowed, up to ``most``."""
        sent: list[Permit] = []
        while len(sent) < most and self.slots.may_take():
            permit = Permit(admitted_at=self.now)
            self.slots.take(permit)
            sent.append(permit)
        return sent

    def answer(self, permits: Sequence[Permit]) -> None:
        for permit in permits:
            self.slots.accepted(permit)
        self.give_back(permits)

    def refuse(self, permits: Sequence[Permit]) -> list[bool]:
        firsts = [self.slots.refuse(permit) for permit in permits]
        self.give_back(permits)
        return firsts

    def give_back(self, permits: Sequence[Permit]) -> None:
        for permit in permits:
            self.slots.give_back(permit)

    def grow(self, to: int) -> None:
        """Let answers come one at a time, each followed by as many requests as allowed, until there are ``to`` slots."""
        sent = self.send()
        while self.limit < to:
            self.answer([sent.pop(0)])
            sent += self.send()
        self.give_back(sent)
        assert (self.limit, self.slots.out) == (to, 0)

    def work(self, answers: int) -> None:
        """Let a number of answers come, one at a time, while all slots are in use."""
        sent = self.send()
        for _ in range(answers):
            self.answer([sent.pop(0)])
            sent += self.send()
        self.give_back(sent)

    def hold(self, pause_s: float = 0.0) -> None:
        """Let the time after trouble pass in which no further slot is tried, with good answers."""
        for _ in range(2 * HOLD_ANSWERS):
            self.now += max(HOLD_S, HOLD_PAUSES * pause_s) / HOLD_ANSWERS
            self.answer(self.send(1))


# -- growing


@pytest.mark.parametrize(("ceiling", "start"), [(256, START), (START, START), (3, 3), (1, 1)])
def test_it_starts_small(ceiling: int, start: int) -> None:
    crew = Crew(ceiling)
    assert crew.limit == start
    assert len(crew.send()) == start


def test_each_accepted_answer_adds_one_so_that_a_round_doubles() -> None:
    crew = Crew()
    sent, seen = crew.send(), []
    crew.answer(sent[:START])
    sent = crew.send()
    for _ in range(4):
        seen.append(crew.limit)
        for _ in range(crew.limit):
            crew.answer([sent.pop()])
            sent += crew.send()
    assert [after / before for before, after in itertools.pairwise(seen)] == [2, 2, 2]


def test_an_answer_counts_once_when_it_begins_and_not_again_at_its_end() -> None:
    crew = Crew()
    permits = crew.send()
    crew.slots.accepted(permits[-1])
    crew.slots.accepted(permits[-1])
    assert crew.limit == START + 1


def test_it_does_not_grow_while_less_than_half_is_used() -> None:
    crew = Crew()
    for _ in range(50):
        crew.answer(crew.send(START // 2 - 1))
    assert crew.limit == START
    crew.answer(crew.send(START // 2))
    assert crew.limit == START + 1


def test_the_ceiling_holds() -> None:
    crew = Crew(20)
    for _ in range(10):
        crew.answer(crew.send())
    assert (crew.limit, len(crew.send())) == (20, 20)


# -- refusals


@pytest.mark.parametrize("taken", [8, 11, 15])
def test_a_refusal_after_a_raise_goes_back_to_the_number_that_was_taken(taken: int) -> None:
    crew = Crew()
    crew.grow(16)
    crew.refuse(crew.send()[taken:])
    assert crew.limit == taken


def test_half_survives_an_episode_however_many_are_refused() -> None:
    crew = Crew()
    crew.grow(64)
    crew.refuse(crew.send())
    assert crew.limit == 32


def test_an_episode_is_told_once_and_those_sent_after_it_begin_another() -> None:
    crew = Crew()
    crew.grow(16)
    sent = crew.send()
    assert crew.refuse(sent[12:]) == [True, False, False, False]
    crew.answer(sent[:2])
    later = crew.send()
    assert crew.refuse(sent[2:12]) == [False] * 10
    assert crew.refuse(later) == [True, False]


def test_no_more_go_out_than_are_left() -> None:
    crew = Crew()
    crew.grow(16)
    sent = crew.send()
    crew.refuse(sent[12:])
    assert (crew.limit, crew.send()) == (12, [])
    crew.answer(sent[:12])
    assert len(crew.send()) == 12


def test_the_number_never_falls_below_one() -> None:
    crew = Crew(1)
    for _ in range(20):
        crew.refuse(crew.send())
        assert (crew.limit, crew.slots.may_take()) == (1, True)


def test_answers_to_requests_sent_before_the_trouble_do_not_raise_the_number_again() -> None:
    crew = Crew()
    crew.grow(16)
    sent = crew.send()
    crew.refuse(sent[12:])
    crew.answer(sent[:12])
    assert crew.limit == 12


def test_refusals_with_as_many_taken_as_ever_cost_more_each_time_until_it_is_clear_that_it_is_not_the_slots() -> None:
    crew, seen = troubled(), []
    for _ in range(4):
        crew.work(2 * crew.limit)
        sent = crew.send()
        crew.refuse(sent[-1:])
        crew.give_back(sent[:-1])
        seen.append(crew.limit)
    assert seen == [39, 37, 33, 40]


def test_what_is_clearly_not_the_slots_costs_none_for_a_while() -> None:
    crew = troubled()
    for _ in range(40):
        crew.work(2 * crew.limit)
        sent = crew.send()
        crew.refuse(sent[-1:])
        crew.give_back(sent[:-1])
    assert crew.limit >= 40


# -- overload


def test_overload_halves_once_per_episode() -> None:
    crew = Crew()
    crew.grow(64)
    sent = crew.send()
    assert [crew.slots.overload(permit) for permit in sent] == [True] + [False] * 63
    assert crew.limit == 32


def test_overload_that_goes_on_with_fewer_slots_while_most_are_accepted_is_not_about_slots() -> None:
    crew = troubled()
    crew.work(100)
    sent = crew.send()
    assert crew.slots.overload(sent[-1])
    assert crew.limit == 20
    crew.answer(sent)
    crew.work(100)
    sent = crew.send()
    assert crew.slots.overload(sent[-1])
    assert crew.limit == 40


def test_one_overload_in_ten_is_not_about_many_slots() -> None:
    """If nine in ten are accepted at every level, halving again and again would end at one slot."""
    crew = Crew(256)
    crew.grow(256)
    for _ in range(50):
        crew.work(9)
        sent = crew.send()
        crew.slots.overload(sent[-1])
        crew.give_back(sent)
    assert crew.limit >= 128


# -- after trouble


def troubled() -> Crew:
    """Return slots that have just fallen from 64 to 40."""
    crew = Crew()
    crew.grow(64)
    sent = crew.send()
    crew.refuse(sent[40:])
    crew.answer(sent[:40])
    assert crew.limit == 40
    return crew


def test_after_trouble_it_holds_then_tries_one_more_and_then_doubles_again() -> None:
    crew = troubled()
    for _ in range(20):
        crew.now += HOLD_S / 21
        crew.answer(crew.send())
        assert crew.limit == 40
    crew.now += HOLD_S / 20
    sent = crew.send()
    assert (crew.limit, len(sent)) == (41, 41)
    crew.answer(sent)
    # 1, 2, 4, ... more, round by round
    limits = [crew.limit]
    for _ in range(4):
        crew.answer(crew.send())
        limits.append(crew.limit)
    assert limits == [42, 44, 48, 56, 72]


def test_it_holds_until_enough_answers_have_come_however_long_that_takes() -> None:
    crew = troubled()
    crew.now += 1000 * HOLD_S
    sent = crew.send()
    crew.answer(sent[: HOLD_ANSWERS // 2])
    assert (len(crew.send()), crew.limit) == (HOLD_ANSWERS // 2, 40)


def test_it_holds_the_longer_the_longer_the_pause_was_that_the_trouble_cost() -> None:
    crew = troubled()
    crew.slots.paused(2.0)
    crew.hold()
    crew.now = crew.slots._clean_since + 2.0 * HOLD_PAUSES - 0.1
    crew.answer(crew.send())
    crew.answer(crew.send())
    assert crew.limit == 40
    crew.now += 0.2
    crew.send()
    assert crew.limit == 41


def test_nothing_is_tried_when_nobody_wants_more() -> None:
    crew = troubled()
    for _ in range(100):
        crew.now += HOLD_S
        crew.answer(crew.send(39))
    assert crew.limit == 40


def test_one_that_was_too_many_is_taken_back_alone() -> None:
    crew = troubled()
    crew.now += HOLD_S
    for _ in range(3):
        crew.answer(crew.send(40))
    sent = crew.send()
    assert crew.limit == 41
    crew.refuse(sent[40:])
    assert crew.limit == 40


def test_answers_of_before_a_raise_prove_nothing_about_it() -> None:
    """Forty answers that begin at the same time must not turn one trial slot into eighty slots."""
    crew = troubled()
    crew.now += HOLD_S
    for _ in range(3):
        crew.answer(crew.send(40))
    sent = crew.send(40)
    (one_more,) = crew.send()
    assert crew.limit == 41
    for permit in sent:
        crew.slots.accepted(permit)
    assert crew.limit == 41
    crew.slots.accepted(one_more)
    assert crew.limit > 41


# -- the window after a pause


def test_behind_a_pause_half_go_out_and_one_more_for_each_answer() -> None:
    crew = Crew()
    crew.grow(64)
    crew.slots.paused(1.0)
    sent = crew.send()
    assert (len(sent), crew.limit) == (32, 64)
    crew.slots.accepted(sent[0])
    assert len(crew.send()) == 1
    crew.answer(sent[1:])
    crew.send()
    assert crew.slots.out == crew.limit


def test_behind_a_pause_that_a_herd_was_refused_for_an_eighth_goes_out() -> None:
    crew = Crew()
    crew.grow(64)
    crew.refuse(crew.send())
    crew.slots.paused(1.0)
    assert (crew.limit, len(crew.send())) == (32, 4)


def test_who_was_in_flight_through_a_pause_holds_nobody_up() -> None:
    """A short pause must not drain a lane with slow answers: the window applies only to requests sent after the pause."""
    crew = Crew()
    crew.grow(64)
    sent = crew.send()
    crew.refuse(sent[63:])
    crew.slots.paused(0.5)
    crew.now += 0.5
    # a quarter of them ends while none of the new ones has been answered
    crew.answer(sent[:16])
    assert len(crew.send()) >= crew.limit - 47 - 1


def test_behind_an_outage_one_goes_out_first() -> None:
    crew = Crew()
    crew.grow(64)
    crew.slots.probing()
    for out in range(1, 20):
        sent = crew.send()
        assert (crew.slots.out, crew.limit) == (out, 64)
        crew.slots.accepted(sent[0])


# -- a fixed number


def test_a_fixed_number_opens_at_64_and_doubles_every_20_ms() -> None:
    crew, seen = Crew(500, tuned=False), []
    for _ in range(5):
        crew.send()
        seen.append(crew.slots.out)
        crew.now += 1.01 * FIXED_DOUBLING_S
    assert seen == [FIXED_START, 128, 256, 500, 500]
    assert not crew.slots.opening


def test_a_small_fixed_number_is_open_at_once() -> None:
    assert len(Crew(FIXED_START, tuned=False).send()) == FIXED_START


def test_a_fixed_number_stays_whatever_comes() -> None:
    crew = Crew(50, tuned=False)
    for _ in range(20):
        sent = crew.send()
        assert (len(sent), crew.limit) == (50, 50)
        crew.answer(sent[:20])
        crew.refuse(sent[20:40])
        for permit in sent[40:]:
            crew.slots.overload(permit)
        crew.give_back(sent[40:])
        crew.now += 60


def test_a_fixed_number_opens_slowly_behind_a_pause() -> None:
    crew, seen = Crew(48, tuned=False), []
    crew.slots.paused(1.0)
    for wait_s in (0.0, 0.9 * REOPENED_DOUBLING_S, 0.2 * REOPENED_DOUBLING_S):
        crew.now += wait_s
        crew.send()
        seen.append(crew.slots.out)
    assert seen == [24, 24, 48]


# -- against a server


@pytest.fixture
def anyio_backend() -> object:
    return BACKEND


async def watched(fault: Fault, looks: Sequence[float]) -> tuple[World, list[float]]:
    """Work against a server of 64 slots. Return how many requests were in flight there on average, for each interval."""
    draw = random.Random(5)
    server = Server(64, fault=lambda _item, since: fault(since, draw.random()))
    world, flight = World(server), []

    async def look() -> None:
        area, before = 0.0, 0.0
        for at in looks:
            await anyio.sleep(at - before)
            flight.append((server.account() - area) / (at - before))
            area, before = server.area, at
        world.stop.request("enough", grace_s=0)

    async with anyio.create_task_group() as group:
        group.start_soon(look)
        await world.work(1_000_000)
    return world, flight


@pytest.mark.anyio
@pytest.mark.parametrize("hint_s", [None, 1.0])
async def test_it_finds_what_a_server_takes_and_follows_it_up_and_down(hint_s: float | None) -> None:
    phases = await experiment([48, 12, 96], phase_s=90, hint_s=hint_s)
    for phase in phases:
        assert phase.use >= 0.9, phase.slots
        assert phase.settled_refused <= 0.02, phase.slots


@pytest.mark.anyio
@pytest.mark.parametrize("slots", [1, 3])
async def test_a_server_that_takes_few_is_used_too(slots: int) -> None:
    (phase,) = await experiment([slots], phase_s=200)
    assert phase.use >= 0.85
    assert phase.settled_refused <= 0.2


@pytest.mark.anyio
async def test_a_server_whose_answers_take_long_is_used_as_well() -> None:
    (phase,) = await experiment([48], service=(5.0, 20.0), phase_s=400, settle_s=100)
    assert phase.use >= 0.9
    assert phase.settled_refused <= 0.03


@pytest.mark.anyio
async def test_answers_that_all_take_the_same_time_make_no_herd() -> None:
    (phase,) = await experiment([48], service=(20.0, 20.0), phase_s=400, settle_s=100)
    assert phase.use >= 0.85
    assert phase.settled_refused <= 0.05


@pytest.mark.anyio
@pytest.mark.parametrize("hint_s", [None, 5.0])
async def test_it_is_not_stuck_at_one_when_the_trouble_is_over(hint_s: float | None) -> None:
    world, flight = await watched(lambda since, _: limited(hint_s) if 60 <= since < 360 else None, [30, 60, 360, 480, 540])
    assert world.failed == []
    assert flight[1] > 0.9 * 64
    assert flight[-1] > 0.7 * 64


@pytest.mark.anyio
@pytest.mark.parametrize("share", [0.1, 0.2])
async def test_refusals_at_random_do_not_drive_it_to_nothing_and_leave_no_mark(share: float) -> None:
    world, flight = await watched(
        lambda since, draw: limited() if 60 <= since < 240 and draw < share else None, [60, 240, 270, 330]
    )
    assert world.failed == []
    assert flight[1] >= 0.1 * 64
    assert flight[-1] > 0.85 * 64


@pytest.mark.anyio
async def test_signs_of_overload_at_random_leave_most_of_it() -> None:
    world, flight = await watched(lambda since, draw: busy(529) if since >= 60 and draw < 0.1 else None, [60, 90, 240])
    # the server is asked at the beginning and at the end of an answer: one item in 4,000 meets it five times
    assert len(world.failed) < 12
    assert flight[-1] >= 0.5 * 64
