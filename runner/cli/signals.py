"""Signal handling for commands that run outside a session."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn


@contextmanager
def orderly_end() -> Iterator[None]:
    """Make SIGTERM and SIGHUP end the block by SystemExit, so that a copy or an export removes its unfinished file."""

    def end(*_: object) -> NoReturn:
        sys.exit(143)

    kinds = (signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))
    # a signal that the parent process had us ignore (nohup) stays ignored
    before = {kind: signal.getsignal(kind) for kind in kinds if signal.getsignal(kind) is not signal.SIG_IGN}
    for kind in before:
        signal.signal(kind, end)
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
