"""Watchers of a running session, in a process of their own: ``python -m benchmarks.watchers STORE``. They say what they got."""

import argparse
import asyncio
import json
import re
import socket
import statistics
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from runner.control.client import Connection, connect
from runner.control.messages import Ask, Watch, encode
from runner.control.place import socket_of
from runner.errors import NotRunningError

_STAMP = re.compile(rb"(\d{10}\.\d{6}) ")
_LIMIT_S = 60.0


class _Seen:
    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()
        self.bytes = 0
        self.delays: list[float] = []

    async def watch(self, store: Path) -> None:
        connection = await _connected(store)
        async for frame in connection.watch():
            now = time.monotonic()
            self.kinds[frame.kind] += 1
            self.bytes += len(frame.data)
            if frame.kind == "text":
                self.delays += [now - float(stamp) for stamp in _STAMP.findall(frame.data)]
        await connection.aclose()


async def _connected(store: Path) -> Connection:
    until = time.monotonic() + _LIMIT_S
    while time.monotonic() < until:
        with suppress(NotRunningError):
            return await connect(store, 1)
        await asyncio.sleep(0.01)
    raise RuntimeError("the session does not listen")


async def _deaf(store: Path) -> None:
    """Ask for all that happens, and never read any of it."""
    connection = await _connected(store)
    await connection.aclose()
    with socket.socket(socket.AF_UNIX) as end:
        end.connect(str(socket_of(store, 1)))
        frame = encode(Ask(number=1, request=Watch()))
        end.sendall(len(frame).to_bytes(4, "little") + frame)
        while socket_of(store, 1).exists():  # noqa: ASYNC110 - the file goes with the session
            await asyncio.sleep(0.1)


async def _all(store: Path, number: int, *, deaf: bool) -> None:
    if deaf:
        await _deaf(store)
        return
    every = [_Seen() for _ in range(number)]
    await asyncio.gather(*(one.watch(store) for one in every))
    delays = sorted(delay for one in every for delay in one.delays)
    cuts = statistics.quantiles(delays, n=100) if len(delays) > 1 else [0.0] * 99
    told = {
        "frames": sum(one.kinds.total() for one in every), "bytes": sum(one.bytes for one in every), "tokens": len(delays),
        "skipped": sum(one.kinds["skipped"] for one in every), "delay_p50_s": cuts[49], "delay_p95_s": cuts[94],
    }  # fmt: skip
    print(json.dumps(told))


def main() -> None:
    """Parse the command line and watch."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watchers", description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("--number", type=int, default=1)
    parser.add_argument("--deaf", action="store_true")
    args = parser.parse_args()
    asyncio.run(_all(args.store, args.number, deaf=args.deaf))


if __name__ == "__main__":
    main()
