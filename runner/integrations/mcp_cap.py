"""What all that agents start may cost: one cap over all sessions, kept beside the store, so that a new server goes on with it.

Each session is given a part of the cap before it begins, and may not spend more (``max_cost_session``). What it has not used
comes back when it has ended. A session that was killed is found by the lock that its process held; what it has used is then read
from the books of its run, with all that its open requests may have cost. So the truth is in the books, and what stands here
is who was given what.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkstemp

import msgspec
from filelock import FileLock, Timeout
from msgspec import Struct, structs

from runner.errors import StoreError, UsageError
from runner.money import PICO, picodollars
from runner.store.reader import StoreReader

_LOCK_S = 20.0
"""Seconds to wait for another process that reads or writes the grants, which takes it milliseconds."""
_KEPT = 50
"""Grants that are kept one by one when they have ended; those before are one sum."""
_VERSION = 1


class Grant(Struct, frozen=True, kw_only=True):
    """What one session may spend. Picodollars.

    share: at most; None: nothing that it sends costs anything. run: None until it has begun. created: when that run was; another
    run may get its number when it is deleted. after: the newest attempt of the run before the session. Its own are those behind
    that one: what older ones have cost may still become better known. used: None until it has ended.
    """

    id: str
    at: float
    share: int | None = None
    run: int | None = None
    created: float | None = None
    after: int = 0
    used: int | None = None


class _Kept(Struct, frozen=True, kw_only=True):
    version: int = _VERSION
    # what sessions have used whose grants are not kept any more
    past: int = 0
    grants: tuple[Grant, ...] = ()


class State(Struct, frozen=True, kw_only=True):
    """Dollars: what the person allows (None: nothing that costs), what is spent, what running sessions hold, what is left."""

    cap: float | None
    used: float
    held: float
    left: float


class Cap:
    """The grants of a store, and the cap of this server. cap: dollars; None: only what costs nothing may be started."""

    def __init__(self, store: Path, cap: float | None) -> None:
        self.store, self.cap = store, None if cap is None else picodollars(cap)
        self.folder = store.with_name(f"{store.name}.agents")
        self._file = self.folder / "spent.json"

    def prepare(self) -> None:
        """Make the folder. Raises StoreError if it cannot be used."""
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{self.folder} cannot be made: {error.strerror}; it keeps what agents have spent") from error
        if self.folder.is_symlink() or not self.folder.is_dir():
            raise StoreError(f"{self.folder} is no folder of its own; remove it: it keeps what agents have spent")

    def state(self) -> State:
        """Return how much of the cap is left."""
        with self._held() as kept:
            return self._state(kept)

    def reserve(self, wanted: float | None, *, free: bool) -> tuple[Grant, int]:
        """Give a new session a part of the cap: as much as is wanted, in dollars, or all that is left.

        Returns the grant and a descriptor of its lock, which the process of the session inherits. free: it costs nothing that is
        known. Raises UsageError if nothing is left.
        """
        with self._held() as kept:
            share = None if free else self._share(kept, wanted)
            grant = Grant(
                id=f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{os.urandom(4).hex()}", at=time.time(), share=share
            )
            held = _locked(self.lock_of(grant.id))
            self._write(structs.replace(kept, grants=(*kept.grants, grant)))
        return grant, held

    def begun(self, grant_id: str, run: int) -> None:
        """Note the run of a session, before it sends anything."""
        # the others of this run that have died must be settled before there are further attempts
        with self._held() as kept:
            created, after = self._place(run)
            self._write(_changed(kept, grant_id, run=run, created=created, after=after))

    def ended(self, grant_id: str) -> None:
        """Note that a session has ended, and what it has used."""
        with self._held(settle=False) as kept:
            self._write(self._settled(kept, grant_id))

    def grants(self) -> tuple[Grant, ...]:
        """Return the grants that are known, the oldest first."""
        with self._held() as kept:
            return kept.grants

    def open_on(self, run: int) -> bool:
        """Return True if an agent's session works on a run now."""
        return any(grant.run == run and grant.used is None for grant in self.grants())

    def log_of(self, grant_id: str) -> Path:
        """Return the file to which a session writes what happens."""
        return self.folder / f"{grant_id}.jsonl"

    def lock_of(self, grant_id: str) -> Path:
        """Return the file that the process of a session holds locked while it lives."""
        return self.folder / f"{grant_id}.lock"

    # -- within the lock

    def _state(self, kept: _Kept) -> State:
        used, held = _used(kept), _held(kept)
        left = self._left(kept)
        return State(cap=None if self.cap is None else self.cap / PICO, used=used / PICO, held=held / PICO, left=left / PICO)

    def _left(self, kept: _Kept) -> int:
        return 0 if self.cap is None else max(0, self.cap - _used(kept) - _held(kept))

    def _share(self, kept: _Kept, wanted: float | None) -> int:
        left = self._left(kept)
        if left <= 0:
            now = self._state(kept)
            held = f" and ${now.held:.4f} held by sessions that are running" if now.held else ""
            raise UsageError(
                f"nothing is left of the ${now.cap:g} that agents may spend here: ${now.used:.4f} is spent{held}; "
                "wait for running sessions, or ask the person who started this server for a higher --max-cost"
            )
        return left if wanted is None else min(left, picodollars(wanted))

    def _settled(self, kept: _Kept, grant_id: str) -> _Kept:
        grant = next((one for one in kept.grants if one.id == grant_id), None)
        if grant is None or grant.used is not None:
            return kept
        # nothing is sent before the run is noted
        used = 0 if grant.run is None or grant.share is None else self._spent(grant.run, grant.share, grant)
        return _changed(kept, grant_id, used=used)

    def _spent(self, run: int, share: int, grant: Grant) -> int:
        """Return what a session has cost at most, in picodollars: its share if that has no limit, or its run is gone."""
        if not self.store.exists():
            return share
        with StoreReader(self.store) as reader:
            created = _created(reader, run)
            if created is None or created != grant.created:
                return share
            money, sessions = reader.money_after(run, grant.after), reader.sessions_after(run, grant.at)
        if money.perhaps is None:
            return share
        used = money.spent + money.perhaps
        # where a person has gone on with the run meanwhile, the attempts of that session are among them
        return used if sessions <= 1 else min(used, share)

    def _place(self, run: int) -> tuple[float | None, int]:
        """Return when a run was created, and its newest attempt; None and 0 if there is no such run."""
        if not self.store.exists():
            return None, 0
        with StoreReader(self.store) as reader:
            return _created(reader, run), reader.last_attempt(run)

    @contextmanager
    def _held(self, *, settle: bool = True) -> Iterator[_Kept]:
        """Hold the lock of the grants, and yield them. settle: those of sessions that are dead have ended by then."""
        self.prepare()
        try:
            with FileLock(self.folder / "spent.lock", timeout=_LOCK_S, mode=0o600):
                kept = self._read()
                yield self._without_dead(kept) if settle else kept
        except Timeout:
            raise StoreError(f"{self.folder} is held by another process for {_LOCK_S:g} s; end that, then try again") from None

    def _without_dead(self, kept: _Kept) -> _Kept:
        now = kept
        for grant in kept.grants:
            if grant.used is None and not _is_locked(self.lock_of(grant.id)):
                now = self._settled(now, grant.id)
        over = [grant for grant in now.grants if grant.used is not None][:-_KEPT]
        if over:
            past = now.past + sum(grant.used or 0 for grant in over)
            now = structs.replace(now, past=past, grants=tuple(grant for grant in now.grants if grant not in over))
        if now is not kept:
            self._write(now)
        for grant in over:
            self.log_of(grant.id).unlink(missing_ok=True)
            self.lock_of(grant.id).unlink(missing_ok=True)
        return now

    def _read(self) -> _Kept:
        try:
            text = self._file.read_bytes()
        except FileNotFoundError:
            if any(self.folder.glob("*.jsonl")):
                # sessions were started, and what they have spent would be forgotten
                raise StoreError(f"{self._file} is gone, {self._unknown}") from None
            return _Kept()
        except OSError as error:
            raise StoreError(f"{self._file} cannot be read: {error.strerror}; it keeps what agents have spent") from error
        try:
            kept = msgspec.json.decode(text, type=_Kept)
        except msgspec.MsgspecError:
            kept = None
        if kept is None or kept.version != _VERSION:
            raise StoreError(f"{self._file} is damaged, {self._unknown}")
        return kept

    @property
    def _unknown(self) -> str:
        ways = f"restore it; or a person removes the folder {self.folder} while nothing runs, to begin at 0"
        return f"so nobody knows what agents have spent; {ways}"

    def _write(self, kept: _Kept) -> None:
        try:
            number, name = mkstemp(dir=self.folder, prefix="spent-")
            with os.fdopen(number, "wb") as file:
                file.write(msgspec.json.encode(kept))
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self._file)
        except OSError as error:
            raise StoreError(f"{self._file} cannot be written: {error.strerror}; nothing is started that is not noted") from error


def _used(kept: _Kept) -> int:
    return kept.past + sum(grant.used or 0 for grant in kept.grants)


def _held(kept: _Kept) -> int:
    return sum(grant.share or 0 for grant in kept.grants if grant.used is None)


def _created(reader: StoreReader, run: int) -> float | None:
    return next((one.created_at for one in reader.runs(counted=False) if one.id == run), None)


def _changed(kept: _Kept, grant_id: str, **fields: float | None) -> _Kept:
    grants = (structs.replace(one, **fields) if one.id == grant_id else one for one in kept.grants)
    return structs.replace(kept, grants=tuple(grants))


def _locked(path: Path) -> int:
    """Return a descriptor of a file that is locked until all processes have closed it that have inherited it."""
    import fcntl

    number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return number


def _is_locked(path: Path) -> bool:
    import fcntl

    try:
        number = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(number)
    return False
