"""A model server that keeps a bill of its own for each run, with faults; it shares no code with ``runner``.

A request is billed when it has come in, whatever becomes of its answer: that is what a provider may do at worst. Only refusals by
an HTTP status cost nothing. By default each answer is as long as the request allows, and half of the requests, and all whose
usage is not told, cost the most that they can: each byte of the body is a token, and all is written to a cache.
"""

import json
import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

from raw_server import DONE, HANG, RST, STREAM, Received, Reply, Step, chunk, delta, finish, named, sse, stream, whole

INPUT, OUTPUT, WRITTEN, WRITTEN_1H, REASONING = 1_000_000, 4_000_000, 1_250_000, 2_000_000, 7_000_000
"""Picodollars of a token: input, output, input that is written to a cache, the same for an hour, output that is reasoning."""
PRICES = {"m": {"input": 1, "output": 4, "cache_write": 1.25}}
"""The same as the setting ``prices``. Of a cache that is kept for an hour the rate is not stated: it is twice that of input."""
THINKING = {"m": {**PRICES["m"], "reasoning": 7}}
"""The same where the model thinks: half of the tokens of each answer are reasoning, which no answer tells apart."""
THINKS = "-thinks"
FAULTS = {"500": 0.05, "429": 0.03, "reset": 0.04, "cut": 0.06, "stall": 0.02, "error": 0.03}
"""Shares of requests."""


class Biller:
    """Answers requests under ``/NAME/...`` and bills them to the run of that name.

    ordinary: answers have lengths as models give them, a third of the limit in the mean. pause_s: the longest time of an answer.
    A run whose name ends with ``THINKS`` has answers with reasoning, at the prices ``THINKING``.
    """

    def __init__(
        self, *, seed: int = 0, faults: Mapping[str, float] = FAULTS, ordinary: bool = False, pause_s: float = 0.03
    ) -> None:
        self._chance, self._faults, self._ordinary, self._longest_s = random.Random(seed), faults, ordinary, pause_s
        # picodollars and tokens that were billed, and picodollars of whole answers, by run
        self.bills: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()

    def __call__(self, request: Received) -> Reply:
        """Bill a request and return its reply."""
        run, body = request.path.split("/")[1], request.json
        self.requests[run] += 1
        kind = self._fault()
        if kind == "500":
            return whole("500 Internal Server Error", {"error": {"message": "oops"}})
        if kind == "429":
            return whole("429 Too Many Requests", {"error": {"message": "slow down"}}, retry_after_ms="20")
        dearest = not self._ordinary and (kind is not None or self._chance.random() < 0.5)
        read, written = (len(request.body), _limit(body)) if dearest else self._tokens(body)
        stored = read if dearest or (self._chance.random() < 0.5 and request.path.endswith("/messages")) else 0
        hour = stored if b'"ttl"' in request.body else 0
        thought = (written + 1) // 2 if run.endswith(THINKS) else 0
        cost = (read - stored) * INPUT + (stored - hour) * WRITTEN + hour * WRITTEN_1H
        cost += (written - thought) * OUTPUT + thought * REASONING
        self.bills[run] += cost
        self.tokens[run] += read + written
        pause_s = self._chance.uniform(0, self._longest_s)
        if kind == "reset":
            return Reply((pause_s, RST))
        steps = _anthropic(read, stored, hour, written) if request.path.endswith("/messages") else _openai(read, stored, written)
        if kind in ("cut", "stall"):
            return Reply((STREAM, chunk(steps[0]), pause_s, RST if kind == "cut" else HANG))
        if kind == "error":
            return stream(steps[0], sse({"type": "error", "error": {"type": "api_error", "message": "oops"}}, "error"))
        self.answers[run] += cost
        return stream(steps[0], pause_s, *steps[1:])

    def _fault(self) -> str | None:
        drawn = self._chance.random()
        for name, share in self._faults.items():
            drawn -= share
            if drawn < 0:
                return name
        return None

    def _tokens(self, body: Mapping[str, Any]) -> tuple[int, int]:
        most = _limit(body)
        size = sum(len(json.dumps(message["content"]).encode()) for message in body["messages"])
        if not self._ordinary:
            return size, most
        return size // 4 + 7, min(most, max(1, round(self._chance.lognormvariate(0, 0.6) * most / 4)))


def _limit(body: Mapping[str, Any]) -> int:
    return max(body.get("max_tokens") or 0, body.get("max_completion_tokens") or 0)


def _openai(read: int, stored: int, written: int) -> list[bytes]:
    # a gateway, which has one number for caches of both lives
    usage = {"prompt_tokens": read, "completion_tokens": written, "prompt_tokens_details": {"cache_write_tokens": stored}}
    return [delta("word"), finish("length"), sse({"choices": [], "usage": usage}), DONE]


def _anthropic(read: int, stored: int, hour: int, written: int) -> list[Step]:
    lives = {"ephemeral_5m_input_tokens": stored - hour, "ephemeral_1h_input_tokens": hour}
    usage = {"input_tokens": read - stored, "cache_creation_input_tokens": stored, "cache_creation": lives, "output_tokens": 1}
    return [
        named("message_start", message={"id": "m-1", "model": "m-1", "usage": usage})
        + named("content_block_start", index=0, content_block={"type": "text", "text": ""})
        + named("content_block_delta", index=0, delta={"type": "text_delta", "text": "word"}),
        named("content_block_stop", index=0),
        named("message_delta", delta={"stop_reason": "max_tokens"}, usage={"output_tokens": written}),
        named("message_stop"),
    ]
