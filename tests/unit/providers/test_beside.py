"""What comes with an answer beside its text: citations and the probabilities of tokens. The same in pieces and as a whole."""

import json
from typing import Any

from decoding import fed
from raw_server import BLOCK_STOP, DONE, MESSAGE_START, MESSAGE_STOP, USAGE, finish, message_delta, named, sse

from runner.model import Completion
from runner.providers.decoder import LOGPROBS_SHARE
from runner.providers.dialects import anthropic, openai

CITED = {"type": "url_citation", "url_citation": {"url": "https://h/a", "title": "A", "start_index": 0, "end_index": 4}}
OTHER = {"type": "url_citation", "url_citation": {"url": "https://h/b", "title": "B", "start_index": 4, "end_index": 5}}
TOKENS = [{"token": text, "logprob": -0.5, "bytes": None, "top_logprobs": []} for text in ("Rome", "!")]
PLACE = {"type": "char_location", "cited_text": "Rome is", "document_index": 0, "start_char_index": 0, "end_char_index": 7}


def chunk(delta: dict[str, Any], **more: Any) -> bytes:
    return sse({"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, **more}]})


def from_openai(*events: bytes) -> Completion:
    return fed(openai.make("http://h/v1", "k", version="1").decoder(), [*events, finish(), USAGE, DONE]).completion()


def whole(module: Any, answer: dict[str, Any]) -> Completion:
    decoder = module.make("http://h/v1", "k", version="1").decoder()
    decoder.whole(json.dumps(answer).encode())
    completion: Completion = decoder.completion()
    return completion


def message(**more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": "Rome!", **more}


def test_probabilities_come_in_pieces_with_the_text() -> None:
    pieces = [chunk({"content": one["token"]}, logprobs={"content": [one], "refusal": None}) for one in TOKENS]
    # once id and model are known, plain chunks take a short way, which must not drop them
    made = from_openai(chunk({"content": "", "role": "assistant"}, logprobs=None), *pieces)
    assert (made.text, made.extra) == ("Rome!", {"logprobs": {"content": TOKENS}})
    choice = {"index": 0, "message": message(), "finish_reason": "stop", "logprobs": {"content": TOKENS, "refusal": None}}
    assert whole(openai, {"id": "c", "model": "m", "choices": [choice]}).extra == made.extra
    assert from_openai(*(chunk({"content": "x"}, logprobs=None) for _ in range(3))).extra == {}


def test_the_lists_of_other_servers_grow_too() -> None:
    pieces = [chunk({"content": text}, logprobs={"tokens": [text], "token_logprobs": [-1.0]}) for text in ("a", "b")]
    assert from_openai(*pieces).extra["logprobs"] == {"tokens": ["a", "b"], "token_logprobs": [-1.0, -1.0]}
    assert from_openai(chunk({"content": "a"}, logprobs=["odd"]), chunk({"content": "b"}, logprobs={"content": 3})).extra == {}


def test_probabilities_count_towards_the_size_of_an_answer_as_a_part_of_their_length() -> None:
    decoder = openai.make("http://h/v1", "k", version="1").decoder()
    fed(decoder, [chunk({"content": "a"}, logprobs={"content": TOKENS * 200})])
    assert 200 * 60 // LOGPROBS_SHARE < decoder.text_chars < 200 * 400 // LOGPROBS_SHARE


def test_annotations_in_deltas_in_a_message_and_again_at_the_end() -> None:
    first, last = chunk({"content": "Rome", "annotations": [CITED]}), chunk({"content": "!", "annotations": [OTHER]})
    made = from_openai(first, last, chunk({"content": None, "annotations": [CITED, OTHER]}))
    assert (made.text, made.extra) == ("Rome!", {"citations": [CITED, OTHER]})
    choice = {"index": 0, "message": message(annotations=[CITED, OTHER]), "finish_reason": "stop"}
    assert whole(openai, {"id": "c", "model": "m", "choices": [choice]}).extra == made.extra
    assert (
        from_openai(chunk({"content": "a", "annotations": None}), chunk({"content": "b", "annotations": [3, None]})).extra == {}
    )


def test_citations_beside_the_choices() -> None:
    urls = ["https://h/a", "https://h/b"]
    event = {"id": "c", "model": "m", "citations": urls, "choices": [{"index": 0, "delta": {"content": "x"}}]}
    made = from_openai(sse(event), sse(event))
    assert (made.text, made.extra) == ("xx", {"citations": urls})
    choice = {"index": 0, "message": message(), "finish_reason": "stop"}
    assert whole(openai, {"citations": urls, "choices": [choice]}).extra == made.extra


def cited(index: int, citation: Any) -> bytes:
    return named("content_block_delta", index=index, delta={"type": "citations_delta", "citation": citation})


def text_block(index: int, text: str, *citations: Any) -> list[bytes]:
    start = named("content_block_start", index=index, content_block={"type": "text", "text": "", "citations": []})
    delta = named("content_block_delta", index=index, delta={"type": "text_delta", "text": text})
    pieces = [cited(index, one) for one in citations]
    return [start, *pieces[:1], delta, *pieces[1:], named("content_block_stop", index=index)]


def test_citations_of_messages_say_which_text_they_are_for() -> None:
    events = [MESSAGE_START, *text_block(0, "So "), *text_block(1, "Rome", PLACE, PLACE), *text_block(2, "!", {"type": "x"})]
    decoder = anthropic.make("http://h", "k", version="1").decoder()
    made = fed(decoder, [*events, message_delta(), MESSAGE_STOP]).completion()
    assert made.text == "So Rome!"
    assert made.extra == {
        "citations": [{**PLACE, "start_index": 3, "end_index": 7}, {"type": "x", "start_index": 7, "end_index": 8}]
    }
    blocks = [
        {"type": "text", "text": "So "},
        {"type": "text", "text": "Rome", "citations": [PLACE]},
        {"type": "text", "text": "!", "citations": [{"type": "x"}]},
    ]
    answer = {"type": "message", "id": "m", "model": "m", "content": blocks, "stop_reason": "end_turn"}
    assert whole(anthropic, answer).extra == made.extra


def test_odd_citations_change_nothing() -> None:
    events = [MESSAGE_START, *text_block(0, "a", None, 3), BLOCK_STOP, cited(0, None), message_delta(), MESSAGE_STOP]
    decoder = anthropic.make("http://h", "k", version="1").decoder()
    made = fed(decoder, events).completion()
    assert (made.text, made.extra) == ("a", {})
