"""httpx's request and response, made without their constructors. Decision 0010 says why, and how to leave it.

The constructors parse every header again: a request takes 42 us with its constructor and 0.4 without, a response 6.6 and 2.4. An
object made without them has only the attributes that are set here: httpx's methods (``read``, ``json``, ``raise_for_status``) do
not work on it.
``tests/unit/providers/test_httpx_internals.py`` fails when a new version changes that. Last checked with ``CHECKED_WITH``.
"""

import httpx

from runner.providers.http.aiohttp_internals import RawResponseMessage
from runner.providers.http.exchange import HttpExchange
from runner.providers.http.timeouts import Watch

CHECKED_WITH = "0.28.1"
"""The version of httpx that both classes were last checked with."""


class Post(httpx.Request):
    """A POST whose parts are used as they are."""

    def __init__(self, url: httpx.URL, headers: httpx.Headers, content: bytes, exchange: HttpExchange, watch: Watch) -> None:
        self.method, self.url, self.headers = "POST", url, headers
        self.extensions = {}
        self.body, self.exchange, self.watch = content, exchange, watch


class Answer(httpx.Response):
    """An answer's head, with the parts that we need."""

    def __init__(self, message: RawResponseMessage, stream: httpx.AsyncByteStream, request: Post) -> None:
        self.status_code, self.stream, self.request = message.code, stream, request
        # for a 2xx, only the raw headers are read
        self.headers = httpx.Headers(message.raw_headers if not 200 <= message.code <= 299 else None)
        self.extensions = {}
