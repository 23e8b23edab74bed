"""What ``runner status`` shows: of a running session, and of what was sent."""

import json
import re
import time
from typing import Any

import msgspec
import pytest
from msgspec import structs

from runner.cli.status import status
from runner.event_types import Quantiles
from runner.model import Run
from runner.pace import LaneState, Pace
from runner.store.totals import Totals

NOTHING = Quantiles(p50=None, p95=None)


def a_run(**more: Any) -> Run:
    fields: dict[str, Any] = {
        "id": 1,
        "created_at": 1e9,
        "finished_at": None,
        "settings": {"model": "gpt-5-mini"},
        "input": "/x/p.jsonl",
        "rows": 10,
        "done": 4,
        "failed": 0,
        "broken": 0,
        "active": True,
    }
    return Run(**{**fields, **more})


def the_books(**more: Any) -> Totals:
    fields: dict[str, Any] = {
        **{name: {} for name in ("failed_attempts", "retries", "deciding", "finish_reasons")},
        **dict.fromkeys(("attempts", "unsent", "refused", "perhaps_billed", "wasted_bytes"), 0),
        **dict.fromkeys(("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")),
        **dict.fromkeys(("wasted_input_tokens", "wasted_output_tokens")),
        **dict.fromkeys(("time_to_first_token", "duration"), NOTHING),
    }
    return Totals(**{**fields, **more})


def lane(**more: Any) -> LaneState:
    return LaneState(**{"model": "gpt-5-mini", "slots": 48, "ceiling": 256, "in_flight": 41, **more})


def pace(*lanes: LaneState, age_s: float = 0.0, retrying: str | None = None) -> Pace:
    return Pace(at=time.time() - age_s, lanes=lanes, retrying=retrying)


def lines(run: Run, books: Totals | None = None) -> list[str]:
    return status(run, books or the_books(), db="runner.db", as_json=False).split("\n")


def shown(label: str, run: Run, books: Totals | None = None) -> list[str]:
    """The lines under a label, without it."""
    return [line[16:] for line in lines(run, books) if line.startswith(f"  {label:14}")]


# --- a running session -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (
            lane(limits={"rpm": 500, "tpm": 2e5}, waiting="waiting for the tokens/min limit"),
            "gpt-5-mini: 41 of 48 in flight (up to 256), rpm 500, tpm 200,000; waiting for the tokens/min limit",
        ),
        (lane(slots=256), "gpt-5-mini: 41 of 256 in flight"),
        (lane(slots=1500, ceiling=2000, in_flight=1024), "gpt-5-mini: 1,024 of 1,500 in flight (up to 2,000)"),
        (lane(model=""), "41 of 48 in flight (up to 256)"),
        (
            lane(slots=256, limits={"input_tpm": 30_000_000, "rpm": 0.5}),
            "gpt-5-mini: 41 of 256 in flight, input tpm 30,000,000, rpm 0.5",
        ),
    ],
)
def test_a_lane_is_one_line(state: LaneState, words: str) -> None:
    assert shown("requests", a_run(pace=pace(state))) == [words]


def test_every_lane_has_a_line_and_retries_have_one() -> None:
    run = a_run(pace=pace(lane(), lane(model="b", waiting="paused until 12:03:10 (429)"), retrying="3 rows on attempt 4 of 5"))
    assert shown("requests", run) == [
        "gpt-5-mini: 41 of 48 in flight (up to 256)",
        "b: 41 of 48 in flight (up to 256); paused until 12:03:10 (429)",
    ]
    assert shown("retrying", run) == ["3 rows on attempt 4 of 5"]


def test_a_run_that_nobody_works_on_has_no_lane() -> None:
    text = "\n".join(lines(a_run(active=False)))
    assert "requests" not in text
    assert "retrying" not in text


@pytest.mark.parametrize(("age_s", "words"), [(0, r"[01] s ago"), (2, r"[23] s ago"), (90, r"9[01] s ago"), (-5, "0 s ago")])
def test_the_pace_says_how_old_it_is(age_s: float, words: str) -> None:
    (said,) = shown("last update", a_run(pace=pace(lane(), age_s=age_s)))
    assert re.fullmatch(words, said)


def test_the_time_left_is_told_and_in_an_outage_from_its_end_on() -> None:
    at = structs.replace(pace(lane()), left_s=740.0)
    assert shown("time left", a_run(pace=at)) == ["about 12:20"]
    at = structs.replace(pace(lane(outage_s=3.0)), left_s=740.0)
    assert shown("time left", a_run(pace=at)) == ["about 12:20 after the outage"]
    assert shown("time left", a_run(pace=pace(lane()))) == []


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "4 done, 0 failed, 6 left of 10"),
        ({"done": 9, "failed": 1, "finished_at": 2e9}, "9 done, 1 failed, 0 left of 10"),
        # rows that are no longer in the file keep their outcomes
        ({"done": 12, "failed": 1, "finished_at": 2e9}, "12 done, 1 failed, 0 left of 13; 10 in the file"),
        ({"done": 12, "finished_at": 2e9, "settings": {"sample": 10}}, "12 done, 0 failed, 0 left of 12; 10 chosen now"),
        ({"rows": None}, "4 done, 0 failed"),
    ],
)
def test_done_failed_and_left_are_all_rows(fields: dict[str, Any], words: str) -> None:
    assert shown("rows", a_run(**fields)) == [words]


