"""What bounds a request, by what its body says."""

import json
from typing import Any, cast

import pytest
from msgspec import structs
from world import Decoder, an_item

from runner.admission import Amounts, Reservation, Standing
from runner.engine.bounds import bounded, bounds
from runner.engine.limits import Lanes, Limits
from runner.engine.task import Files, Task
from runner.model import Attempt, HttpCall, Stage, Usage
from runner.money import Price, Rates

HIGH = Price(
    model="m", tier="standard", rates=Rates(input=1, output=2, cached_input=1, cache_write=1, reasoning=2, cache_write_1h=1)
)


def call(**body: Any) -> HttpCall:
    return HttpCall(url="http://x", headers={}, body=json.dumps(body).encode())


@pytest.mark.parametrize(
    ("body", "output", "tier"),
    [
        ({"max_tokens": 7}, 7, None),
        ({"max_completion_tokens": 9, "n": 3, "service_tier": "flex"}, 27, "flex"),
        ({"max_tokens": 7, "max_completion_tokens": 9}, 9, None),
        ({"messages": []}, None, None),
        ({"max_tokens": "many", "service_tier": "flex"}, None, "flex"),
        # no limit at llama.cpp and LM Studio
        ({"max_tokens": -1}, None, None),
        ({"max_tokens": 0}, None, None),
        ({"max_tokens": -1, "max_completion_tokens": 9}, None, None),
        ({"max_tokens": 9.5}, None, None),
        ({"max_tokens": 10**30}, None, None),
        ({"max_tokens": 10**8, "n": 10**8}, None, None),
        ({"max_tokens": True}, None, None),
        ({"max_tokens": None, "max_completion_tokens": 9}, 9, None),
        # some servers take these
        ({"max_tokens": "7", "service_tier": "priority"}, 7, "priority"),
        ({"max_tokens": 7.0, "n": 2.0, "service_tier": 5}, 14, None),
        ({"max_tokens": 7, "n": "3"}, 21, None),
        ({"max_tokens": 7, "n": 0}, None, None),
        ({"max_tokens": 7, "n": -2}, None, None),
        ({"max_tokens": 7, "n": [2]}, None, None),
    ],
)
def test_the_body_bounds_a_request(body: dict[str, Any], output: int | None, tier: str | None) -> None:
    sent = call(**body)
    assert bounds(sent, None)[:3] == (len(sent.body), output, tier)


