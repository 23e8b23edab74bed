"""What an error shows about key and address: the words, the code and the verdict."""

import json
from typing import Any

import pytest

from runner.errors import AttemptError, ProviderError, TransportError
from runner.providers.classify import Names
from runner.providers.explain import Destination, explain
from runner.providers.refusal import from_status, from_stream

LOCAL = "http://localhost:1234"


def explained(error: AttemptError, base_url: str = LOCAL, *, answered: bool = False, before: bool = False, **to: Any) -> str:
    known = {"provider": "openai", "variable": "OPENAI_API_KEY", "base_url": base_url, "answered": before, **to}
    destination = Destination(**known)
    explain(error, destination, "my-model", answered=answered)
    return str(error)


def refusal(status: int, body: Any, **headers: str) -> ProviderError:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return from_status(status, headers, data, now=0.0, names=Names())


UNAUTHORIZED = {"error": {"message": "Missing bearer authentication", "type": "invalid_request_error"}}


@pytest.mark.parametrize("status", [401, 403])
def test_no_key(status: int) -> None:
    error = refusal(status, {"error": {"message": "no API key"}})
    assert explained(error, missing="is not set").startswith(f"no key was sent: OPENAI_API_KEY is not set ({status}")
    error = refusal(status, {"error": {"message": "no API key"}})
    assert explained(error, missing="is empty", variable="ANTHROPIC_API_KEY").startswith(
        "no key was sent: ANTHROPIC_API_KEY is empty ("
    )


def test_another_variable_may_hold_it() -> None:
    words = explained(refusal(401, UNAUTHORIZED), missing="is not set", other="GROQ_API_KEY")
    assert "OPENAI_API_KEY is not set, but GROQ_API_KEY is: --api-key-env GROQ_API_KEY sends it" in words


def test_a_wrong_key() -> None:
    assert explained(refusal(401, UNAUTHORIZED)).endswith("; the key was read from OPENAI_API_KEY")
    words = explained(refusal(401, UNAUTHORIZED), fault="looks like a placeholder")
    assert words.startswith("the key in OPENAI_API_KEY looks like a placeholder (401")
    # also after answers: a key can expire
    assert "the key was read from" in explained(refusal(401, UNAUTHORIZED), answered=True)


NO_ROUTE = [
    refusal(404, b"404 page not found"),
    refusal(404, {"detail": "Not Found"}),
    refusal(404, {"error": {"message": "Invalid URL (POST /chat/completions)", "type": "invalid_request_error"}}),
    refusal(404, b"<html><head><title>404 Not Found</title></head></html>"),
    refusal(404, b"<!DOCTYPE html><html><body><pre>Cannot POST /chat/completions</pre></body></html>"),
    refusal(404, b""),
    refusal(404, {"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}}),
    refusal(405, {"detail": "Method Not Allowed"}),
    refusal(405, b""),
    from_stream({"error": "Unexpected endpoint or method. (POST /chat/completions)"}, names=Names()),
]


@pytest.mark.parametrize("number", range(len(NO_ROUTE)))
def test_a_base_url_without_its_version(number: int) -> None:
    error = NO_ROUTE[number]
    assert explained(error).endswith("; base_url lacks /v1: use http://localhost:1234/v1")
    assert (error.code, error.verdict) == ("not_found", "stop")


def test_a_page_instead_of_an_answer() -> None:
    page = AttemptError("the endpoint answered text/html and not an event stream: '<html>'", code="not_an_api", verdict="stop")
    assert explained(page).endswith("base_url lacks /v1: use http://localhost:1234/v1")


@pytest.mark.parametrize(
    ("base_url", "words"),
    [
        ("http://localhost:11434/api", "base_url lacks /v1: use http://localhost:11434/v1"),
        ("http://localhost:1234/api/v0", "base_url lacks /v1: use http://localhost:1234/v1"),
        ("http://host/proxy", "base_url lacks /v1: use http://host/proxy/v1"),
        ("http://host/v1/v1", "base_url has /v1 twice: use http://host/v1"),
        ("http://host/v1", "nothing is at http://host/v1/chat/completions"),
        ("https://openrouter.ai/v1", "base_url of openrouter.ai is https://openrouter.ai/api/v1"),
        ("https://api.groq.com/v1", "base_url of api.groq.com is https://api.groq.com/openai/v1"),
    ],
)
def test_the_address_to_use(base_url: str, words: str) -> None:
    assert explained(refusal(404, b"404 page not found"), base_url).endswith(f"; {words}")


def test_an_anthropic_path_that_is_not_there() -> None:
    words = explained(refusal(404, b"404 page not found"), "http://localhost:8000/v1", provider="anthropic")
    assert "the server has no http://localhost:8000/v1/messages" in words
    assert words.endswith("use --provider openai with http://localhost:8000/v1")


def test_a_plug_in_gets_no_address() -> None:
    assert explained(refusal(404, b"404 page not found"), provider="murmur") == "404: 404 page not found"


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "The model `my-model` does not exist or you do not have access to it.", "code": "model_not_found"}},
        {"error": {"message": 'model "my-model" not found, try pulling it first', "type": "not_found_error"}},
        {"type": "error", "error": {"type": "not_found_error", "message": "model: my-model"}},
        {"error": "my-model: not found"},
    ],
)
def test_a_wrong_model_is_not_a_wrong_address(body: Any) -> None:
    error = refusal(404, body)
    before = str(error)
    assert explained(error) == before


