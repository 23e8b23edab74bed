"""Sockets and locks that a forked child of the program must not keep: it would seem to serve, and would hold the lock."""

import os
import socket
import weakref
from contextlib import suppress

_sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
_files: set[int] = set()


def keep_from_children(end: socket.socket) -> None:
    """Close a socket in every child that is forked from now on, as long as it is open here."""
    _sockets.add(end)


def hold(number: int) -> None:
    """Close a file descriptor in every child that is forked before ``let_go``."""
    _files.add(number)


def let_go(number: int) -> None:
    """Record that a file descriptor is about to be closed here."""
    _files.discard(number)


def _close() -> None:
    for end in list(_sockets):
        with suppress(OSError):
            end.close()
    for number in _files:
        with suppress(OSError):
            os.close(number)
    _sockets.clear()
    _files.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close)
