"""What the simulator uses of aiohttp's server below its documented surface is still there and still does the same."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from internals import Internals

from runner.simulator import aiohttp_internals
from runner.simulator.aiohttp_internals import connection_task

pytestmark = pytest.mark.anyio

AIOHTTP = Internals(aiohttp_internals, "aiohttp")
ASK = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"


@asynccontextmanager
async def serving(tasks: list[asyncio.Task[None]]) -> AsyncIterator[int]:
    """Serve on loopback; each request adds its connection's task. Gives the port."""

    async def answer(request: web.Request) -> web.Response:
        tasks.append(connection_task(request))
        return web.Response(text="x")

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def test_the_version_is_the_one_that_was_checked() -> None:
    AIOHTTP.check_one_minor_version()


async def test_a_connection_has_one_task_which_ends_with_it() -> None:
    tasks: list[asyncio.Task[None]] = []
    with AIOHTTP.uses_within("server.Simulator keeps connections by web.Request.task: one each, done when that is over"):
        async with serving(tasks) as port:
            writers = []
            for _ in range(2):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writers.append(writer)
                for _ in range(2):
                    writer.write(ASK)
                    await reader.readuntil(b"\r\n\r\nx")
            first, again, second, once_more = tasks
            assert first is again
            assert second is once_more
            assert first is not second
            assert isinstance(first, asyncio.Task)
            assert not first.done()
            writers[0].close()
            await asyncio.wait({first})
            assert not second.done()
            writers[1].close()
            await asyncio.wait({second})
