"""The server of agents over HTTP: who is slow holds no connection."""

import asyncio

import pytest
import uvicorn
from starlette.responses import PlainTextResponse

from runner.integrations.mcp_http import configured, listening

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("head", [b"", b"POST /mcp HTTP/1.1\r\nHost: 127", b"POST /mcp HTTP/1.1\r\nX: " + b"a" * 40_000])
async def test_a_head_that_does_not_end_loses_its_connection(head: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.web.uvicorn_internals.HEAD_S", 0.2)
    server, end = uvicorn.Server(configured(PlainTextResponse("here"))), listening(0)
    serving = asyncio.ensure_future(server.serve(sockets=[end]))
    try:
        reader, writer = await asyncio.open_connection(*end.getsockname())
        writer.write(head)
        with_answer = await asyncio.wait_for(reader.read(), 60)
        assert b"here" not in with_answer
        writer.close()
    finally:
        server.should_exit = True
        await serving
