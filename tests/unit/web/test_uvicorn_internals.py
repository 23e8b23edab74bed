"""What the page uses of uvicorn below its documented surface is still there and still does the same."""

import asyncio
import signal
from contextlib import suppress
from pathlib import Path

from filling import done, filled
from internals import Internals
from webbing import BEARER, served_here, until

from runner.web import uvicorn_internals
from runner.web.uvicorn_internals import LimitedProtocol, abort

UVICORN = Internals(uvicorn_internals, "uvicorn")


def test_a_connection_is_known_by_its_client_limited_in_its_head_and_ended_at_once(tmp_path: Path) -> None:
    store = filled(tmp_path / "runner.db", done("a", 1))

    async def main() -> None:
        before = signal.getsignal(signal.SIGINT)
        async with served_here(store) as page:
            reader, writer = await asyncio.open_connection("127.0.0.1", page.port)
            own = writer.get_extra_info("sockname")
            head = f"GET /api/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: {BEARER['Authorization']}\r\n\r\n".encode()
            with UVICORN.uses("a protocol has the address of its client, as the scope has it"):
                writer.write(head[:9])
                await until(lambda: tuple(own) in LimitedProtocol.transports)
            protocol = LimitedProtocol.transports[tuple(own)].get_protocol()
            with UVICORN.uses("a protocol whose request has not begun has no cycle, or one that is complete"):
                assert isinstance(protocol, LimitedProtocol)
                await until(lambda: protocol._late is not None)
                assert protocol.cycle is None
                writer.write(head[9:])
                assert (await reader.readline()).startswith(b"HTTP/1.1 200")
                assert protocol._late is None
                assert not protocol.cycle.response_complete
            with UVICORN.uses("the transport of a client ends its stream, whatever it has not read"):
                abort(own)
                with suppress(ConnectionError):
                    await reader.read()
                assert tuple(own) not in LimitedProtocol.transports
            with UVICORN.uses("no handler of signals is set"):
                assert signal.getsignal(signal.SIGINT) is before
            writer.close()

    asyncio.run(main())
