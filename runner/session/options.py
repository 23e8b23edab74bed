"""The options of one session of a run."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

from runner.engine.stop import Stop
from runner.entries import LateUsage


class Asked(Struct, frozen=True, kw_only=True):
    """What a retry was asked to send again, as ``Choice``, with ids as they were given, or the file in which they are."""

    classes: tuple[str, ...] = ()
    ids: tuple[str, ...] | Path | None = None
    all_rows: bool = False


FAILED = Asked()
"""The failed rows."""


class Choice(Struct, frozen=True, kw_only=True):
    """Which rows a retry sends again: with nothing set, the failed ones.

    classes: names for rows, as in ``session.only``. ids: keys of answers, of done or failed rows; None: all rows. all_rows: done
    rows too.
    """

    classes: tuple[str, ...] = ()
    ids: tuple[str, ...] | None = None
    all_rows: bool = False


class SessionOptions(Struct, frozen=True, kw_only=True):
    """What a session does with its run.

    run_id: continue this run; None finds the run by input and settings. new: start a new run in any case.
    retry_failed: send rows again that have an outcome, and no others. choice: which; None: those that the last retry of the run,
    which was interrupted, has left. narrowed: of those, only what ``where`` or ``sample`` of this session choose; others stay.
    accept_changes: send rows again whose prompt has changed since they were answered.
    limit: use only the first so many rows. strict: refuse to start if a row is broken.
    name, tags: what the run is to be called, and tags that are added to those that it has, as ``runner.labels`` checks them.
    sample: send only so many rows, drawn for an estimate of what all will cost.
    detach: leave once all batches are submitted, instead of waiting for them.
    fetch: send nothing, and take the answers of batches that have ended: of those with these numbers, or of all if it is empty.
    db, outputs: the store and the files of results as a command names them; the commands in messages have these words.
    """

    run_id: int | None = None
    new: bool = False
    retry_failed: bool = False
    choice: Choice | None = None
    narrowed: bool = False
    accept_changes: bool = False
    limit: int | None = None
    strict: bool = False
    name: str | None = None
    tags: tuple[str, ...] = ()
    sample: int | None = None
    detach: bool = False
    fetch: tuple[int, ...] | None = None
    db: str | None = None
    outputs: tuple[str, ...] = ()


class Told(NamedTuple):
    """What workers need of a session. tell: tells the user a sentence. store: the file beside which a token is written.

    book: writes down what attempts have used, when that is known late. at: is told the address of a server that is started for
    the session.
    """

    stop: Stop
    tell: Callable[[str], None]
    book: Callable[[Sequence[LateUsage]], Awaitable[None]]
    store: Path
    at: Callable[[str], None] = lambda _: None
