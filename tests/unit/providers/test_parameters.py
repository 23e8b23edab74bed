"""Which parameter a refusal names, in the words of many providers, and what else looks like it and is not."""

import json
from typing import Any

import pytest

from runner.errors import ProviderError
from runner.model import Params, Request
from runner.providers.classify import Names
from runner.providers.parameters import refused, without
from runner.providers.refusal import from_status, from_stream

SENT: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "user", "content": "hi"}],
    "max_tokens": 5,
    "temperature": 0,
    "top_p": 1,
    "stop": ["x"],
    "stop_sequences": ["x"],
    "seed": 1,
    "stream_options": {"include_usage": True},
    "response_format": {"type": "json_object"},
}
OPENAI_TEMPERATURE = (
    "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is supported."
)


def body(message: str, **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", **fields}}


def error(value: Any, status: int = 400) -> ProviderError:
    value = body(value) if isinstance(value, str) else value
    return from_status(status, {}, json.dumps(value).encode(), now=0.0, names=Names())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "max_tokens",
            body(
                "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
                param="max_tokens",
                code="unsupported_parameter",
            ),
        ),
        ("temperature", body(OPENAI_TEMPERATURE, param="temperature", code="unsupported_value")),
        ("temperature", OPENAI_TEMPERATURE),
        ("seed", "Unrecognized request argument supplied: seed"),
        ("seed", "Unrecognized request arguments supplied: seed, logprobs"),
        ("seed", body("Unknown parameter: 'seed'.", param="seed", code="unknown_parameter")),
        ("seed", "property 'seed' is unsupported, did you mean 'seeds'?"),
        ("stop", "Argument not supported on this model: stop"),
        ("stop", "Model grok-4 does not support parameter stop."),
        ("seed", 'Invalid JSON payload received. Unknown name "seed": Cannot find field.'),
        ("top_p", "Malformed input request: extraneous key [top_p] is not permitted, please reformat your input."),
        ("stop_sequences", "The model doesn't support the stopSequences field. Remove stopSequences and try again."),
        ("seed", "Extra inputs are not permitted, field: 'seed'"),
        ("seed", "unknown field `seed`, expected one of `model`, `messages`, `temperature`, `top_p`"),
        ("stream_options", "stream_options: Extra inputs are not permitted"),
        ("seed", "seed: extra fields not permitted"),
        ("seed", "'seed' is not a supported parameter"),
        ("temperature", "litellm.UnsupportedParamsError: openai does not support parameters: ['temperature'], for model=gpt-5."),
        ("temperature", "litellm.UnsupportedParamsError: openai does not support parameters: {'temperature': 0.2}, for model=g."),
        ("top_p", "`temperature` and `top_p` cannot both be specified for this model. Please use only one."),
        ("top_p", "Only one of top_p and temperature can be set; you cannot set both"),
        ("temperature", "`temperature` is deprecated for this model."),
        ("top_p", "top_p: deprecated for this model"),
        ("seed", {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}),
        (
            "seed",
            {
                "object": "error",
                "message": "[{'type': 'extra_forbidden', 'loc': ('body', 'seed'), 'msg': 'Extra inputs are not permitted'}]",
                "type": "BadRequestError",
                "param": None,
                "code": 400,
            },
        ),
        ("stream_options", "Additional properties are not allowed ('stream_options' was unexpected)"),
        ("seed", "create() got an unexpected keyword argument 'seed'"),
        ("max_tokens", "max_tokens: please use max_completion_tokens instead"),
        ("max_tokens", "max_tokens is no longer supported"),
        ("temperature", "The parameter temperature is not supported by this model"),
        ("temperature", "temperature may only be set to 1 when thinking is enabled"),
        ("temperature", "This model doesn't support setting temperature"),
        ("top_p", "This model does not support the `top_p` parameter."),
        ("stop", "'stop' parameter is not supported with this model."),
        ("stream_options", "Unsupported: stream_options"),
        ("top_p", "unsupported parameter(s): top_p"),
        ("top_p", "Parameter 'top_p' not supported"),
        ("stream_options", body("Unsupported parameter", param="stream_options.include_usage", code="unsupported_parameter")),
        ("stream_options", "Unknown parameter: 'stream_options.include_usage'."),
        (
            "temperature",
            "gpt-5 models don't support temperature=0.2. Only temperature=1 is supported. To drop params set drop_params",
        ),
        ("temperature", "invalid temperature: only 1 is allowed for this model"),
        ("temperature", "Only temperature=1 is supported"),
        ("top_p", "temperature, top_p and top_k are no longer supported"),
        ("temperature", "temperature and top_k are not supported by this model"),
        ("stream_options", "Extra parameters ['stream_options'] are not allowed when extra-parameters is not set"),
        ("top_p", "#/inferenceConfig: extraneous key [topP] is not permitted"),
        ("seed", {"message": {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Not permitted"}]}}),
        ("seed", "body.seed: extra fields not permitted"),
        ("top_p", body("This parameter is not supported.", param="top_p")),
        ("temperature", body("Invalid request", param="temperature", code="unsupported_parameter")),
    ],
)
def test_the_words_of_providers(name: str, said: Any) -> None:
    assert refused(error(said), SENT, ()) == name
    assert refused(error(said, 422), SENT, ()) == name
    # inside of a stream, or of a 200 that was not streamed
    assert refused(from_stream(said if isinstance(said, dict) else body(said), names=Names()), SENT, ()) == name


@pytest.mark.parametrize(
    "said",
    [
        body("max_tokens is too large: 99999. This model supports at most 4096 completion tokens.", param="max_tokens"),
        body("Invalid 'stop': array too long. Expected an array with maximum length 4, got 5.", code="array_above_max_length"),
        body("Invalid value for 'temperature': must be between 0 and 2", param="temperature"),
        "temperature: range: 0..1",
        "temperature must be at most 2",
        "top_p must be positive, temperature is fine; one may not be negative",
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
        body(
            "Unsupported parameter: 'response_format' is not supported with this model.",
            param="response_format",
            code="unsupported_parameter",
        ),
        body("Unsupported value: 'messages[0].role' does not support 'system' with this model.", param="messages[0].role"),
        body("Unknown parameter: 'reasoning_effort'.", code="unknown_parameter", param="reasoning_effort"),
        "'messages.0' : property 'name' is unsupported",
        "'messages.0.stop' is not supported",
        "You cannot use temperature above 1",
        "temperature: only values from 0 to 2 are allowed",
        "please stop the image is not supported",
        "stop and go: the image in your prompt is not supported",
        "This model does not support temperature > 1",
        "temperature is not supported above 1.0",
        "Your prompt is not allowed. Please stop.",
        "the model does not support images",
        "The model does not support image input; stop sequences are fine",
        "Invalid prompt: your prompt was flagged as potentially violating our usage policy.",
        {
            "detail": [
                {"type": "extra_forbidden", "loc": ["body", "messages", 0, "seed"], "msg": "Extra inputs are not permitted"}
            ]
        },
    ],
)
def test_what_is_no_refusal_of_a_parameter(said: Any) -> None:
    assert refused(error(said), SENT, ()) is None


VALUES = [
    (
        "temperature",
        "decimal_above_max_value",
        "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 3 instead.",
    ),
    (
        "stop",
        "array_above_max_length",
        "Invalid 'stop': array too long. Expected an array with maximum length 4, but got an array with length 5 instead.",
    ),
    ("seed", None, "seed: values above 9007199254740991 are not allowed"),
    ("stop", None, "more than 4 are not allowed"),
    ("stop", None, "'stop': a sequence of only whitespace is not allowed"),
    ("stop", None, "Too many stop sequences. Not supported."),
    ("temperature", "invalid_value", "temperature: 1.5 is not supported, must be between 0 and 1"),
    ("max_tokens", None, "max_tokens must be greater than thinking.budget_tokens; use a larger value instead"),
    ("max_tokens", None, "max_tokens of 100000 is not allowed; reduce it and use a smaller value instead"),
    ("temperature", None, "Value not supported: temperature must be in [0, 1]. Use a lower value instead"),
    ("temperature", None, "temperature: 3 is not supported"),
    ("temperature", "unsupported_value", "temperature=0 is not supported; use 0.01 instead"),
    ("temperature", "unsupported_value", "Invalid value"),
    (
        "top_p",
        "unsupported_value",
        "Unsupported value: 'top_p' does not support 0 with this model. Supported values are: 0.1, 0.5.",
    ),
    ("seed", "invalid_type", "Invalid type for 'seed': expected an integer, but got a string instead."),
    ("seed", None, "seed: negative numbers are not supported"),
    ("stop", None, "'stop' is not supported with more than 4 sequences"),
    ("stop", None, "stop: strings are not supported, use an array instead"),
    ("stop", None, "stop: '\\n' is not allowed"),
    ("stop", None, "stop: duplicates are not allowed"),
    ("stop_sequences", None, "stop_sequences: each stop sequence must contain non-whitespace"),
    ("stop", "string_too_long", "Unsupported parameter: 'stop'"),
    ("top_p", "less_than_equal", "Input is not supported"),
    ("temperature", None, "temperature may only be set between 0 and 1"),
    ("max_completion_tokens", None, "max_completion_tokens is too large. Not supported: use max_tokens instead"),
]  # fmt: skip


@pytest.mark.parametrize("status", [400, 422, None])
@pytest.mark.parametrize(("name", "code", "words"), VALUES)
def test_a_refusal_of_a_value_is_the_rows(name: str, code: str | None, words: str, status: int | None) -> None:
    sent = {**SENT, "max_completion_tokens": 5}
    for fields in ({"param": name, "code": code}, {"code": code}, {"param": name}, {}):
        if "code" not in fields and words in ("Unsupported parameter: 'stop'", "Input is not supported"):
            # the code alone tells of the value
            continue
        said = body(words, **fields)
        assert refused(error(said, status) if status else from_stream(said, names=Names()), sent, ()) is None


@pytest.mark.parametrize("status", [401, 402, 403, 404, 413, 429, 500, 503])
def test_other_statuses_teach_nothing(status: int) -> None:
    assert refused(error("Unsupported parameter: 'seed'", status), SENT, ()) is None


def test_a_quoted_prompt_teaches_nothing() -> None:
    prompt = "Explain: Unsupported parameter: 'seed' is not supported with this model"
    said = error(f'Invalid prompt: "{prompt}"')
    assert refused(said, SENT, ()) == "seed"
    for where in (
        {"messages": [{"role": "user", "content": prompt}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": prompt.replace("'", '"')}]}]},
        {"system": prompt.upper()},
    ):
        assert refused(said, {**SENT, **where}, ()) is None


def test_what_was_not_sent_or_is_the_users_own_is_not_learned() -> None:
    said = error("Unknown parameter: 'seed'.")
    assert refused(said, {name: value for name, value in SENT.items() if name != "seed"}, ()) is None
    assert refused(said, SENT, ("seed",)) is None
    both = error("`temperature` and `top_p` cannot both be specified for this model.")
    assert refused(both, SENT, ("top_p",)) == "temperature"
    assert refused(both, SENT, ("top_p", "temperature")) is None


def request(**params: Any) -> Request:
    return Request(model="m", messages=({"role": "user", "content": "hi"},), params=Params(**params))


def test_a_request_without_what_is_refused() -> None:
    made = without(request(max_tokens=5, temperature=0.0), {"temperature": None, "max_tokens": "max_completion_tokens"})
    assert made.params.extra_body == {"temperature": None, "max_tokens": None, "max_completion_tokens": 5}
    # the user's own words stay
    made = without(request(extra_body={"temperature": 1, "x": 2}), {"temperature": None})
    assert made.params.extra_body == {"temperature": 1, "x": 2}
    # a limit that the dialect adds of itself has no other name
    assert without(request(), {"max_tokens": "max_completion_tokens"}).params.extra_body == {}
