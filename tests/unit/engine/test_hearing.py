"""What is heard of an endpoint: since when it is silent."""

import pytest

from runner.admission import Permit
from runner.engine.limits.hearing import SILENT_S, TIMES, TIMES_LONGEST, Hearing, bound_s


class Heard:
    """What is heard of one endpoint, by a clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.hearing = Hearing(lambda: self.now)

    def sent(self) -> Permit:
        permit = Permit(admitted_at=self.now, sent_at=self.now)
        self.hearing.admitted(permit)
        return permit

    def answered(self, seconds: float) -> None:
        permit = self.sent()
        self.now += seconds
        self.hearing.heard(permit, answers=True)


def test_silence_begins_when_a_request_goes_out_and_not_before() -> None:
    one = Heard()
    one.answered(2)
    one.now += 3600
    # nothing was asked of it meanwhile
    assert one.hearing.silent_s == 0
    first = one.sent()
    one.now += 3
    assert one.hearing.silent_s == 3
    # something else is heard of it
    one.answered(1)
    one.now += 7
    assert one.hearing.silent_s == 7
    one.hearing.over(first)
    assert one.hearing.silent_s == 0


@pytest.mark.parametrize(
    ("own_s", "other_s", "bound"),
    [
        pytest.param((), (0.1,), SILENT_S, id="never sooner"),
        pytest.param((), (2, 2), TIMES * 2, id="as long as others usually take"),
        pytest.param((30, 1), (1,), TIMES_LONGEST * 30, id="as long as its own longest"),
        pytest.param((1,), (0.1,) * 40 + (40, *(0.1,) * 40), TIMES_LONGEST * 40, id="as long as the longest of others"),
        pytest.param((1,), (), None, id="no other has answered"),
    ],
)
def test_how_long_an_endpoint_may_say_nothing(own_s: tuple[float, ...], other_s: tuple[float, ...], bound: float | None) -> None:
    own, other = Heard(), Heard()
    for one, times in ((own, own_s), (other, other_s)):
        for seconds in times:
            one.answered(seconds)
    assert bound_s(own.hearing, [other.hearing], SILENT_S) == (None if bound is None else pytest.approx(bound))
