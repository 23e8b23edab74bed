"""What frames say of a row and of an attempt: the figures of the books, and each in its own field."""

import json

import pytest

from runner.control.messages import Feed
from runner.engine.open_attempts import OpenAttempt, OpenAttempts
from runner.model import Attempt, Completion, Item, Outcome, Request, Usage
from runner.money import Price, Rates
from runner.providers.chat_completions import OpenAIDecoder
from runner.session.feed import LINGER_S, SessionFeed
from runner.session.feed_made import closed_answer, settled_row
from runner.session.feed_watchers import AGAIN, Watchers
from runner.session.stats import SessionStats
from runner.text import Redactor

RATES = Rates(input=10**9, output=10**10, cached_input=0, cache_write=0, reasoning=10**10, cache_write_1h=0)
LAST = Attempt(
    key="a",
    number=3,
    started_at=1.0,
    duration_s=2.5,
    usage=Usage(input_tokens=7, output_tokens=2, reasoning_tokens=0),
    price=Price(model="m", tier="standard", rates=RATES),
    endpoint="https://one.example",
)


def test_a_row_is_told_with_its_last_attempt_and_what_that_cost() -> None:
    outcome = Outcome(
        key="a",
        position=5,
        status="failed",
        metadata={"id": "x"},
        fingerprint=0,
        error_code="truncated",
        attempt=LAST,
        attempts=3,
        kept=True,
    )
    told = settled_row(outcome)
    assert (told.id, told.line, told.status, told.kept, told.error_code, told.attempts) == (
        "x",
        5,
        "failed",
        True,
        "truncated",
        3,
    )
    assert (told.input_tokens, told.output_tokens, told.cost, told.endpoint) == (7, 2, 0.027, "https://one.example")


def test_a_request_that_has_ended_is_told_with_the_tokens_of_its_answer() -> None:
    item = Item(key="a", position=1, request=Request(model="m", messages=()), metadata={}, fingerprint=0)
    told = closed_answer(OpenAttempt(item, LAST, OpenAIDecoder()), LAST, Completion(text="t", finish_reason="length"))
    assert (told.attempt, told.tokens, told.finish_reason, told.duration_s) == (3, 2, "length", 2.5)


@pytest.mark.anyio
async def test_a_state_says_whether_the_session_is_paused() -> None:
    feed, told = SessionFeed(), list[Feed]()
    feed.follow(OpenAttempts(), Redactor([]), SessionStats(), lambda: None)
    for paused in (True, False):
        feed.paused = lambda paused=paused: paused
        feed.subscribe(None, False, lambda frame: not told.append(frame))
        feed.turn()
        assert (told[-1].kind, json.loads(told[-1].data)["paused"]) == ("state", paused)
    feed.close()


@pytest.mark.anyio
async def test_texts_are_looked_at_only_as_long_as_somebody_wants_them() -> None:
    now, told = 0.0, list[bool]()

    feed = SessionFeed(clock=lambda: now)
    feed.follow(OpenAttempts(), Redactor([]), SessionStats(), lambda: None, lambda *, wanted: told.append(wanted))
    stays, leave = feed.subscribe(None, False, lambda _: True), feed.subscribe(None, True, lambda _: True)
    leave()
    for later in (LINGER_S, LINGER_S + 1):
        now = later
        assert feed._timer is not None
        feed._timer.cancel()
        feed._tick()
    # the other one has no texts, and goes on
    assert (told, feed._texts, feed._timer is None) == ([True, False], None, False)
    stays()
    feed.close()


def test_a_state_for_which_there_is_no_room_is_not_made_at_each_turn() -> None:
    watchers, made = Watchers(), list[bool]()

    def state(texts: bool) -> Feed:
        made.append(texts)
        return Feed(number=1, kind="state", data=b"{}")

    watchers.add(lambda frame: frame.kind == "skipped", None, texts=True)
    for _ in range(2 * (AGAIN + 1)):
        watchers.begin(state)
    assert len(made) == 2