def test_foreign_words_are_shown_and_not_obeyed() -> None:
    nasty = "\x1b[2J\n\u202e"
    state = lane(model=nasty, waiting=nasty, limits={nasty: 20})
    text = status(a_run(pace=pace(state, retrying=nasty)), the_books(), db="runner.db", as_json=False)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert len(text.split("\n")) == len(lines(a_run(pace=pace(lane(), retrying="x"))))


def test_programs_get_the_pace_and_the_books_whole() -> None:
    run, books = a_run(pace=pace(lane(limits={"rpm": 500}))), the_books(attempts=3, retries={"cut": 1}, unsent=1)
    told = json.loads(status(run, books, db="runner.db", as_json=True))
    assert msgspec.convert(told["run"], Run) == run
    assert (told["books"]["retries"], told["books"]["unsent"]) == ({"cut": 1}, 1)
    assert json.loads(status(a_run(), books, db="runner.db", as_json=True))["run"]["pace"] is None


# --- what was sent ----------------------------------------------------------------------------------------------------


def test_retries_and_rows_given_up_stand_with_their_causes() -> None:
    books = the_books(
        attempts=5813,
        failed_attempts={"cut": 122, "overloaded": 94},
        retries={"cut": 120, "overloaded": 94},
        deciding={"cut": 1},
        unsent=3,
        refused=91,
        perhaps_billed=122,
    )
    assert shown("attempts", a_run(), books) == [
        "5,813; 214 retries (cut 120, overloaded 94); 1 row failed after the last attempt (cut 1)"
    ]
    counts = "216 failed attempts (cut 122, overloaded 94)"
    assert shown("", a_run(), books) == [
        f"{counts}: 3 never reached the server, 91 refused, 122 perhaps billed (usage unknown)",
    ]
    assert shown("wasted", a_run(), books) == []


def test_a_run_without_failures_says_nothing_of_them() -> None:
    books = the_books(attempts=7)
    assert shown("attempts", a_run(), books) == ["7"]
    assert shown("", a_run(), books) == shown("wasted", a_run(), books) == []


def test_one_retry_is_no_plural_and_a_failure_of_no_kind_has_no_colon() -> None:
    books = the_books(attempts=2, failed_attempts={"cut": 1}, retries={"cut": 1})
    assert shown("attempts", a_run(), books) == ["2; 1 retry (cut 1)"]
    assert shown("", a_run(), books) == ["1 failed attempt (cut 1)"]


@pytest.mark.parametrize(
    ("failed_attempts", "words"),
    [
        ({"cut": 2, "cancelled": 8}, "2 failed attempts (cut 2), 8 cancelled attempts: 10 perhaps billed (usage unknown)"),
        ({"cancelled": 1}, "1 cancelled attempt: 10 perhaps billed (usage unknown)"),
    ],
)
def test_a_cancelled_attempt_is_not_a_failed_one(failed_attempts: dict[str, int], words: str) -> None:
    assert shown("", a_run(), the_books(attempts=10, failed_attempts=failed_attempts, perhaps_billed=10)) == [words]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"wasted_input_tokens": 1200, "wasted_output_tokens": 340, "wasted_bytes": 7},
            "1,200 tokens in, 340 out, 7 bytes received by failed attempts",
        ),
        ({"wasted_input_tokens": 12, "wasted_bytes": 5120}, "12 tokens in, unknown out, 5,120 bytes received by failed attempts"),
        ({"wasted_bytes": 5120}, "5,120 bytes received by failed attempts"),
    ],
)
def test_waste_is_told_as_far_as_it_is_known(fields: dict[str, int], words: str) -> None:
    assert shown("wasted", a_run(), the_books(attempts=3, failed_attempts={"cut": 2}, **fields)) == [words]


def test_error_codes_are_foreign_words_too() -> None:
    books = the_books(attempts=3, failed_attempts={"\x1b[2J": 2}, retries={"\x1b[2J": 2})
    assert shown("attempts", a_run(), books) == [r"3; 2 retries (\x1b[2J 2)"]


ROOM: list[tuple[dict[str, Any], dict[str, Any], str | None]] = [
    ({"max_cost": 1.0}, {"cost": 0.5, "cost_perhaps": 0.3, "cost_projected": 0.8}, "$0.20"),
    ({"max_cost": 1.0}, {"cost": 0.5, "cost_perhaps": 0.1, "cost_projected": 0.8}, None),
    ({"max_cost": 1.0}, {"cost": 0.0, "cost_perhaps": 1.0}, "$0.00"),
    ({"max_cost": 1.0}, {"cost": 0.5, "cost_perhaps": None, "cost_projected": 0.8}, None),
    ({"max_tokens_total": 100}, {"input_tokens": 20, "output_tokens": 20, "tokens_of_budget": 60}, "40 tokens"),
    ({"max_tokens_total": 120}, {"input_tokens": 20, "output_tokens": 20, "tokens_of_budget": 60}, None),
    ({"max_tokens_total": 60}, {"tokens_of_budget": 61}, "0 tokens"),
    ({}, {"cost": 0.5, "cost_perhaps": 0.3, "cost_projected": 0.8}, None),
]
"""Settings and books of a run with four rows done and six left, and what its budget leaves if that is too little."""


@pytest.mark.parametrize(("settings", "fields", "left"), ROOM)
def test_what_a_budget_has_left_is_told_where_the_rows_are_expected_to_take_more(
    settings: dict[str, Any], fields: dict[str, Any], left: str | None
) -> None:
    run = a_run(active=False, settings={"model": "m", **settings})
    last = status(run, the_books(attempts=4, **fields), db="runner.db", as_json=False)
    words = f", as far as the budget goes: it has {left} left)" if left is not None else ")"
    assert f"sends the other 6 rows{words}" in last
