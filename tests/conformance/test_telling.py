"""What a listener is told of an answer is what the answer says, however its bytes are cut and its server reads the dialect."""

import json
from itertools import pairwise
from typing import Any

import pytest
from decoding import fed
from hypothesis import given, settings
from hypothesis import strategies as st
from test_providers import DIALECTS, EXPECTED, recorded
from test_streams import CUTS, STREAMS, cut

from runner.engine.listening import TellingDecoder
from runner.model import Completion, Item, Request
from runner.row_events import FirstToken, RowEvent, Token
from runner.text import Redactor

ITEM = Item(key="k", position=1, request=Request(model="m", messages=()), metadata={"id": 7}, fingerprint=0)
KEY = "sk-secret-key"


class Listener:
    """A decoder that tells, and what it has told."""

    def __init__(self, dialect: str, *secrets: str) -> None:
        self.events: list[RowEvent] = []
        decoder = DIALECTS[dialect].decoder()
        self.decoder = TellingDecoder(decoder, ITEM, 2, self.events.append, Redactor(secrets), lambda: 0.0)

    def told(self, kind: str = "text") -> str:
        """Return the text as a listener has it that starts over where it is told to."""
        text = ""
        for event in self.events:
            if isinstance(event, Token) and event.kind == kind:
                assert (event.id, event.attempt) == (7, 2)
                assert event.at <= len(text)
                text = text[: event.at] + event.text
        return text

    def stream(self, *messages: dict[str, Any]) -> None:
        """Take chunks that bring messages in place of deltas, and a finish reason."""
        chunks = [{"id": "i", "model": "m", "choices": [{"index": 0, "message": message}]} for message in messages]
        chunks[-1]["choices"][0]["finish_reason"] = "stop"
        fed(self.decoder, [f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks])


def says(completion: Completion) -> tuple[str, str]:
    return completion.text, completion.extra.get("reasoning", "")


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_recording_is_told_piece_by_piece(name: str) -> None:
    listener = Listener(name.partition("/")[0])
    events = recorded(name).replace(b"\r\n", b"\n").split(b"\n\n")
    fed(listener.decoder, [event + b"\n\n" for event in events])
    text, reasoning = says(EXPECTED[name])
    # one piece that comes out of its place is put right at the end of the answer
    if name != "anthropic/mixed_order_crlf":
        assert (listener.told(), listener.told("reasoning")) == (text, reasoning)
    listener.decoder.finish(listener.decoder.completion())
    assert (listener.told(), listener.told("reasoning")) == (text, reasoning)
    first = [event for event in listener.events if isinstance(event, FirstToken)]
    assert len(first) == bool(text or reasoning)
    assert listener.events[:1] == first


@pytest.mark.parametrize("dialect", sorted(STREAMS))
@settings(max_examples=60)
@given(st.data())
def test_a_generated_stream_is_told_as_it_is_decoded(dialect: str, data: st.DataObject) -> None:
    body, expected = data.draw(STREAMS[dialect])
    listener = Listener(dialect)
    fed(listener.decoder, cut(body, data.draw(CUTS)))
    listener.decoder.finish(listener.decoder.completion())
    assert (listener.told(), listener.told("reasoning")) == says(expected)


def test_an_answer_in_one_piece_is_one_token() -> None:
    listener = Listener("openai")
    listener.decoder.whole(json.dumps({"choices": [{"message": {"content": "Hello."}, "finish_reason": "stop"}]}).encode())
    listener.decoder.finish(listener.decoder.completion())
    assert [event.text for event in listener.events if isinstance(event, Token)] == ["Hello."]


@pytest.mark.parametrize(
    "said",
    [
        # the whole so far, pieces, and equal pieces that look like the whole so far until another comes
        ["Hel", "Hello", "Hello there"],
        ["Hel", "lo ", "there"],
        ["ha", "ha", "ha!"],
        ["a", "abcd", "x"],
    ],
)
def test_text_that_a_server_tells_again_is_told_once(said: list[str]) -> None:
    listener = Listener("openai")
    listener.stream(*({"content": text} for text in said))
    assert listener.told() == listener.decoder.completion().text


def test_a_choice_that_stood_in_for_the_first_is_forgotten() -> None:
    listener = Listener("openai")
    chunks = [(1, "wrong"), (0, "right"), (1, "wrong"), (0, " one")]
    body = [{"id": "i", "model": "m", "choices": [{"index": index, "delta": {"content": text}}]} for index, text in chunks]
    fed(listener.decoder, [f"data: {json.dumps(chunk)}\n\n".encode() for chunk in body])
    assert listener.told() == "right one"


@pytest.mark.parametrize("secret", [KEY, "sk-se/cret+key"])
@given(st.lists(st.integers(0, 60), max_size=8))
@settings(max_examples=60)
def test_a_key_in_an_answer_is_told_in_no_pieces(secret: str, places: list[int]) -> None:
    text = f"skip: s {secret[:5]}. It is {secret}, sk-{secret}{secret[:3]}"
    edges = [0, *sorted(places), len(text)]
    listener = Listener("openai", secret)
    pieces = [text[start:end] for start, end in pairwise(edges)]
    chunks = [{"id": "i", "model": "m", "choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
    fed(listener.decoder, [f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks])
    assert secret not in listener.told()
    final = text.replace(secret, "[redacted]")
    assert final.startswith(listener.told())
    listener.decoder.finish(Completion(text=final, finish_reason="stop"))
    assert listener.told() == final
    # nothing of it is told again
    assert "".join(event.text for event in listener.events if isinstance(event, Token)) == final
