"""Which of the runs with the same identity serves: the one that listens at the socket of that name.

Who comes connects to the socket. If nobody listens, it listens itself; a lock is held for that moment, so that two cannot do so
at once. Whoever finds that the one which serves says nothing puts a socket of its own in that place, and the other one, if it
wakes up, sees that and follows.
"""

import errno
import fcntl
import os
import socket
import struct
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from runner.sharing import folder, forks

_BACKLOG = 128
_NOBODY = (errno.ECONNREFUSED, errno.ENOENT)


class BusyError(Exception):
    """Another run holds the lock for the moment."""


class FullError(Exception):
    """The run that serves takes nobody in: its queue is full."""


class Mark(NamedTuple):
    """What tells one socket from another at the same path."""

    device: int
    number: int
    changed_ns: int


class Found(NamedTuple):
    """A socket: connected to the run that serves, or one at which to listen. mark: of the one at the path; None: not known."""

    end: socket.socket
    serves: bool
    mark: Mark | None


class Seat:
    """The place of one identity. environment: says where the folder is."""

    def __init__(self, identity: str, environment: Mapping[str, str]) -> None:
        self._identity, self._environment = identity, environment

    def path(self) -> Path:
        """Return where the socket is. Raises NoFolderError."""
        return path_of(self._identity, self._environment)

    def find(self, instead_of: Mark | None = None) -> Found:
        """Connect to the run that serves, or take its place. instead_of: a socket whose run says nothing.

        Raises BusyError, FullError, NoFolderError, and OSError.
        """
        path = self.path()
        with _locked(path.with_name(folder.LOCK)):
            mark = self.mark()
            if mark is not None and mark != instead_of:
                end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                end.setblocking(False)
                try:
                    end.connect(str(path))
                    forks.keep_from_children(end)
                    return Found(end, serves=False, mark=mark)
                except OSError as error:
                    end.close()
                    if error.errno not in _NOBODY:
                        raise FullError from error
            return self._listen(path)

    def _listen(self, path: Path) -> Found:
        _sweep(path.parent)
        path.unlink(missing_ok=True)
        end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            end.setblocking(False)
            end.bind(str(path))
            end.listen(_BACKLOG)
        except BaseException:
            end.close()
            raise
        forks.keep_from_children(end)
        return Found(end, serves=True, mark=self.mark())

    def mark(self) -> Mark | None:
        """Return what is at the path now; None if nothing is."""
        try:
            found = self.path().lstat()
        except (OSError, folder.NoFolderError):
            return None
        return Mark(found.st_dev, found.st_ino, found.st_ctime_ns)

    def leave(self, mark: Mark | None) -> None:
        """Take the socket away, if it is still the own one."""
        with suppress(OSError, folder.NoFolderError, BusyError):
            path = self.path()
            with _locked(path.with_name(folder.LOCK)):
                if mark is not None and self.mark() == mark:
                    path.unlink(missing_ok=True)


def path_of(identity: str, environment: Mapping[str, str]) -> Path:
    """Return where the socket of an identity is. Raises NoFolderError."""
    return folder.of(environment) / f"{identity[:16]}.s"


def is_own(end: socket.socket) -> bool:
    """Return True if the process at the other end belongs to this user. The folder lets nobody else in anyway."""
    if sys.platform != "linux":
        return True
    said = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return bool(struct.unpack("3i", said)[1] == os.getuid())


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    forks.hold(number)
    try:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError from error
        with suppress(FileNotFoundError):
            if os.fstat(number).st_ino == path.lstat().st_ino:
                yield
                return
        # the file was deleted in this moment
        raise BusyError
    finally:
        forks.let_go(number)
        os.close(number)


def _sweep(of: Path) -> None:
    """Take away the sockets that killed runs have left."""
    for path in of.glob("*.s"):
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
            end.setblocking(False)
            try:
                end.connect(str(path))
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)