def test_nothing_is_said_about_an_address_that_has_answered() -> None:
    for error in (refusal(404, b"404 page not found"), refusal(405, b""), TransportError("closed", code="closed")):
        before = str(error), error.code, error.verdict
        explained(error, answered=True)
        assert (str(error), error.code, error.verdict) == before


def test_other_errors_stay_as_they_are() -> None:
    for status in (400, 413, 422, 429, 500, 503):
        error = refusal(status, {"error": {"message": "the prompt says: page not found"}})
        before = str(error), error.code, error.verdict
        explained(error, "https://host/v1")
        assert (str(error), error.code, error.verdict) == before


@pytest.mark.parametrize("words", ["[SSL: WRONG_VERSION_NUMBER] wrong version number", "[SSL] record layer failure"])
def test_https_to_a_plain_port(words: str) -> None:
    error = TransportError(f"no TLS connection: {words}", code="tls", sent=False)
    assert explained(error, "https://localhost:1234/v1").endswith(
        "the server does not speak https there: use http://localhost:1234/v1"
    )
    assert (error.code, error.verdict) == ("tls", "stop")


@pytest.mark.parametrize(
    "error",
    [
        refusal(400, b"<html><head><title>400 The plain HTTP request was sent to HTTPS port</title></head></html>"),
        refusal(400, b"Client sent an HTTP request to an HTTPS server.\n"),
        TransportError("the answer is not valid HTTP: Expected HTTP/: b'\\x15\\x03\\x03\\x00'", code="bad_http"),
    ],
)
def test_http_to_a_tls_port(error: AttemptError) -> None:
    assert explained(error, "http://localhost:8443/v1").endswith("the server speaks https there: use https://localhost:8443/v1")
    assert (error.code, error.verdict) == ("address", "stop")


def test_a_closed_connection_may_be_the_wrong_scheme() -> None:
    error = TransportError("the server closed the connection before it answered", code="closed")
    assert explained(error).endswith("if the server expects https, use https://localhost:1234")
    assert (error.code, error.verdict) == ("closed", "retry")
    certificate = TransportError("the server's certificate is not valid: expired", code="tls", verdict="stop", sent=False)
    assert explained(certificate, "https://localhost:1234/v1") == "the server's certificate is not valid: expired"


