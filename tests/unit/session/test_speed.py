"""The rates that are shown: a plain mean over the last half minute, and nothing while nothing is sent."""

import pytest

from runner.session.forecast import Sent
from runner.session.speed import Rates, Speed


def sent(rows: int, requests: int = 0, tokens: int | None = None, usual_s: float = 0.0) -> Sent:
    return Sent(rows=rows, requests=requests or rows, input_tokens=None, output_tokens=tokens, usual_s=usual_s)


def test_nothing_is_said_before_the_first() -> None:
    speed = Speed()
    assert speed.see(0.0, sent(0), held=False) == Rates()
    assert speed.see(0.5, sent(0), held=False) == Rates()
    assert speed.see(1.0, sent(0, requests=2), held=False) == Rates(requests=2.0)


def test_all_rates_are_of_the_same_half_minute() -> None:
    speed = Speed()
    for second in range(1, 101):
        speed.see(second, sent(10 * second, 20 * second, 100 * second), held=False)
    for second in range(101, 131):
        rates = speed.see(second, sent(1000 + second - 100, 2000 + 2 * (second - 100), 10_000), held=False)
    assert rates == Rates(rows=pytest.approx(1), requests=pytest.approx(2), tokens=0.0)


def test_after_the_last_answer_the_rate_falls_to_nothing() -> None:
    speed = Speed()
    shown = [speed.see(second, sent(5), held=False).rows for second in range(1, 60)]
    assert shown[0] == 5.0
    assert shown[9] == 0.5
    assert shown[-1] == 0.0


def test_while_nothing_is_sent_there_is_no_rate() -> None:
    speed = Speed()
    for second in range(1, 31):
        speed.see(second, sent(10 * second), held=False)
    assert speed.see(31, sent(300), held=True) == Rates()
    # the silence counts when it goes on
    for second in range(32, 51):
        speed.see(second, sent(300), held=True)
    assert speed.see(51, sent(310), held=False).rows == pytest.approx(100 / 30, rel=0.1)


def test_where_answers_take_minutes_more_of_them_are_looked_at() -> None:
    speed = Speed()
    for second in range(1, 1201):
        rates = speed.see(second, sent(second // 60, usual_s=60.0), held=False)
    assert rates.rows == pytest.approx(1 / 60, rel=0.01)
