"""The token of a store's page, in a file beside the store and for its user alone.

It stays, so that a page finds its server again when that has been started anew. Without the file there is a new token.
"""

import os
import re
import stat
from contextlib import suppress
from pathlib import Path

from runner.web.access import new_token

ENDING = ".web-token"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{40,80}")


def token_of(store: Path) -> str:
    """Return the token of a store's page. Where no file can be written beside the store, it is a new one each time."""
    file = store.with_name(f"{store.name}{ENDING}")
    if (known := _read(file)) is not None:
        return known
    token = new_token()
    with suppress(OSError):
        file.unlink(missing_ok=True)
        # two servers may begin at a time: the first one's counts
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as made:
            made.write(f"{token}\n")
        return token
    return _read(file) or token


def _read(file: Path) -> str | None:
    """Return the token in a file; None if there is none, or if others may have seen it."""
    try:
        number = os.open(file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return None
    with os.fdopen(number, "rb") as found:
        state = os.fstat(number)
        own = stat.S_ISREG(state.st_mode) and not state.st_mode & 0o077 and state.st_uid == getattr(os, "getuid", lambda: 0)()
        text = found.read(200).decode(errors="replace").strip() if own else ""
    return text if _TOKEN.fullmatch(text) else None