def test_a_redirect_names_the_address() -> None:
    error = refusal(301, b"", location="https://host/v1/chat/completions?x=1")
    assert explained(error, "http://host/v1").endswith("; use https://host/v1")


# -- a 403 without a key


FORBIDDEN = [{"error": "Forbidden"}, b"<html><head><title>403 Forbidden</title></head></html>"]


@pytest.mark.parametrize("body", FORBIDDEN)
def test_a_403_without_a_key_is_for_want_of_it(body: Any) -> None:
    error = refusal(403, body)
    assert explained(error, missing="is not set").startswith("no key was sent: OPENAI_API_KEY is not set (403")
    assert (error.code, error.verdict) == ("auth", "stop")


@pytest.mark.parametrize("body", FORBIDDEN)
def test_a_403_in_a_run_with_answers_stays_the_rows_and_names_the_key(body: Any) -> None:
    error = refusal(403, body)
    assert "no key was sent" in explained(error, missing="is not set", before=True)
    assert (error.code, error.verdict) == ("bad_request", "fail")


def test_other_403s_are_as_they_were() -> None:
    for error, more in (
        (refusal(403, FORBIDDEN[0]), {}),
        (refusal(403, FORBIDDEN[0]), {"answered": True, "missing": "is not set"}),
        (refusal(400, FORBIDDEN[0]), {"missing": "is not set"}),
        (refusal(403, {"error": {"message": "flagged", "code": "content_policy"}}), {"missing": "is not set"}),
    ):
        before = str(error), error.code, error.verdict
        explained(error, **more)  # type: ignore[arg-type]
        assert (str(error), error.code, error.verdict) == before


# -- what a command may spell


@pytest.mark.parametrize(
    ("base_url", "named", "address"),
    [
        ("http://localhost:1234", True, "http://localhost:1234/v1"),
        ("http://localhost:1234?a=b", True, "http://localhost:1234/v1?a=b"),
        ("http://localhost:1234", False, None),
        ("https://openrouter.ai/v1", True, "https://openrouter.ai/api/v1"),
        # its port may be another server's
        ("https://openrouter.ai:8443/v1", True, None),
        ("http://host/v1", True, None),
    ],
)
def test_an_address_for_a_command(base_url: str, named: bool, address: str | None) -> None:
    error = refusal(404, b"404 page not found")
    explained(error, base_url, named=named)
    assert (error.misplaced, error.address) == (True, address)


@pytest.mark.parametrize(
    ("base_url", "spelt"), [("https://h:1234/v1", True), ("https://h/v1", False), ("https://h:443/v1", False)]
)
def test_no_command_takes_the_encryption_away_at_the_port_of_https(base_url: str, spelt: bool) -> None:
    error = TransportError("no TLS connection: [SSL: WRONG_VERSION_NUMBER] wrong version number", code="tls", sent=False)
    explained(error, base_url, named=True)
    assert error.address == (base_url.replace("https:", "http:") if spelt else None)


@pytest.mark.parametrize(
    ("target", "address"),
    [
        ("https://host/v1/chat/completions", "https://host/v1"),
        ("http://host/other/v1/chat/completions", "http://host/other/v1"),
        ("https://elsewhere.example/v1/chat/completions", None),
        ("http://host:8080/v1/chat/completions", None),
    ],
)
def test_a_redirect_to_another_server_is_no_command(target: str, address: str | None) -> None:
    error = refusal(301, b"", location=target)
    explained(error, "http://host/v1", named=True)
    assert error.address == address


@pytest.mark.parametrize("answered", [True, False])
def test_a_rows_own_missing_model_is_named(answered: bool) -> None:
    body = {"error": {"message": "The model `my-model` does not exist", "code": "model_not_found"}}
    words = explained(refusal(404, body), answered=answered, model="the run's")
    assert words.endswith("; the row names the model my-model itself")
    assert "itself" not in explained(refusal(404, body), answered=answered, model="my-model")
