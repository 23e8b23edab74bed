"""Addresses and headers of requests without their secrets, so that no key crosses. Pure.

In a route, the name of an environment variable between two marks stands for its value. A worker has the values in its own
environment. A value of a query is spelt as an address needs it, so it has marks of its own.
"""

from collections.abc import Callable, Mapping
from urllib.parse import quote, quote_plus

from runner.model import HttpCall
from runner.text import SHORTEST_SECRET
from runner.workers.protocol import Route

_BEGIN, _QUOTED, _PLUS, _END = "\ue000", "\ue001", "\ue002", "\ue003"
_MARKS: tuple[tuple[str, Callable[[str], str]], ...] = (
    (_BEGIN, str),
    (_QUOTED, lambda value: quote(value, safe="")),
    (_PLUS, quote_plus),
)
MOST_ROUTES = 2_000
"""Routes that a driver remembers: more than a job has endpoints. A worker remembers twice as many, so that none is missing."""


class Routes:
    """The routes of a session. secrets: values by the names of their variables."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        # a longer value may contain a shorter one
        self._secrets = sorted(((value, name) for name, value in secrets.items() if value), key=lambda pair: -len(pair[0]))
        self._known: dict[tuple[str, int], tuple[dict[str, str], Route]] = {}
        self._last = 0

    def of(self, call: HttpCall, base_url: str) -> Route:
        """Return the route of a call to an endpoint. The same headers, as one object, have the same route."""
        found = self._known.get((call.url, id(call.headers)))
        if found is not None and found[0] is call.headers:
            return found[1]
        if len(self._known) >= MOST_ROUTES:
            self._known.clear()
        self._last += 1
        headers = {name: self._hidden(text) for name, text in call.headers.items()}
        route = Route(self._last, self._hidden(call.url), headers, base_url)
        self._known[(call.url, id(call.headers))] = call.headers, route
        return route

    def _hidden(self, text: str) -> str:
        for value, name in self._secrets:
            if len(value) < SHORTEST_SECRET:
                # a word such as EMPTY: only where it is the value of a header
                if text == value or text.endswith(f" {value}"):
                    text = f"{text.removesuffix(value)}{_BEGIN}{name}{_END}"
                continue
            for begin, spelt in _MARKS:
                text = text.replace(spelt(value), f"{begin}{name}{_END}")
        return text


def filled(text: str, secrets: Mapping[str, str]) -> str:
    """Return a text of a route with its secrets. secrets: values by the names of their variables."""
    for name, value in secrets.items():
        for begin, spelt in _MARKS:
            text = text.replace(f"{begin}{name}{_END}", spelt(value))
    return text


def moved(url: str, base_url: str, own: str | None) -> str:
    """Return an address at another server. own: the base URL of that; None: the address stays."""
    return own.rstrip("/") + url.removeprefix(base_url.rstrip("/")) if own is not None and url.startswith(base_url) else url
