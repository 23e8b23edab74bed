"""Sends a script over one connection: its parts with pauses, in as few writes as possible, and its ending."""

import asyncio
import socket
import struct
import sys

from aiohttp import web

from runner.simulator.script import Script

STALL_S = 3600.0
# Pause before a reset. Without it, the client's kernel may process the reset before the bytes that were sent earlier.
BEFORE_RESET_S = 0.01
# A linger time of zero makes a socket send a reset when it is closed.
_NO_LINGER = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


class Progress:
    """How far a script was sent, also if the task that sends it is cancelled. sent: the parts that went out."""

    def __init__(self) -> None:
        self.sent = 0
        self.complete = False


async def play(request: web.Request, response: web.StreamResponse, script: Script, pause_s: float, progress: Progress) -> None:
    """Send the script. progress: complete if the body was sent to its end, and not if it was reset or the client disconnected."""
    try:
        await response.prepare(request)
        rest = await _all_but_the_last_write(response, script.parts, pause_s, progress)
        if script.ending == "end":
            await response.write_eof(rest)
            progress.complete = True
            return
        await response.write(rest)
        await asyncio.sleep(STALL_S if script.ending == "stall" else BEFORE_RESET_S)
        reset(request)
    except ConnectionError:
        # Usually the server cancels the handler of a client that has disconnected; a write may notice it first.
        return


async def _all_but_the_last_write(response: web.StreamResponse, parts: list[bytes], pause_s: float, progress: Progress) -> bytes:
    """Write the parts one after another, and return the data of the last write.

    All parts that are due go out in one write. A late event loop thus catches up, so an answer keeps its length under load.
    """
    if pause_s == 0:
        progress.sent = len(parts)
        return b"".join(parts)
    clock = asyncio.get_running_loop().time
    start = clock()
    sent = 0
    while True:
        due = max(sent + 1, min(len(parts), 1 + int((clock() - start) / pause_s)))
        data = b"".join(parts[sent:due])
        sent = progress.sent = due
        if sent == len(parts):
            return data
        await response.write(data)
        await asyncio.sleep(start + sent * pause_s - clock())


def reset(request: web.Request) -> None:
    """End a connection with a reset instead of an answer, or in the middle of one."""
    if (transport := request.transport) is None:
        return
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()
