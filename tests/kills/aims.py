"""Where a kill is to land: each aim waits for its instant, by what the kernel, the store and the server show."""

import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

from processes import HANG_S, Started, until

from kills.endpoint import Endpoint, Entry
from kills.shown import shown
from kills.store import Watch, locked

_POLL_S = 0.0002
_MIGRATING = "markupsafe"
"""An extension module that comes with Alembic: the kernel shows when the migrations are loaded."""
_QUIET_S = 2.0
"""Nothing new came for so long: the slots that are not taken wait for something else."""
LINE_PACE = 15.0
"""How many times slower the server is while a line of progress is waited for."""


@dataclass
class Scene:
    """What an aim may look at. One for each session."""

    input: Path
    store: Path
    endpoint: Endpoint
    # the same for the same seed
    draw: random.Random
    slots: int
    # rows in the prompt file now
    rows: int
    # requests to be seen before a kill at work, and before an instant is given up that does not come
    after_requests: int
    most_requests: int
    # seconds from a start to its first request, as last seen
    start_s: float
    # length of the journal, and attempts on the books, when the session began
    journal_before: int
    booked_before: int
    finished_before: bool
    # the instant did not come
    missed: bool = False

    @property
    def entries(self) -> Sequence[Entry]:
        """The journal of this session."""
        return self.endpoint.journal[self.journal_before :]

    @property
    def wal(self) -> Path:
        return self.store.with_name(f"{self.store.name}-wal")


Wait: TypeAlias = Callable[[Scene, Started, ExitStack], None]
"""Waits for the instant of the kill; what it puts on the stack is undone after the kill."""


def creation(scene: Scene, process: Started, _: ExitStack) -> None:
    """While the store is made: its file, its tables, its run."""
    _early(scene, process, scene.store.exists, "a store to be made")
    _pause(scene, 0.1 * scene.start_s)


def start(scene: Scene, process: Started, _: ExitStack) -> None:
    """At any instant of the start: interpreter, imports, scan, opening."""
    _pause(scene, scene.start_s)


def scan(scene: Scene, process: Started, _: ExitStack) -> None:
    """While the prompt file is open: hashed, scanned, or read."""
    _early(scene, process, lambda: _holds(process, scene.input), "the prompt file to be opened")


def opening(scene: Scene, process: Started, _: ExitStack) -> None:
    """While the store is looked at for the first time."""
    _early(scene, process, lambda: _holds(process, scene.store), "the store to be opened")
    _pause(scene, 0.01)


def recovery(scene: Scene, process: Started, _: ExitStack) -> None:
    """While pages that the last kill left in the log are moved into the store."""
    before = _changed(scene.store)
    _at(scene, process, lambda: _changed(scene.store) != before, "a checkpoint")
    _pause(scene, 0.002)


def owned(scene: Scene, process: Started, _: ExitStack) -> None:
    """When a session has made the run its own and looks for what is left to do."""
    query = "SELECT count(*) FROM runs WHERE pid = ?"
    with Watch(scene.store) as watch:
        _early(scene, process, lambda: watch.ask(query, process.pid), "the run to be taken over")
    _pause(scene, 0.05)


def work(scene: Scene, process: Started, _: ExitStack) -> None:
    """At work: after some requests, and a moment."""
    _at(scene, process, lambda: len(scene.entries) >= scene.after_requests, "requests")
    _pause(scene, 0.05)


def loss(scene: Scene, process: Started, after: ExitStack) -> None:
    """At work, a moment after one of its workers was killed: it may not know of that yet, or send anew what was with that one."""
    work(scene, process, after)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    # it may have ended
    with suppress(OSError):
        os.kill(int(scene.draw.choice(children.read_text().split() or ["0"])) or process.pid, signal.SIGKILL)
    _pause(scene, 0.4)


def write(scene: Scene, process: Started, _: ExitStack) -> None:
    """At work, inside a commit: while its pages are written and synced."""
    _at(scene, process, lambda: len(scene.entries) >= scene.after_requests, "requests")
    before = _size(scene.wal), _changed(scene.store)
    _at(scene, process, lambda: (_size(scene.wal), _changed(scene.store)) != before, "a commit")
    _pause(scene, 0.0005)


def commit(scene: Scene, process: Started, after: ExitStack) -> None:
    """While a commit waits for another writer, and every slot with it: all has been answered, nothing is saved."""
    _at(scene, process, lambda: len(scene.entries) >= scene.after_requests, "requests")
    after.enter_context(locked(scene.store))
    with Watch(scene.store) as watch:

        def unsaved() -> int:
            return len(scene.entries) - (watch.ask("SELECT count(*) FROM attempts") - scene.booked_before)

        def full() -> bool:
            entries = scene.entries
            quiet = time.monotonic() - max((entry.request.over or entry.request.at for entry in entries), default=0.0) > _QUIET_S
            return unsaved() > scene.slots or (not any(entry.waits for entry in entries) and (unsaved() == scene.slots or quiet))

        _at(scene, process, full, "the slots to be full of answers that nobody has saved")
    _pause(scene, 0.1)


