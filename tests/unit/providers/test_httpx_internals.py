"""httpx's request and response still work without their constructors, as far as the client uses them.

A failure usually means that another version of httpx is installed; the message says what to check.
"""

from typing import Any

import httpx
import pytest
from asking import CALM, PROGRAM_LOOP
from internals import Internals, foreign_names
from raw_server import RawServer, whole

from runner.providers.http import httpx_internals
from runner.providers.http.exchange import HttpExchange
from runner.providers.http.httpx_internals import Answer, Post
from runner.providers.http.timeouts import TimeoutTimer, Watch
from runner.providers.http.transport import Transport

pytestmark = pytest.mark.anyio

HTTPX = Internals(httpx_internals, "httpx")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return PROGRAM_LOOP


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found"])
async def test_an_exchange_with_objects_that_went_through_no_constructor(status: str) -> None:
    timer = TimeoutTimer(CALM)
    with HTTPX.uses_within("Post and Answer have the attributes that their __init__ sets, and httpx's own objects have the same"):
        async with RawServer(whole(status, b"abc", x_one="a")) as server:
            url, headers, exchange = httpx.URL(f"{server.base_url}/x"), httpx.Headers({"X-Two": "b"}), HttpExchange()
            transport, watch = Transport(None), Watch(timer)
            post = Post(url, headers, b"body", exchange, watch)
            assert (post.body, post.exchange, post.watch) == (b"body", exchange, watch)
            answer = await transport.handle_async_request(post)
            try:
                body = b"".join([piece async for piece in answer.stream])
            finally:
                await answer.stream.aclose()
                await transport.aclose()
            (request,) = server.requests
        assert (request.method, request.path, request.headers["x-two"], request.body) == ("POST", "/v1/x", "b", b"body")
        assert body == b"abc"

        theirs = httpx.Request("POST", url, headers={"X-Two": "b"}, content=b"body")
        assert isinstance(post, httpx.Request)
        assert (post.method, post.url, post.extensions) == (theirs.method, theirs.url, theirs.extensions)
        assert post.headers["x-two"] == theirs.headers["x-two"] == "b"

        raw = [(b"x-one", b"a"), (b"content-length", b"3")] if status != "200 OK" else []
        known = httpx.Response(int(status[:3]), headers=raw, request=theirs, stream=httpx.ByteStream(b"abc"))
        assert isinstance(answer, httpx.Response)
        assert (answer.status_code, answer.extensions) == (known.status_code, known.extensions)
        assert answer.headers.raw == known.headers.raw
        assert answer.request is post
    timer.close()


def test_what_a_post_adds_is_no_name_of_httpx() -> None:
    with HTTPX.uses("Post adds body, exchange and watch to httpx.Request, which must not have attributes of these names"):
        assert not {"body", "exchange", "watch"} & foreign_names(Post)
        assert {"method", "url", "headers", "extensions"} <= foreign_names(Post)
        assert {"status_code", "stream", "request", "headers", "extensions"} <= foreign_names(Answer)
