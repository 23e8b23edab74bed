"""A pause ends by itself; a longer one replaces a shorter one, and never the reverse."""

import pytest

from runner.engine.limits.pause import Pause


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("first_s", "second_s", "left_s"),
    [(5.0, 4.5, 5.0), (5.0, 5.0, 5.0), (5.0, 5.5, 5.5), (5.0, 0.0, 5.0), (5.0, -1.0, 5.0), (0.5, 60.0, 60.0)],
)
def test_only_a_longer_pause_replaces_one(first_s: float, second_s: float, left_s: float) -> None:
    pause = Pause(Clock())
    assert pause.extend(first_s, "first")
    longer = second_s > first_s
    assert pause.extend(second_s, "second", asked=True) == longer
    assert (pause.left_s, pause.reason, pause.asked) == (left_s, "second" if longer else "first", longer)


def test_it_ends_by_itself() -> None:
    clock = Clock()
    pause = Pause(clock)
    assert pause.left_s == 0
    pause.extend(2.0, "429")
    clock.now += 1.5
    assert pause.left_s == 0.5
    clock.now += 0.5
    assert pause.left_s == 0
    # and a short one after a long one is a pause again
    assert pause.extend(0.25, "429")
    assert pause.left_s == 0.25