def checkpoint(scene: Scene, process: Started, after: ExitStack) -> None:
    """At work, while a commit that has filled the log moves its pages into the store."""
    _at(scene, process, lambda: bool(scene.entries), "the first request")
    recovery(scene, process, after)


def line(scene: Scene, process: Started, after: ExitStack) -> None:
    """Right behind a plain line of progress: what it says must be in the store."""
    scene.endpoint.pace = LINE_PACE
    after.callback(setattr, scene.endpoint, "pace", 1.0)
    _at(scene, process, lambda: shown("", process.err).counts > 0, "a line of progress")


def migration(scene: Scene, process: Started, _: ExitStack) -> None:
    """Before, in, or just behind the transaction that brings the store up to date."""
    with locked(scene.store):
        _early(scene, process, lambda: _loaded(process, _MIGRATING), "the migrations to be loaded")
        _early(scene, process, lambda: _holds(process, scene.store), "the store to be opened for a migration")
        _pause(scene, 0.05)
        if scene.draw.random() < 0.2:
            # its transaction has not begun
            process.signal(signal.SIGKILL)
            process.ended()
            return
        size = _size(scene.wal)
    # its one commit is what writes to the log
    _early(scene, process, lambda: _size(scene.wal) != size, "the commit of a migration")
    _pause(scene, 0.006)


def export(scene: Scene, process: Started, _: ExitStack) -> None:
    """While an export is written, under a name of its own."""
    _at(scene, process, lambda: any(scene.input.parent.glob(".export-*")), "an export to be begun")
    _pause(scene, 0.02)


def last(scene: Scene, process: Started, _: ExitStack) -> None:
    """At once when the last row is committed: the run has not been told yet."""
    with Watch(scene.store) as watch:
        _at(scene, process, lambda: watch.ask("SELECT count(*) FROM items") >= scene.rows, "the last row")


def end(scene: Scene, process: Started, after: ExitStack) -> None:
    """In a session that finds every row settled: on its way to the end of the run, or of a finished one."""
    (opening if scene.finished_before else owned)(scene, process, after)


class Aim(NamedTuple):
    """A kind of kill. short, long: how many of them the short form has, and how many of 200."""

    wait: Wait
    short: int
    long: int


AT_WORK = ("work", "write", "commit", "loss")
"""Aims that use up rows, as many as the plan gives them."""
AIMS = {
    "creation": Aim(creation, 1, 4),
    "start": Aim(start, 1, 20),
    "scan": Aim(scan, 1, 4),
    "opening": Aim(opening, 1, 6),
    "recovery": Aim(recovery, 1, 8),
    "resume": Aim(owned, 1, 12),
    "work": Aim(work, 3, 66),
    "write": Aim(write, 1, 30),
    "commit": Aim(commit, 1, 10),
    "checkpoint": Aim(checkpoint, 1, 3),
    "line": Aim(line, 1, 3),
    "migration": Aim(migration, 1, 10),
    "export": Aim(export, 2, 12),
    "last": Aim(last, 1, 6),
    "end": Aim(end, 1, 6),
    # only where there are workers: ``campaign.form``
    "loss": Aim(loss, 0, 0),
}


def _early(scene: Scene, process: Started, condition: Callable[[], object], what: str) -> None:
    """Wait for an instant before the first request: from then on it does not come."""
    scene.most_requests = 1
    _at(scene, process, condition, what)


def _at(scene: Scene, process: Started, condition: Callable[[], object], what: str) -> None:
    """Wait for an instant, or for a process that ends, or works too long, without it."""
    came = False

    def over() -> bool:
        nonlocal came
        came = bool(condition())
        return came or not process.alive or len(scene.entries) >= scene.most_requests

    until(over, what, HANG_S, _POLL_S)
    scene.missed = scene.missed or not came


def _pause(scene: Scene, most_s: float) -> None:
    """Let a moment pass, so that a kill may land anywhere behind the instant."""
    time.sleep(scene.draw.uniform(0, most_s))


def _holds(process: Started, path: Path) -> bool:
    """Tell whether the process has a file open now."""
    found = []
    # it may close one meanwhile, or be gone
    with suppress(OSError):
        for link in Path(f"/proc/{process.pid}/fd").iterdir():
            with suppress(OSError):
                found.append(link.readlink())
    return path in found


def _loaded(process: Started, module: str) -> bool:
    """Tell whether the process has loaded an extension module."""
    try:
        return module in Path(f"/proc/{process.pid}/maps").read_text()
    except OSError:
        return False


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
