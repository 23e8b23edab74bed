"""How fast the live path is: measured while rows wait for it, and reckoned from limits."""

import pytest

from runner.engine.batch.outlook import Flex, Live, View
from runner.prices.book import PriceBook
from runner.session.batch_view import by_limits, priced
from runner.session.live_speed import KEPT_S, WINDOW_S, Answered, LiveSpeed, Speeds
from runner.session.stats import SessionStats


def test_the_speed_is_that_of_the_last_minutes_in_which_rows_waited() -> None:
    speed = LiveSpeed()
    assert speed.look(Answered(0.0, 0)) == Speeds()
    speed.begin()
    # it counts from the first answer on, not from the first request
    for at in (0.0, 10.0, 20.0):
        assert speed.look(Answered(at, 0)) == Speeds()
    assert speed.look(Answered(40.0, 10)) == Speeds()
    assert speed.look(Answered(60.0, 190, 10)) == Speeds(5.0, 0.25)
    # an hour at half of that: what was before the window does not count
    for second in range(70, 3_600, 10):
        found = speed.look(Answered(float(second), 190 + 2 * (second - 60), 10 + (second - 60) // 2))
    assert found == Speeds(2.5, 0.5)
    assert WINDOW_S < 3_600
    # what comes once no row waits says nothing, and what was measured holds for a while
    speed.end()
    assert speed.look(Answered(3_700.0, 7_270)) == Speeds(2.5, 0.5)
    assert speed.look(Answered(3_600.0 + KEPT_S, 7_270)) == Speeds()


def test_few_answers_tell_no_speed() -> None:
    speed = LiveSpeed()
    speed.begin()
    assert speed.look(Answered(0.0, 1)) == Speeds()
    assert speed.look(Answered(3_000.0, 12)) == Speeds()


@pytest.mark.parametrize(
    ("limits", "rate"),
    [
        ({}, None),
        ({"rpm": 600}, 10.0),
        ({"tpm": 60_000}, 10.0),
        ({"output_tpm": 6_000, "rpm": 600}, 5.0),
        ({"input_tpm": 6_000_000, "tpm": 120_000}, 20.0),
    ],
)
def test_limits_of_tokens_let_so_many_rows_through(limits: dict[str, float], rate: float | None) -> None:
    stats = SessionStats(done=10, attempts=12, input_tokens=800, output_tokens=200)
    assert by_limits(limits, stats) == rate  # type: ignore[arg-type]


def test_what_a_row_takes_is_not_known_before_the_first() -> None:
    assert by_limits({"tpm": 60_000}, SessionStats()) is None
    assert by_limits({"tpm": 60_000, "rpm": 60}, SessionStats()) == 1.0


def test_the_policy_sees_what_batches_and_flex_cost() -> None:
    seen = View(now=0.0, deadline=None, began_at=0.0, batches=(), open=1, flying=0, live=Live(rows_per_s=None, flex=Flex()))
    book = PriceBook(None, {"m": {"input": 1.0, "output": 4.0, "batch": 0.4, "flex": 0.7}, "n": {"input": 1.0, "output": 4.0}})

    def shares(model: str, book: PriceBook | None) -> tuple[float, float]:
        found = priced(seen, book, model)
        assert found.live.flex is not None
        return found.price, found.live.flex.price

    assert shares("m", book) == (0.4, 0.7)
    # without a factor and at an address that is nobody's, they save nothing
    assert shares("n", book) == (1.0, 1.0)
    # of a price that is not known nothing is said
    assert shares("o", book) == shares("m", None) == (0.5, 0.5)
