"""Streamed HTTP exchanges, with their timeouts and size limits; the only package that uses an HTTP library.

The client is imported when it is first used: a session whose workers send the requests needs no HTTP library.
"""

from runner.providers.http.exchange import HttpExchange
from runner.providers.http.timeouts import Timeouts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from runner.providers.http.client import Caps, HttpClient

__all__ = ["Caps", "HttpClient", "HttpExchange", "Timeouts"]


def __getattr__(name: str) -> "Any":
    if name not in ("Caps", "HttpClient"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from runner.providers.http import client

    return getattr(client, name)
