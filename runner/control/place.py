"""Where the socket of a session is: beside its store, for its user alone."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from runner.sharing import folder, forks
from runner.sharing.folder import NoFolderError

_BACKLOG = 64
_MODE = 0o600


def socket_of(store: Path, run: int) -> Path:
    """Return where the socket of the session is that works on a run: the place that has one, else where one would be made first.

    Raises NoFolderError.
    """
    first: Path | None = None
    try:
        for place in places_of(store, run):
            if place.exists():
                return place
            first = first or place
    except NoFolderError:
        # one beside the store needs no such folder
        if first is None:
            raise
    assert first is not None
    return first


def places_of(store: Path, run: int) -> Iterator[Path]:
    """Yield where the socket of a session can be, the best place first.

    It lies beside the store, or in the folder for sockets of this user: where the path is too long for a socket, or the file
    system of the store has none. Raises NoFolderError for the second, if there is no such folder.
    """
    whole = Path(os.path.realpath(store))
    beside = whole.with_name(f"{whole.name}-run{run}.sock")
    if len(os.fsencode(beside)) <= folder.MOST:
        yield beside
    name = sha256(os.fsencode(whole) + b"\0" + str(run).encode()).hexdigest()[:16]
    yield folder.of(os.environ) / f"{name}.c"


class Listening:
    """A socket that listens, and its file."""

    def __init__(self, end: socket.socket, path: Path) -> None:
        self.end, self.path = end, path
        self._pid = os.getpid()
        found = path.lstat()
        self._mark = found.st_dev, found.st_ino

    def close(self) -> None:
        """Close the socket, and take its file away, if it is still the own one. A forked child leaves it to its parent."""
        self.end.close()
        if self._pid != os.getpid():
            return
        with suppress(OSError):
            found = self.path.lstat()
            if (found.st_dev, found.st_ino) == self._mark:
                self.path.unlink()


def listen(store: Path, run: int) -> Listening:
    """Listen for those who watch or steer the session. It must hold the lock of its run: what lies in the place is replaced.

    Raises OSError, or NoFolderError, if there is no place for a socket.
    """
    if sys.platform == "win32":
        raise OSError("this system has no sockets in folders")
    refused: OSError | None = None
    for path in places_of(store, run):
        try:
            return _listening(path)
        except OSError as error:
            refused = error
    raise refused or OSError("there is no place for a socket")


def _listening(path: Path) -> Listening:
    # a killed session has left it
    path.unlink(missing_ok=True)
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        end.setblocking(False)
        # on Linux, the file has this mode from the beginning; elsewhere nobody can connect before the socket listens
        with suppress(OSError):
            os.fchmod(end.fileno(), _MODE)
        end.bind(str(path))
        path.chmod(_MODE)
        end.listen(_BACKLOG)
        found = Listening(end, path)
    except BaseException:
        end.close()
        raise
    forks.keep_from_children(end)
    return found
