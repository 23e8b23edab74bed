"""Tokens as servers report them, in all the ways they do."""

from typing import Any

import pytest

from runner.model import Usage
from runner.providers.usage import MessagesUsage, chat_usage


def usage(
    input_: int | None = None, output: int | None = None, *, cached: int | None = None, reasoning: int | None = None
) -> Usage:
    return Usage(input_tokens=input_, output_tokens=output, cached_tokens=cached, reasoning_tokens=reasoning)


P, C, T = "prompt_tokens", "completion_tokens", "total_tokens"


@pytest.mark.parametrize(
    ("figures", "read"),
    [
        # reasoning beside the output: the total tells
        ({P: 7, C: 10, T: 707}, usage(7, 700, reasoning=690)),
        ({P: 7, C: 10, T: 707, "completion_tokens_details": {"reasoning_tokens": 690}}, usage(7, 700, reasoning=690)),
        ({P: 7, C: 10, T: 707, "reasoning_tokens": 690}, usage(7, 700, reasoning=690)),
        ({P: 7, C: 10, T: 707, "completion_tokens_details": {"reasoning_tokens": 0}}, usage(7, 700, reasoning=690)),
        ({P: 7, C: 0, T: 707}, usage(7, 700, reasoning=700)),
        ({P: 7, T: 707}, usage(7, 700)),
        # without a total: more reasoning than output cannot be part of it
        ({P: 7, C: 10, "reasoning_tokens": 690}, usage(7, 700, reasoning=690)),
        # reasoning in the output
        ({P: 7, C: 700, T: 707, "completion_tokens_details": {"reasoning_tokens": 690}}, usage(7, 700, reasoning=690)),
        ({P: 7, C: 700, "reasoning_tokens": 690}, usage(7, 700, reasoning=690)),
        ({P: 7, C: 3, T: 10}, usage(7, 3)),
        # a total that does not fit is not believed
        ({P: 7, C: 3, T: 5}, usage(7, 3)),
        ({P: 7, C: 3, T: 0}, usage(7, 3)),
        ({P: 7, C: 30, T: 100, "reasoning_tokens": 20}, usage(7, 30, reasoning=20)),
        ({C: 3, T: 100}, usage(None, 3)),
        ({P: 7, T: 7}, usage(7)),
        ({P: 7, C: 3, T: "12"}, usage(7, 3)),
        # other names
        ({P: 7, C: 3, "cached_tokens": 5}, usage(7, 3, cached=5)),
        ({P: 7, C: 3, "prompt_cache_hit_tokens": 5}, usage(7, 3, cached=5)),
        ({P: 7, C: 3, "cache_read_input_tokens": 5}, usage(7, 3, cached=5)),
        ({P: 7, C: 3, "prompt_tokens_details": {"cached_tokens": 4}, "cached_tokens": 5}, usage(7, 3, cached=4)),
        ({P: 7, C: 3, "prompt_tokens_details": {"cached_tokens": None}, "cached_tokens": 5}, usage(7, 3, cached=5)),
        ({"input_tokens": 7, "output_tokens": 3, "output_tokens_details": {"reasoning_tokens": 2}}, usage(7, 3, reasoning=2)),
        ({"input_tokens": 7, "output_tokens": 3, "input_tokens_details": {"cached_tokens": 2}}, usage(7, 3, cached=2)),
        ({P: 0, C: 0, T: 0}, usage(0, 0)),
        ({}, None),
        ([], None),
    ],
)
def test_a_usage_object_of_chat_completions(figures: Any, read: Usage | None) -> None:
    assert chat_usage(figures) == read