@pytest.mark.parametrize(("body", "answers"), [({}, 1), ({"n": 5}, 5), ({"n": 5, "max_tokens": "many"}, 5), ({"n": None}, 1)])
def test_several_answers_count_where_only_the_model_limits_them(body: dict[str, Any], answers: int) -> None:
    assert (bounds(call(**body), None).output, bounds(call(**body), None).answers) == (None, answers)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"max_tokens": ' + b"9" * 400 + b"}", b'{"n": ' + b"[" * 100_000])
def test_a_body_that_cannot_be_read_sets_no_limit(body: bytes) -> None:
    assert bounds(HttpCall(url="http://x", headers={}, body=body), None).output is None


def test_files_count_as_more_tokens_than_they_are_expected_to_have() -> None:
    item = an_item(1)
    assert bounds(call(), Files(item.request, 100, 5000)).input == 2 + 400


@pytest.mark.parametrize(("tier", "price"), [(None, HIGH), ("flex", None)])
def test_an_attempt_of_unknown_usage_keeps_what_it_held_while_its_tier_is_unknown(tier: str | None, price: Price | None) -> None:
    item, sent = an_item(1), call(messages=[])
    reserved = Reservation("1", 1, 0.0, Amounts(9, 9), 12, 400, HIGH, cache_1h_bound=12)
    lane = Lanes(Limits(ceiling=1)).of("m")
    task = Task(item, sent, lane, Standing(), 0, cast("Any", None), reserved=reserved)
    attempt = Attempt(key="1", number=1, started_at=0.0, duration_s=1.0, status=200, tier=tier, error_code="cut")
    found = bounded(attempt, task, Decoder(), kept=False)  # type: ignore[arg-type]
    assert (found.input_bound, found.output_bound, found.cache_1h_bound, found.price) == (12, 400, 12, price)
    known = Attempt(key="1", number=1, started_at=0.0, duration_s=1.0, status=200, usage=Usage(input_tokens=1, output_tokens=1))
    assert bounded(known, task, Decoder(), kept=False).price is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("stage", "kept", "bound"), [(Stage.WHOLE, False, 2), (Stage.COUNTED, False, None), (Stage.WHOLE, True, None)]
)
def test_the_usage_of_a_failed_attempt_is_known_once_it_came_behind_the_end_and_of_a_kept_answer(
    stage: Stage, kept: bool, bound: int | None
) -> None:
    decoder = Decoder()
    decoder.stage = stage  # type: ignore[attr-defined]
    task = Task(an_item(1), call(), Lanes(Limits(ceiling=1)).of("m"), Standing(), 0, cast("Any", None))
    usage = Usage(input_tokens=1, output_tokens=1)
    attempt = Attempt(key="1", number=1, started_at=0.0, duration_s=1.0, status=200, usage=usage, error_code="cut")
    assert bounded(attempt, task, decoder, kept=kept).input_bound == bound  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("named", "asked", "found"),
    [(None, "priority", "priority"), (None, "flex", "flex"), (None, None, None), ("default", "priority", None)],
)
def test_of_an_answer_that_names_no_tier_the_one_that_was_asked_for_is_kept(
    named: str | None, asked: str | None, found: str | None
) -> None:
    item = an_item(1)
    request = structs.replace(item.request, tier=asked)
    task = Task(
        structs.replace(item, request=request), call(), Lanes(Limits(ceiling=1)).of("m"), Standing(), 0, cast("Any", None)
    )
    usage = Usage(input_tokens=1, output_tokens=1)
    attempt = Attempt(key="1", number=1, started_at=0.0, duration_s=1.0, status=200, usage=usage, tier=named)
    kept = bounded(attempt, task, Decoder(), kept=False)  # type: ignore[arg-type]
    assert (kept.tier, kept.asked_tier) == (named, found)


HOUR = {
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]}
    ]
}


def test_a_request_that_asks_for_a_cache_of_an_hour_may_write_all_of_its_input_to_it() -> None:
    sent = call(**HOUR)
    assert bounds(sent, None).hour == len(sent.body)
    assert bounds(call(messages=[{"role": "user", "content": "ttl 1h"}]), None).hour is None
    # without a budget it is kept of the attempt all the same
    task = Task(an_item(1), sent, Lanes(Limits(ceiling=1)).of("m"), Standing(), 0, cast("Any", None))
    cut = Attempt(key="1", number=1, started_at=0.0, duration_s=1.0, status=200, error_code="cut")
    assert bounded(cut, task, Decoder(), kept=False).cache_1h_bound == len(sent.body)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "told", "found"), [(HOUR, None, (None, None, 60)), (HOUR, 0, (None,) * 3), ({"messages": []}, None, (None,) * 3)]
)
def test_writes_of_unknown_life_may_all_be_kept_for_an_hour(
    body: dict[str, Any], told: int | None, found: tuple[int | None, ...]
) -> None:
    usage = Usage(input_tokens=90, output_tokens=5, cache_write_tokens=60, cache_write_1h_tokens=told)
    task = Task(an_item(1), call(**body), Lanes(Limits(ceiling=1)).of("m"), Standing(), 0, cast("Any", None))
    attempt = Attempt(key="1", number=1, started_at=0.0, duration_s=1.0, status=200, usage=usage)
    kept = bounded(attempt, task, Decoder(), kept=False)  # type: ignore[arg-type]
    assert (kept.input_bound, kept.output_bound, kept.cache_1h_bound) == found
