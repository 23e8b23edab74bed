"""A retry of a run that is not running, as a process of its own: what it sends and may cost, and its start."""

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

from runner import api
from runner.session import only
from runner.session.options import Asked
from runner.session.restoring import retried
from runner.session.ways import name_of
from runner.store.lock import held
from runner.store.reader import StoreReader
from runner.text import clean, plural, redact
from runner.web.replies import ApiError
from runner.web.running import listens

_BEGIN_S = 20.0
"""Seconds in which a retry has begun, or has said why not."""
_LOOK_S = 0.1
_HARMLESS = ("--max-tokens", "--attempt-s")
"""Options of a retry that change nothing for a row that does not need them."""
_started: list[subprocess.Popen[bytes]] = []
"""Retries that go on, which are asked now and then whether they have ended."""


class Foreseen(NamedTuple):
    """What a retry sends. cost: dollars, if its rows cost what the others did; None: not known. options: that it is given."""

    rows: int
    cost: float | None
    sentence: str
    options: tuple[str, ...]


def foreseen(store: Path, run: int, ids: Sequence[str] | None, classes: Sequence[str]) -> Foreseen:
    """Return what a retry would send. ids, classes: as ``runner retry`` takes them. Blocks. Raises ApiError, RunnerError."""
    if held(store, run):
        words = f"run {run} is running; ask it with requeue, or retry when it has ended"
        raise ApiError(409, "running", words)
    _, options = retried(store, run, {}, Asked(classes=tuple(classes), ids=None if ids is None else tuple(ids)))
    choice = options.choice
    assert choice is not None
    with StoreReader(store) as reader:
        found = reader.run(run)
        rows = len(choice.ids) if choice.ids is not None else reader.size(run, only.again(choice, reader, found))
        money = reader.totals(run)
    each = money.cost / found.done if money.cost is not None and found.done else None
    cost = None if each is None else each * rows
    what = f"sends {plural(rows, 'row')} of run {run} again" if rows else f"run {run} has no such row to send again"
    needs = _options(store, run, classes) if ids is None else ()
    what += f" with {' '.join(needs)}" if rows and needs else ""
    about = "what that costs is not known" if cost is None else f"about ${cost:.2g}, if they cost what the others did"
    return Foreseen(rows, cost, f"{what}; {about}" if rows else what, needs)


def _options(store: Path, run: int, classes: Sequence[str]) -> tuple[str, ...]:
    """Return the options with which rows of such classes need not fail again, as ``runner errors`` names them.

    classes: empty: all that failed. Raises ApiError if they need options that do not fit together.
    """
    with api.errors(run, db=store) as found:
        every = (*found.failed, *found.answered) if classes else found.failed
        causes = [one for one in every if not classes or set(classes) & {name_of(one), one.code}]
        return together({tuple(found.ways.options(one)) for one in causes}, run)


def together(ways: Collection[tuple[str, ...]], run: int) -> tuple[str, ...]:
    """Return the options for rows that need different ones. Raises ApiError if some of them do others harm.

    More room and more time do none: what an answer does not reach costs nothing. Another tier has another price.
    """
    if len(ways) > 1 and any(way[0] not in _HARMLESS for way in ways if way):
        words = f"these rows need different options: send them class by class, with the commands of `runner errors {run}`"
        raise ApiError(409, "differ", words)
    return tuple(word for way in sorted(ways) for word in way)


async def begin(store: Path, run: int, ids: Sequence[str] | None, classes: Sequence[str], options: Sequence[str]) -> str:
    """Start a retry, and return a sentence about it when it has begun. Raises ApiError if it has not.

    The process goes on when this one ends, as one that was started in another terminal.
    """
    _started[:] = [one for one in _started if one.poll() is None]
    which = ("--ids", "-") if ids is not None else ("--class", ",".join(classes)) if classes else ()
    words = ("retry", str(run), "--db", str(store), "--yes", "--quiet", *which, *options)
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as rows:
        rows.write(spelled(ids or ()))
        rows.seek(0)
        process = subprocess.Popen(  # noqa: ASYNC220, S603 - it is not waited for; the interpreter that runs this, and our own program
            (sys.executable, "-P", "-m", "runner", *words),
            stdin=rows,
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
        )
        _started.append(process)
        if await _begun(store, run, process):
            return f"the retry has begun, in process {process.pid}"
        if process.poll() is None:
            return f"the retry is about to begin, in process {process.pid}"
        last = _last_words(said)
    if process.returncode in (0, 1):
        return "the retry has ended already; the run shows what came of it"
    raise ApiError(409, "refused", f"the retry did not begin: {last}")


def spelled(ids: Sequence[str]) -> bytes:
    """Return ids as lines of a file: JSON, since one may hold line ends or look like a heading, and so name other rows."""
    return "".join(f"{json.dumps({'id': one})}\n" for one in ids).encode()


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
