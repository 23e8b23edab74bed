"""The folder in which runs of one user find each other. Nobody else can look into it."""

import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

MOST = 100
"""Bytes of the path of a socket, at most: systems allow 104 or 108, with the zero at the end."""
LOCK = "lock"
"""The one file that stays in the folder: who holds its lock decides which run serves, for a moment."""
_OTHERS = 0o077
_LOGINS = Path("/run/user")
_ROOT = Path("/tmp")  # noqa: S108 - the owner and the mode of what is made there are checked


class NoFolderError(Exception):
    """There is no folder that this user alone can use; the text says why."""


def of(environment: Mapping[str, str]) -> Path:
    """Return the folder, which is there then. Raises NoFolderError.

    It lies in XDG_RUNTIME_DIR if that is this user's alone and short enough, else at /tmp/runner-UID. Where the variable is not
    set, as in cron, under sudo, or in a container, that is the folder which a login would have: /run/user/UID.
    """
    if sys.platform == "win32":
        raise NoFolderError("this system has no sockets in folders")
    given = environment.get("XDG_RUNTIME_DIR") or str(_LOGINS / str(os.getuid()))
    if given.startswith("/") and len(os.fsencode(given)) <= MOST - len("/runner/0123456789abcdef.s") and _is_own(Path(given)):
        return _made(Path(given, "runner"))
    return _made(_ROOT / f"runner-{os.getuid()}")


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise NoFolderError(f"{folder} cannot be made: {error.strerror}") from error
    if not _is_own(folder):
        raise NoFolderError(f"{folder} is not a folder of this user alone (mode 0700)")
    return folder


def _is_own(folder: Path) -> bool:
    """Return True for a folder, and no link, that belongs to this user and that others cannot enter."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & _OTHERS
