"""What requests may take by their sizes: no request is outside of the bounds, and nothing unknown has one."""

import math
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from runner.money import Rates
from runner.prices.guess import Guess, Size, input_tokens, output_tokens, times
from runner.prices.interval import Interval
from runner.prices.rates import Schedule

RATES = Rates(
    input=1_000_000, output=4_000_000, cached_input=500_000, cache_write=1_250_000, reasoning=4_000_000, cache_write_1h=2_000_000
)
PLAIN = Schedule(base=RATES)


@given(st.integers(0, 10**7), st.integers(0, 10**4), st.integers(0, 10**5))
def test_bounds_are_in_order_and_a_token_is_2_to_6_bytes(text: int, frame: int, files: int) -> None:
    found = input_tokens(Size("m", text, text + frame, files))
    assert 0 < found.low <= found.mid <= found.high
    for each in (2, 4, 6):
        assert found.low <= max(1, text / each) + files <= max(found.high, found.mid)


def test_an_answer_has_one_token_up_to_its_limit_that_of_the_model_or_none() -> None:
    assert output_tokens(Size("m", 9, 9, most=50), 1_000) == Interval(low=1, mid=50, high=50)
    assert output_tokens(Size("m", 9, 9), 1_000) == Interval(low=1, mid=256, high=1_000)
    assert math.isinf(output_tokens(Size("m", 9, 9), None).high)


def test_a_cost_goes_from_cached_input_to_the_highest_rates() -> None:
    guess = Guess()
    guess.add(Size("m", 600, 800, most=100), PLAIN, None)
    assert guess.cost is not None
    assert guess.cost.low == 100 * 500_000 + 4_000_000
    assert guess.cost.mid == 158 * 1_000_000 + 100 * 4_000_000
    assert guess.cost.high == 400 * 1_250_000 + 100 * 4_000_000


def test_a_cache_of_an_hour_and_another_tier_that_may_serve_it_raise_the_high_bound_alone() -> None:
    size, plain, hour = Size("m", 600, 800, most=100), Guess(), Guess()
    plain.add(size, PLAIN, None, PLAIN.times(Decimal(3)))
    hour.add(size._replace(hour=True), PLAIN, None)
    assert plain.cost is not None
    assert hour.cost is not None
    assert (plain.hour, hour.hour) == (False, True)
    assert plain.cost.mid == hour.cost.mid == 158 * 1_000_000 + 100 * 4_000_000
    assert plain.cost.low == hour.cost.low == 100 * 500_000 + 4_000_000
    assert plain.cost.high == 3 * (400 * 1_250_000 + 100 * 4_000_000)
    assert hour.cost.high == 400 * 2_000_000 + 100 * 4_000_000


def test_a_large_request_has_the_rates_of_its_size() -> None:
    dear = Schedule(base=RATES, steps=((1_000, Rates(**dict.fromkeys(Rates.__struct_fields__, 9000000))),))
    guess = Guess()
    guess.add(Size("m", 60_000, 60_100, most=1), dear, None)
    assert guess.cost is not None
    assert guess.cost.low == 10_000 * 9_000_000 + 9_000_000


def test_what_has_no_bound_has_none_after_all_sums() -> None:
    guess = Guess()
    guess.add(Size("m", 60, 80), PLAIN, None)
    guess.add(Size("m", 60, 80, most=5), PLAIN, None)
    assert (guess.rows, math.isinf(guess.output.high), guess.cost is not None and math.isinf(guess.cost.high)) == (2, True, True)
    assert times(guess.output, 0.0).high == 0.0
    unknown = Guess()
    unknown.add(Size("m", 60, 80), None, None)
    assert unknown.cost is None
