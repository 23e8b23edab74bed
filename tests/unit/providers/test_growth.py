"""What is new of an answer that grows: it is told once, also where other pieces take the place of those before."""

import json
import tracemalloc

import pytest

from runner.model import ServerSentEvent
from runner.passing import Growth
from runner.providers.chat_completions import OpenAIDecoder
from runner.providers.watched import Watch, WatchedDecoder

pytestmark = pytest.mark.quick
PIECES, PIECE = 1_000, "a piece of an answer " * 50


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


def test_a_long_answer_is_not_copied_for_each_of_its_pieces() -> None:
    """A copy would need room for the text of before and that of now, beside the pieces of the decoder."""
    sizes: list[tuple[int, int]] = []
    decoder = WatchedDecoder(OpenAIDecoder(), Watch(lambda text, new: sizes.append((len(text), new))))
    choice = {"index": 0, "delta": {"content": PIECE}}
    event = ServerSentEvent(event="message", data=json.dumps({"id": "c", "model": "m", "choices": [choice]}).encode())
    tracemalloc.start()
    try:
        for _ in range(PIECES):
            decoder.feed(event)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sizes == [(len(PIECE) * number, len(PIECE)) for number in range(1, PIECES + 1)]
    assert most < 2.5 * len(PIECE) * PIECES
