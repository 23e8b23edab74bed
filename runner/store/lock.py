"""One process per run: an operating system lock that dies with its holder, so that no force flag is ever needed."""

from pathlib import Path

from filelock import FileLock, Timeout

from runner.errors import StoreError


class RunLock:
    """The lock of one run of one store; lives in a small file beside it that stays there."""

    def __init__(self, store: Path, run_id: int) -> None:
        self._lock = FileLock(store.with_name(f"{store.name}-run{run_id}.lock"), mode=0o600, thread_local=False)

    def acquire(self, timeout_s: float = 0.0) -> bool:
        """Take the lock; False when another holder kept it for ``timeout_s``."""
        try:
            self._lock.acquire(timeout=timeout_s)
        except Timeout:
            return False
        except OSError as error:
            raise StoreError(f"the lock file {self._lock.lock_file} cannot be used: {error.strerror or error}") from error
        return True

    def release(self) -> None:
        """Give the lock back."""
        self._lock.release()


def held(store: Path, run_id: int) -> bool:
    """Tell whether somebody works on the run now; where the lock file may not be written, nobody does."""
    if not store.with_name(f"{store.name}-run{run_id}.lock").exists():
        return False
    lock = RunLock(store, run_id)
    try:
        if not lock.acquire():
            return True
    except StoreError:
        # a read-only copy, or a folder of somebody else: no reason not to look at the results
        return False
    lock.release()
    return False
