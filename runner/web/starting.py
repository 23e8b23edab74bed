"""Commands that go on with a run, each as a process of its own: they begin, or say why not."""

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from runner.text import clean, redact
from runner.web.replies import ApiError
from runner.web.running import listens

_BEGIN_S = 20.0
"""Seconds in which a command has begun, or has said why not."""
_LOOK_S = 0.1
_started: list[subprocess.Popen[bytes]] = []
"""Commands that go on, which are asked now and then whether they have ended."""


async def start(store: Path, run: int, command: str, words: Sequence[str] = (), lines: bytes = b"") -> str:
    """Start a command for a run, and return a sentence about it when it has begun. Raises ApiError if it has not.

    command: ``retry`` or ``resume``. words: behind it. lines: what it reads on standard input.
    The process goes on when this one ends, as one that was started in another terminal.
    """
    _started[:] = [one for one in _started if one.poll() is None]
    every = (command, str(run), "--db", str(store), "--yes", "--quiet", *words)
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as given:
        given.write(lines)
        given.seek(0)
        process = subprocess.Popen(  # noqa: ASYNC220, S603 - it is not waited for; the interpreter that runs this, and our own program
            (sys.executable, "-P", "-m", "runner", *every),
            stdin=given,
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
        )
        _started.append(process)
        if await _begun(store, run, process):
            return f"the {command} has begun, in process {process.pid}"
        if process.poll() is None:
            return f"the {command} is about to begin, in process {process.pid}"
        last = _last_words(said)
    if process.returncode in (0, 1):
        return f"the {command} has ended already; the run shows what came of it"
    raise ApiError(409, "refused", f"the {command} did not begin: {last}")


async def _begun(store: Path, run: int, process: subprocess.Popen[bytes]) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(_BEGIN_S):
            while process.poll() is None:
                if listens(store, run):
                    return True
                await asyncio.sleep(_LOOK_S)
    return False


def _last_words(said: IO[bytes]) -> str:
    """Return the last line that a process has written to standard error."""
    said.seek(0)
    lines = said.read(1 << 16).decode(errors="replace").strip().splitlines()
    return clean(redact(lines[-1].removeprefix("runner: ")), 1000) if lines else "it said nothing"
