"""Which runs of a store are running: those at whose socket somebody listens."""

import socket
from contextlib import suppress
from pathlib import Path

from runner.control.place import places_of
from runner.sharing.folder import NoFolderError
from runner.store.row_pages import run_ids

_KNOCK_S = 0.5


def running(store: Path, known: frozenset[int]) -> list[int]:
    """Return the numbers of the runs that are running, the newest first. known: those that are followed, and so are running.

    Blocks. Raises StoreError.
    """
    if not store.is_file() or not store.stat().st_size:
        return []
    return [run for run in run_ids(store) if run in known or listens(store, run)]


def listens(store: Path, run: int) -> bool:
    """Return True if the session of a run listens at its socket."""
    with suppress(NoFolderError):
        for path in places_of(store, run):
            # a killed session leaves its socket, and the next one may have to take another place
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
                end.settimeout(_KNOCK_S)
                end.connect(str(path))
                return True
    return False
