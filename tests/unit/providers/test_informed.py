"""A provider that learns what a model refuses: once for a model, never twice, and never without an end."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from runner.errors import AttemptError, ProviderError
from runner.interfaces import Decoder
from runner.model import Completion, HttpCall, Params, Request
from runner.providers.classify import Names
from runner.providers.dialects import anthropic, openai
from runner.providers.explain import Destination
from runner.providers.informed import Informed
from runner.providers.refusal import from_status

HEATED = Request(model="m", messages=({"role": "user", "content": "hi"},), params=Params(temperature=0.5, max_tokens=5))
HERE = Destination(provider="openai", base_url="http://localhost:1234/v1", variable="OPENAI_API_KEY")


def refusal(words: str, status: int = 400) -> ProviderError:
    body = json.dumps({"error": {"message": words, "type": "invalid_request_error"}}).encode()
    return from_status(status, {}, body, now=0.0, names=Names())


class Stubborn:
    """A plug-in that takes no null out of its body."""

    def encode(self, request: Request) -> HttpCall:
        body = {"temperature": request.params.temperature, **(request.params.extra_body or {})}
        return HttpCall(url="http://x", headers={}, body=json.dumps(body).encode())

    def decoder(self) -> Decoder:
        raise NotImplementedError

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        raise NotImplementedError


class Deaf(Stubborn):
    """A plug-in that knows no ``extra_body``."""

    def encode(self, request: Request) -> HttpCall:
        return HttpCall(url="http://x", headers={}, body=b'{"temperature": 0.5}')


def body(call: HttpCall) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(call.body)
    return decoded


@pytest.mark.parametrize("module", [openai, anthropic])
def test_it_learns_once_and_tells_once(module: Any) -> None:
    told: list[str] = []
    provider = Informed(module.make("http://x", None, version="0"), tell=told.append)
    before = provider.encode(HEATED)
    for _ in range(3):
        # three requests that were out together
        error = provider.explained(refusal("Unsupported parameter: 'temperature'"), HEATED, before)
        assert (error.code, error.mended) == ("unsupported_parameter", True)
    assert (provider.revision, len(told)) == (1, 1)
    after = provider.encode(HEATED)
    assert set(body(before)) - set(body(after)) == {"temperature"}
    # another model still gets it
    assert "temperature" in body(provider.encode(Request(model="n", messages=HEATED.messages, params=HEATED.params)))
    # refused without being sent: the provider's refusal stands
    error = provider.explained(refusal("Unsupported parameter: 'temperature'"), HEATED, after)
    assert (error.code, error.verdict, error.mended) == ("bad_request", "fail", False)


@pytest.mark.parametrize("plug_in", [Stubborn(), Deaf()])
def test_a_plug_in_that_cannot_leave_it_out_makes_no_loop(plug_in: Any) -> None:
    provider = Informed(plug_in)
    call, sent = provider.encode(HEATED), 0
    while provider.explained(refusal("Unsupported parameter: 'temperature'"), HEATED, call).mended:
        call, sent = provider.encode(HEATED), sent + 1
        assert sent < 3


def test_a_limit_of_tokens_gets_its_other_name_and_is_never_left_out() -> None:
    provider = Informed(openai.make("http://x", None, version="0"))
    first = provider.encode(HEATED)
    assert provider.explained(refusal("Unsupported parameter: 'max_tokens'"), HEATED, first).mended
    second = provider.encode(HEATED)
    assert ("max_tokens" in body(second), body(second)["max_completion_tokens"]) == (False, 5)
    error = provider.explained(refusal("Unsupported parameter: 'max_completion_tokens'"), HEATED, second)
    assert (error.code, error.mended) == ("bad_request", False)


def test_strict_parameters_stop_the_run() -> None:
    provider = Informed(openai.make("http://x", None, version="0"), strict=True)
    error = provider.explained(refusal("Unsupported parameter: 'temperature'"), HEATED, provider.encode(HEATED))
    assert (error.code, error.verdict, error.mended) == ("unsupported_parameter", "stop", False)
    assert str(error).startswith("m does not take temperature: 400")
    assert provider.revision == 0


def test_a_body_that_is_no_json_teaches_nothing() -> None:
    provider = Informed(openai.make("http://x", None, version="0"))
    call = HttpCall(url="http://x", headers={}, body=b"\x00")
    assert not provider.explained(refusal("Unsupported parameter: 'temperature'"), HEATED, call).mended


def test_addresses_are_judged_until_the_first_answer() -> None:
    doubts: list[bool] = []
    provider = Informed(openai.make("http://x", None, version="0"), destination=HERE, doubt=lambda: doubts.append(True))
    call = provider.encode(HEATED)

    def said() -> str:
        return str(provider.explained(AttemptError("closed before it answered", code="closed"), HEATED, call))

    assert said() == "closed before it answered; if the server expects https, use https://localhost:1234/v1"
    assert (said(), doubts) == (said(), [True])
    provider.judged(Completion(text="Hello", finish_reason="stop"))
    assert said() == "closed before it answered"


def test_rows_that_set_other_parameters_keep_theirs() -> None:
    told: list[str] = []
    provider = Informed(openai.make("http://x", None, version="0"), tell=told.append)
    plain = Request(model="m", messages=HEATED.messages, params=Params(top_p=0.9))
    both = Request(model="m", messages=HEATED.messages, params=Params(top_p=0.9, temperature=0.5))
    thinking = Request(model="m", messages=HEATED.messages, params=Params(temperature=0.5, extra_body={"thinking": {}}))
    words = "`temperature` and `top_p` cannot both be specified for this model."
    assert provider.explained(refusal(words), both, provider.encode(both)).mended
    assert "top_p" not in body(provider.encode(both))
    assert body(provider.encode(plain))["top_p"] == 0.9
    words = "`temperature` may only be set to 1 when thinking is enabled."
    assert provider.explained(refusal(words), thinking, provider.encode(thinking)).mended
    assert "temperature" not in body(provider.encode(thinking))
    assert body(provider.encode(HEATED))["temperature"] == 0.5
    # the same name with another value
    calm = Request(model="m", messages=HEATED.messages, params=Params(temperature=0.5, extra_body={"thinking": None}))
    assert body(provider.encode(calm))["temperature"] == 0.5
    # the same for rows of another shape is learned again and not told again
    assert provider.explained(refusal("Unsupported parameter: 'temperature'"), HEATED, provider.encode(HEATED)).mended
    assert len(told) == 2


@pytest.mark.parametrize("strict", [True, False])
def test_a_refused_value_fails_its_row_only(strict: bool) -> None:
    provider = Informed(openai.make("http://x", None, version="0"), strict=strict)
    error = refusal("Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 3 instead.")
    error = provider.explained(error, HEATED, provider.encode(HEATED))
    assert (error.code, error.verdict, error.mended, provider.revision) == ("bad_request", "fail", False, 0)


@pytest.mark.parametrize("words", ["Unrecognized request argument supplied: service_tier", "service_tier must be 'default'"])
def test_a_refused_tier_stops_the_run_and_the_standard_one_is_left_out(words: str) -> None:
    openai_like = openai.make("http://x", None, version="0")
    flex = Request(model="m", messages=HEATED.messages, tier="flex")
    here = Destination(provider="openai", base_url="http://x/v1", variable="OPENAI_API_KEY", model="m")
    provider = Informed(openai_like, destination=here)
    error = provider.explained(refusal(words), flex, provider.encode(flex))
    assert (error.code, error.verdict) == ("unsupported_tier", "stop")
    standard = Request(model="m", messages=HEATED.messages, tier="default")
    error = provider.explained(refusal("Unknown parameter: 'service_tier'"), standard, provider.encode(standard))
    assert error.mended
    assert "service_tier" not in body(provider.encode(standard))
