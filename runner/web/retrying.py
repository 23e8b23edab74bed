"""What goes on with a run that is not running: a retry, or the rest of its rows. What it sends and may cost, and its start."""

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from runner import api
from runner.money import PICO, shown
from runner.session import only
from runner.session.options import Asked
from runner.session.restoring import resumed, retried
from runner.session.ways import name_of
from runner.store.lock import held
from runner.store.reader import StoreReader
from runner.text import plural
from runner.web.replies import ApiError
from runner.web.starting import start

_HARMLESS = ("--max-tokens", "--attempt-s")
"""Options of a retry that change nothing for a row that does not need them."""


class Foreseen(NamedTuple):
    """What a session would send. cost: dollars, if its rows cost what the others did; None: not known. options: that it is given.

    rows: None: nobody has counted the input yet.
    """

    rows: int | None
    cost: float | None
    sentence: str
    options: tuple[str, ...] = ()


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
    return Foreseen(rows, cost, f"{what}; {_about(cost)}" if rows else what, needs)


def foreseen_rest(store: Path, run: int) -> Foreseen:
    """Return what ``runner resume`` would send. Blocks. Raises ApiError, RunnerError."""
    if held(store, run):
        raise ApiError(409, "running", f"run {run} is running")
    _, options = resumed(store, run, {})
    with StoreReader(store) as reader:
        found = reader.run(run)
        money = reader.totals(run)
    each = money.cost / found.done if money.cost is not None and found.done else None
    if options.retry_failed:
        rows: int | None = money.retry_left
        what = f"sends {plural(money.retry_left, 'row')} of run {run} that a retry is still to ask again"
    elif found.rows is None:
        rows, what = None, f"sends the rows of run {run} that are left; nobody has counted them yet"
    else:
        rows = max(0, found.rows * found.answers - found.done - found.failed)
        what = f"sends {plural(rows, 'row')} of run {run} that {'is' if rows == 1 else 'are'} left"
    if rows == 0:
        return Foreseen(0, 0.0, f"run {run} has no row left to send")
    cost = None if each is None or rows is None else each * rows
    if rows is not None and not options.retry_failed and money.cost_projected is not None and money.cost is not None:
        # where equal rows are sent once, fewer requests go out than rows are left
        cost = max(0.0, money.cost_projected - money.cost)
    return Foreseen(rows, cost, f"{what}; {_about(cost)}")


def _about(cost: float | None) -> str:
    if cost is None:
        return "what that costs is not known"
    return f"about {shown(round(cost * PICO))}, if they cost what the others did"


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
    """Start a retry, and return a sentence about it when it has begun. Raises ApiError if it has not."""
    which = ("--ids", "-") if ids is not None else ("--class", ",".join(classes)) if classes else ()
    return await start(store, run, "retry", (*which, *options), spelled(ids or ()))


def spelled(ids: Sequence[str]) -> bytes:
    """Return ids as lines of a file: JSON, since one may hold line ends or look like a heading, and so name other rows."""
    return "".join(f"{json.dumps({'id': one})}\n" for one in ids).encode()
