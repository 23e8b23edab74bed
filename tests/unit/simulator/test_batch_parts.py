"""The pure parts of the simulator's batches: their behaviour, what chance decides, and which bodies ask the same."""

from decimal import Decimal
from pathlib import Path
from types import ModuleType

import pytest

from runner.errors import UsageError
from runner.model import Params, Request
from runner.providers.dialects import anthropic, openai
from runner.simulator import Behaviour, Price
from runner.simulator.batch_files import Files
from runner.simulator.batch_lots import PLAIN, Lots
from runner.simulator.batch_work import Results
from runner.simulator.dialect import Refusal
from runner.simulator.prices import rates
from runner.simulator.sameness import as_streamed


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"batch_delay_s": -1}, "batch_delay_s must be 0 or more seconds"),
        ({"batch_window_s": float("nan")}, "batch_window_s must be 0 or more seconds"),
        ({"batch_expire": 1.5}, "batch_expire must be from 0 to 1, not 1.5"),
        ({"batch_expire": 0.6, "batch_fail": 0.6}, "batch_expire and batch_fail add up to 1.2"),
        ({"batch_missing": 0.5, "batch_twice": 0.4, "batch_odd": 0.2}, "add up to 1.1"),
        ({"batch_fail_status": 404}, "batch_fail_status must be one of 400, 429, 500, 503, 529, not 404"),
        ({"batch_refuse": -1}, "batch_refuse must be 0 or more"),
        ({"batch_lines": 0}, "batch_lines must be more than 0"),
        ({"batch_kept_s": 0.0}, "batch_kept_s must be more than 0"),
        ({"batch_queue_full": "wait"}, "batch_queue_full must be fail or refuse, not 'wait'"),
        ({"batch_utc_offset_min": 1440}, "batch_utc_offset_min must be less than a day"),
    ],
)
def test_a_behaviour_of_batches_that_makes_no_sense_cannot_be_built(wrong: dict[str, object], sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        Behaviour(**wrong)  # type: ignore[arg-type]
    assert sentence in str(caught.value)


def test_lots_keep_to_their_shares_and_do_not_depend_on_the_order() -> None:
    behaviour = Behaviour(batch_expire=0.2, batch_fail=0.1, batch_missing=0.3, batch_twice=0.1, batch_odd=0.1, batch_unasked=0.5)
    bodies = [b"%d" % number for number in range(2000)]
    lots = [Lots(behaviour, 1), Lots(behaviour, 1)]
    drawn = {body: lots[0].draw(body) for body in bodies}
    assert {body: lots[1].draw(body) for body in reversed(bodies)} == drawn
    # the next one for the same body is another one
    assert {body: lots[0].draw(body) for body in bodies} != drawn
    for name, share in (("expires", 0.2), ("fails", 0.1), ("is_missing", 0.3), ("is_twice", 0.1), ("with_unasked", 0.5)):
        assert abs(sum(getattr(lot, name) for lot in drawn.values()) / len(bodies) - share) < 0.04
    assert not any(lot.expires and lot.fails for lot in drawn.values())
    assert Lots(Behaviour(), 1).draw(b"x") is PLAIN
    delays = [Lots(Behaviour(batch_delay_s=10), 1).delay_s(number) for number in range(200)]
    assert 5 <= min(delays) < 7 < 13 < max(delays) <= 15


@pytest.mark.parametrize(
    ("dialect", "body", "same"),
    [
        ("openai", b'{"a":1,"stream":false,"b":2}', b'{"a":1,"stream":true,"stream_options":{"include_usage":true},"b":2}'),
        ("anthropic", b'{"a":1,"stream":false}', b'{"a":1,"stream":true}'),
        ("anthropic", b'{"a":1, "stream" : false}', b'{"a":1, "stream":true}'),
        ("anthropic", b'{"a":1} \n', b'{"a":1,"stream":true}'),
        ("openai", b'{"stream":true,"a":1}', b'{"stream":true,"a":1}'),
        # words about a stream are none of the request
        ("anthropic", b'{"a":"\\"stream\\":false"}', b'{"a":"\\"stream\\":false","stream":true}'),
    ],
)
def test_a_body_is_the_same_with_and_without_a_stream(dialect: str, body: bytes, same: bytes) -> None:
    assert as_streamed(dialect, body) == same
    assert as_streamed(dialect, same) == same


@pytest.mark.parametrize("module", [openai, anthropic], ids=["openai", "anthropic"])
def test_the_client_sends_the_same_body_live_and_in_a_batch(module: ModuleType) -> None:
    """The answers of a job in batches are those of the same job live because of this."""
    messages = ({"role": "user", "content": 'is "stream":false a member?'},)
    request = Request(model="m", messages=messages, params=Params(max_tokens=5, extra_body={"user": "u"}))
    live, inside = (module.make("http://h/v1", "k", version="1", stream=stream).encode(request).body for stream in (True, False))
    assert live != inside
    assert as_streamed(module.__name__.rpartition(".")[2], inside) == live


def test_a_batch_costs_half_unless_its_price_says_otherwise() -> None:
    assert rates(Price(input=Decimal(2), output=Decimal(8)), "batch").output == 4_000_000
    assert rates(Price(input=Decimal(2), output=Decimal(8), batch=Decimal("0.25")), "batch").fresh == 500_000


def test_files_are_deleted_and_results_can_be_put_into_random_order() -> None:
    files = Files()
    stored = files.make(account="a", purpose="batch_output", name="n")
    folder = stored.path.parent
    results = Results(stored, None, Behaviour(batch_shuffle=True))
    lines = [b"%d\n" % number for number in range(50)]
    for number, line in enumerate(lines):
        results.add(line, is_answer=number % 2 == 0)
        if number == 20:
            results.flush()
    results.finish()
    written = stored.path.read_bytes().splitlines(keepends=True)
    assert sorted(written) == sorted(lines) != written != lines
    assert stored.bytes == sum(map(len, lines)) == stored.path.stat().st_size
    assert files.find(stored.id, "a") is stored
    with pytest.raises(Refusal):
        files.find(stored.id, "b")
    stored.kept_until = 0.0
    with pytest.raises(Refusal):
        files.find(stored.id, "a")
    assert not stored.path.exists()
    files.close()
    assert not Path(folder).exists()
