"""The file with the token of a session, beside its store and for its user alone."""

import fcntl
import glob
import os
from contextlib import suppress
from pathlib import Path

from runner.errors import UsageError


class TokenFile:
    """Is there until ``remove``. store: beside which it lies. where: HOST:PORT, as the session listens. what: it is the token of.

    Raises UsageError.
    """

    def __init__(self, store: Path, where: str, text: str, what: str) -> None:
        remove_stale(store)
        self.path = file = store.with_name(f"{store.name}.{where.rpartition(':')[2]}.token")
        # the number of the file as it is open, which keeps its lock
        self._held: int | None = None
        try:
            # where no lock could tell whether it is an old one
            file.unlink(missing_ok=True)
            self._held = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            os.write(self._held, f"{text}\n".encode())
            # the lock ends with this process, however that ends
            with suppress(OSError):
                fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.remove()
            raise UsageError(f"the token of {what} cannot be written to {file}: {error.strerror}") from error

    def remove(self) -> None:
        """Remove the file: its token opens nothing any more."""
        if self._held is not None:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
            os.close(self._held)
            self._held = None


def remove_stale(store: Path) -> None:
    """Remove the tokens of sessions that were killed, which open nothing any more. Those of sessions that go on are locked."""
    for file in store.parent.glob(f"{glob.escape(store.name)}.*.token"):
        # a folder of a server that knows no locks keeps them
        with suppress(OSError), file.open("rb") as found:
            fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.unlink()
