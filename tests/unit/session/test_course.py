"""What a session keeps of its course: a bounded line of moments, whose means are exact whatever is left out."""

import random
from itertools import pairwise

import pytest

from runner.engine.limits.ledger import Reading
from runner.session.course import FIRST_S, MOST, Timeline


def reading(at_s: float, held_s: float, total_s: float, **free: float) -> Reading:
    return Reading(at_s, 0.0, {}, dict(free), held_s, total_s, 8, 0, 0, None, None)


def test_moments_are_means_and_name_what_most_free_slots_waited_for() -> None:
    line = Timeline()
    line.see(reading(0.5, 2.0, 4.0, rpm=1.5, end=0.5))
    line.see(reading(1.0, 6.0, 8.0, rpm=1.5, end=0.5))
    line.see(reading(1.5, 8.0, 12.0, rpm=1.6, end=2.4))
    assert line.moments() == [(0.5, 4.0, 8.0, "rpm"), (1.0, 8.0, 8.0, None), (1.5, 4.0, 8.0, "end")]
    assert not line.changed


@pytest.mark.parametrize("ticks", [1, 10, MOST - 1, MOST, MOST + 1, 5_000, 20_001])
def test_however_long_a_session_is_the_moments_are_few_and_add_up(ticks: int) -> None:
    line, draw = Timeline(), random.Random(ticks)
    at_s = held_s = total_s = 0.0
    for _ in range(ticks):
        step_s, slots = FIRST_S + 0.01 * draw.random(), draw.choice([8, 64])
        at_s += step_s
        total_s += slots * step_s
        held_s += draw.random() * slots * step_s
        line.see(reading(at_s, held_s, total_s))
        assert len(line._marks) <= MOST + 1
    line.see(reading(at_s + 0.1, held_s + 0.2, total_s + 0.8), last=True)
    moments = line.moments()
    assert MOST / 3 < len(moments) <= MOST + 1 or ticks < MOST
    ends = [0.0, *(one.at for one in moments)]
    assert ends == sorted(ends)
    assert ends[-1] == pytest.approx(at_s + 0.1, abs=0.01)
    passed = [two - one for one, two in pairwise(ends)]
    assert sum(one.in_flight * s for one, s in zip(moments, passed, strict=True)) == pytest.approx(held_s + 0.2, rel=0.02)
    assert sum(one.slots * s for one, s in zip(moments, passed, strict=True)) == pytest.approx(total_s + 0.8, rel=0.02)
    # but for the newest, which are finer until they are joined, and the end
    widths = passed[: len(passed) // 2]
    assert max(widths, default=0.0) <= 2.2 * min(widths, default=0.0)


def test_what_comes_too_soon_is_no_moment_unless_it_is_the_end() -> None:
    line = Timeline()
    line.see(reading(0.5, 1.0, 4.0))
    line.changed = False
    line.see(reading(0.6, 1.0, 4.8))
    assert not line.changed
    line.see(reading(0.6, 1.0, 4.8), last=True)
    line.see(reading(0.6, 1.0, 4.8), last=True)
    assert [one.at for one in line.moments()] == [0.5, 0.6]
