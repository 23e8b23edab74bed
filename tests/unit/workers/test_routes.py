"""Addresses and headers without their secrets."""

from urllib.parse import quote, quote_plus

import pytest

from runner.model import HttpCall
from runner.workers.protocol import Route
from runner.workers.routes import Routes, filled, moved

SECRETS = {"THE_KEY": "sk-a/secret+with spaces&more-0123456789", "SHORT": "EMPTY"}


def crossed(url: str, headers: dict[str, str]) -> tuple[Route, str, dict[str, str]]:
    """Return a route, and what a worker makes of it."""
    route = Routes(SECRETS).of(HttpCall(url=url, headers=headers, body=b""), "https://host/v1")
    return route, filled(route.url, SECRETS), {name: filled(text, SECRETS) for name, text in route.headers.items()}


@pytest.mark.parametrize("spelt", [str, lambda value: quote(value, safe=""), quote_plus])
def test_a_secret_does_not_cross_and_is_filled_in_again(spelt: object) -> None:
    value = spelt(SECRETS["THE_KEY"])  # type: ignore[operator]
    url, headers = f"https://host/v1?key={value}", {"Authorization": f"Bearer {SECRETS['THE_KEY']}", "X-Plain": "yes"}
    route, found, again = crossed(url, headers)
    assert "secret" not in str(route)
    assert (found, again) == (url, headers)


def test_a_short_placeholder_is_replaced_only_where_it_is_the_value() -> None:
    route, _, again = crossed("https://EMPTY/v1", {"Authorization": "Bearer EMPTY", "X-Note": "an EMPTY box"})
    assert (route.url, "EMPTY" in route.headers["Authorization"]) == ("https://EMPTY/v1", False)
    assert again == {"Authorization": "Bearer EMPTY", "X-Note": "an EMPTY box"}


def test_the_same_headers_have_one_route() -> None:
    routes, headers = Routes(SECRETS), {"A": "b"}
    first = routes.of(HttpCall(url="https://host/v1", headers=headers, body=b"1"), "https://host")
    assert routes.of(HttpCall(url="https://host/v1", headers=headers, body=b"2"), "https://host") is first
    assert routes.of(HttpCall(url="https://host/v1", headers=dict(headers), body=b"2"), "https://host").number != first.number


@pytest.mark.parametrize(
    ("own", "found"),
    [
        (None, "https://host/v1/chat/completions"),
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1/chat/completions"),
        ("http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000/v1/chat/completions"),
    ],
)
def test_a_worker_may_send_to_another_server(own: str | None, found: str) -> None:
    assert moved("https://host/v1/chat/completions", "https://host/v1", own) == found