@pytest.mark.parametrize(
    ("figures", "last"),
    [
        ([{P: 7, C: 3}, {P: 0, C: 0, T: 0}], usage(7, 3)),
        ([{P: 0, C: 0}, {P: 7, C: 3}], usage(7, 3)),
        ([{P: 7, C: 1}, {P: 7, C: 2}, {P: 7, C: 3}], usage(7, 3)),
        ([{P: 7, C: 3}, {P: 7, C: 0}], usage(7, 3)),
        ([{P: 7, C: 3}, {P: 0, C: 5}], usage(7, 5)),
        ([{P: 7, C: 3}, {}], usage(7, 3)),
        ([{P: 7, C: 3}, None], usage(7, 3)),
        ([{P: 7, C: 3, "cached_tokens": 2}, {P: 7, C: 4}], usage(7, 4, cached=2)),
        ([{P: 7}, {C: 3}], usage(7, 3)),
    ],
)
def test_the_last_figures_that_make_sense_count(figures: list[Any], last: Usage) -> None:
    read = None
    for one in figures:
        read = chat_usage(one, read)
    assert read == last


INPUT, OUTPUT, CACHED = "input_tokens", "output_tokens", "cache_read_input_tokens"


@pytest.mark.parametrize(
    ("figures", "last"),
    [
        ([{INPUT: 7}, {OUTPUT: 3}], usage(7, 3)),
        ([{INPUT: 7}, {INPUT: 0, OUTPUT: 3}], usage(7, 3)),
        ([{INPUT: 7}, {INPUT: None, OUTPUT: 3}], usage(7, 3)),
        ([{INPUT: 7, CACHED: 5}, {INPUT: 7, CACHED: 0, OUTPUT: 3}], usage(12, 3, cached=5)),
        # some gateways know the input only at the end
        ([{INPUT: 0}, {INPUT: 7, OUTPUT: 3}], usage(7, 3)),
        ([{INPUT: 7}, {OUTPUT: 3}, {INPUT: 0, OUTPUT: 0}], usage(7, 3)),
        ([{INPUT: 0}, {OUTPUT: 0}], usage(0, 0)),
        ([{}, {}], None),
    ],
)
def test_the_counts_of_messages_are_running_totals(figures: list[Any], last: Usage | None) -> None:
    counts = MessagesUsage()
    read = None
    for one in figures:
        read = counts.update(one)
    assert read == last


LIVES = {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 40}


def test_caches_are_told_apart_by_how_long_they_are_kept() -> None:
    start = {INPUT: 7, CACHED: 5, "cache_creation_input_tokens": 60, "cache_creation": LIVES, OUTPUT: 1}
    counts = MessagesUsage()
    counts.update(start)
    read = counts.update({OUTPUT: 3})
    assert read is not None
    assert (read.input_tokens, read.cache_write_tokens, read.cache_write_1h_tokens) == (72, 60, 40)
    # without the sum, and without the parts
    assert MessagesUsage().update({INPUT: 7, "cache_creation": LIVES}) == Usage(
        input_tokens=67, cache_write_tokens=60, cache_write_1h_tokens=40
    )
    alone = MessagesUsage().update({INPUT: 7, "cache_creation_input_tokens": 60, "cache_creation": None})
    assert alone is not None
    assert (alone.cache_write_tokens, alone.cache_write_1h_tokens) == (60, None)


@pytest.mark.parametrize("inside", [True, False])
def test_a_gateway_may_tell_them_apart_too(inside: bool) -> None:
    parts = {"cache_creation_tokens": 60, "cache_creation_token_details": LIVES}
    read = chat_usage({P: 70, C: 3, **({"prompt_tokens_details": parts} if inside else parts)})
    assert read is not None
    assert (read.cache_write_tokens, read.cache_write_1h_tokens) == (60, 40)
    later = chat_usage({P: 70, C: 4}, read)
    assert later is not None
    assert later.cache_write_1h_tokens == 40


def test_thinking_is_told_only_by_the_figures_of_the_whole_output() -> None:
    counts = MessagesUsage()
    first = counts.update({INPUT: 7, OUTPUT: 1, "output_tokens_details": {"thinking_tokens": 0}})
    assert first is not None
    assert first.reasoning_tokens == 0
    # the first figures are of the beginning
    last = counts.update({OUTPUT: 90})
    assert last is not None
    assert (last.output_tokens, last.reasoning_tokens) == (90, None)
    told = counts.update({OUTPUT: 90, "output_tokens_details": {"thinking_tokens": 60}})
    assert told is not None
    assert told.reasoning_tokens == 60
