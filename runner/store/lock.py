"""One process per run: a lock of the operating system, which ends with its holder, so that no --force option is needed."""

from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from runner.errors import StoreError


class RunLock:
    """The lock of one run of one store, on a small file next to the store.

    The file is deleted only together with its run, by the process that holds the lock. Another process that had opened it then
    holds the lock of a run that is gone, and sees that in the store; no later run gets that number. At the end of a session the
    file stays: a process that had just opened it would share the run with a third one that creates the file anew. It stays too
    where a new run goes because its first session did not begin: the next run gets its number.
    """

    def __init__(self, store: Path, run_id: int) -> None:
        self.path = store.with_name(f"{store.name}-run{run_id}.lock")
        self._lock = FileLock(self.path, mode=0o600, thread_local=False)

    def acquire(self, timeout_s: float = 0.0) -> bool:
        """Take the lock. Return False if another holder kept it for ``timeout_s`` seconds."""
        try:
            self._lock.acquire(timeout=timeout_s)
        except Timeout:
            return False
        except (OSError, NotImplementedError) as error:
            raise StoreError(f"the lock file {self.path} cannot be used: {self._fault(error)}") from error
        return True

    def _fault(self, error: OSError | NotImplementedError) -> str:
        """Return why the lock cannot be taken, and what to do."""
        if self.path.is_symlink() or self.path.is_dir():
            # somebody has put it there
            what = "symbolic link" if self.path.is_symlink() else "folder"
            return f"it is a {what}; remove that, then run the same command again"
        if isinstance(error, NotImplementedError):
            return "its file system cannot lock files; use a store on another one with --db"
        return f"{error.strerror or error}; check that you may write to it and to its folder"

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()

    def remove(self) -> None:
        """Delete the file of a lock that is held, whose run has been deleted. Windows may refuse, as it is open."""
        with suppress(OSError):
            self.path.unlink()


def held(store: Path, run_id: int) -> bool:
    """Return True if a process is working on the run now. If the lock file cannot be written, assume that none is."""
    if not store.with_name(f"{store.name}-run{run_id}.lock").exists():
        return False
    lock = RunLock(store, run_id)
    try:
        if not lock.acquire():
            return True
    except StoreError:
        # a read-only copy, or another user's folder: the results can be read all the same
        return False
    lock.release()
    return False
