"""Plays a script onto one connection: pauses, few writes, and the ending that was asked for."""

import asyncio
import socket
import struct
import sys

from aiohttp import web

from runner.simulator.script import Script

STALL_S = 3600.0
# Without it the reset may overtake, in the client's kernel, the bytes that were sent before it.
_BEFORE_RESET_S = 0.01
# Time zero to linger is how a socket is told to reset instead of saying goodbye.
_NO_LINGER = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


async def play(request: web.Request, response: web.StreamResponse, script: Script, pause_s: float) -> bool:
    """Send the script; True when the body has got its proper end, False when it was cut or the client has left."""
    try:
        await response.prepare(request)
        rest = await _all_but_the_last_write(response, script.parts, pause_s)
        if script.ending == "end":
            await response.write_eof(rest)
            return True
        await response.write(rest)
        await asyncio.sleep(STALL_S if script.ending == "stall" else _BEFORE_RESET_S)
        _reset(request)
    except ConnectionError:
        # Usually the server cancels the handler of a client that left; a write may notice first.
        return False
    return False


async def _all_but_the_last_write(response: web.StreamResponse, parts: list[bytes], pause_s: float) -> bytes:
    """Write part after part and return what is left for the last write.

    What is due goes out in one write: a late loop catches up, so that the length of an answer stays true under load.
    """
    if pause_s == 0:
        return b"".join(parts)
    clock = asyncio.get_running_loop().time
    start = clock()
    sent = 0
    while True:
        due = max(sent + 1, min(len(parts), 1 + int((clock() - start) / pause_s)))
        data = b"".join(parts[sent:due])
        sent = due
        if sent == len(parts):
            return data
        await response.write(data)
        await asyncio.sleep(start + sent * pause_s - clock())


def _reset(request: web.Request) -> None:
    if (transport := request.transport) is None:
        return
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()
