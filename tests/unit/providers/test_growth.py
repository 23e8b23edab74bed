"""What is new of an answer that grows: it is told once, also where other pieces take the place of those before."""

import json

import pytest

from runner.model import ServerSentEvent
from runner.passing import Growth
from runner.providers.chat_completions import OpenAIDecoder
from runner.providers.watched import Watch, WatchedDecoder

pytestmark = pytest.mark.quick


def test_pieces_that_were_replaced_start_over_only_if_they_begin_otherwise() -> None:
    growth, pieces = Growth(), ["a", "b"]
    assert growth.new([pieces]) == ("ab", False)
    pieces.append("c")
    assert growth.new([pieces]) == ("c", False)
    assert growth.new([pieces]) == ("", False)
    # the same beginning in another list, as from a server that sends all of its answer each time
    assert growth.new([["abc", "de"]]) == ("de", False)
    assert growth.new([["abcd"]]) == ("abcd", True)
    assert growth.new([["abcd"], ["e"]]) == ("e", False)
    assert growth.new([]) == ("", True)


def test_each_piece_of_an_answer_is_shown_once() -> None:
    """What is looked at does not grow with what has come before: a long answer takes no longer for each piece."""
    shown: list[tuple[str, bool]] = []
    decoder = WatchedDecoder(OpenAIDecoder(), Watch(lambda new, again: shown.append((new, again))))
    pieces = [f"piece {number} " for number in range(100)]
    for piece in pieces:
        choice = {"index": 0, "delta": {"content": piece}}
        data = json.dumps({"id": "c", "model": "m", "choices": [choice]}).encode()
        decoder.feed(ServerSentEvent(event="message", data=data))
    assert shown == [(piece, False) for piece in pieces]
