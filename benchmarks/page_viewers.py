"""Viewers of the page's stream, in a process of their own: ``python -m benchmarks.page_viewers STORE``. They say what they got.

Only the first one looks into what it gets; the others read and throw away, so that they do not take the processor of the run.
"""

import argparse
import asyncio
import json
import re
import socket
import statistics
import time
from contextlib import suppress
from pathlib import Path

from runner.web.token_file import token_of

_STAMP = re.compile(rb"(\d{10}\.\d{6}) ")
_LIMIT_S = 60.0


async def _connected(port: int, token: str) -> socket.socket:
    loop, until = asyncio.get_running_loop(), time.monotonic() + _LIMIT_S
    while time.monotonic() < until:
        end = socket.socket()
        end.setblocking(False)
        with suppress(OSError):
            await loop.sock_connect(end, ("127.0.0.1", port))
            head = f"GET /api/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
            await loop.sock_sendall(end, head.encode())
            return end
        end.close()
        await asyncio.sleep(0.05)
    raise RuntimeError("the page is not served")


async def _read(port: int, token: str, delays: list[float] | None) -> int:
    """Read a stream to its end. Return how many bytes came. delays: gets how late each token is."""
    loop, end, size, rest = asyncio.get_running_loop(), await _connected(port, token), 0, b""
    with end, suppress(ConnectionError):
        while piece := await loop.sock_recv(end, 1 << 18):
            size += len(piece)
            if delays is not None:
                now, text = time.monotonic(), rest + piece
                whole = text.rpartition(b"\n")[0]
                # of the state, which repeats what came before, nothing is timed
                lines = (line for line in whole.split(b"\n") if b'"pieces"' in line)
                delays += [now - float(stamp) for line in lines for stamp in _STAMP.findall(line)]
                rest = text[len(whole) :]
    return size


async def _deaf(port: int, token: str, run: Path) -> None:
    """Read nothing, as long as the run goes on."""
    with await _connected(port, token):
        while run.exists():  # noqa: ASYNC110, ASYNC240 - the file goes with the run
            await asyncio.sleep(0.1)


async def _all(store: Path, port: int, number: int, *, deaf: bool) -> None:
    until, delays = time.monotonic() + _LIMIT_S, list[float]()
    while not store.exists() and time.monotonic() < until:  # noqa: ASYNC110, ASYNC240 - the run makes it
        await asyncio.sleep(0.02)
    token, socket_file = token_of(store), store.with_name(f"{store.name}-run1.sock")
    reading = [_read(port, token, delays if place == 0 else None) for place in range(number)]
    sizes = await asyncio.gather(*reading, *([_deaf(port, token, socket_file)] if deaf else []))
    cuts = statistics.quantiles(delays, n=100) if len(delays) > 1 else [0.0] * 99
    told = {"bytes": sum(filter(None, sizes)), "tokens": len(delays), "delay_p50_s": cuts[49], "delay_p95_s": cuts[94]}
    print(json.dumps(told))


def main() -> None:
    """Parse the command line and look on."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page_viewers", description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("port", type=int)
    parser.add_argument("--number", type=int, default=1)
    parser.add_argument("--deaf", action="store_true")
    args = parser.parse_args()
    asyncio.run(_all(args.store, args.port, args.number, deaf=args.deaf))


if __name__ == "__main__":
    main()
