"""Signals at the command line, outside a session."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn


@contextmanager
def orderly_end() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end what is done inside as Ctrl-C does: a copy or an export takes its unfinished file away."""

    def end(*_: object) -> NoReturn:
        sys.exit(143)

    known = (signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))
    # what our parent had us ignore (nohup) stays ignored
    before = {kind: signal.getsignal(kind) for kind in known if signal.getsignal(kind) is not signal.SIG_IGN}
    for kind in before:
        signal.signal(kind, end)
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
