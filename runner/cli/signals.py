"""Signal handling for commands that run outside a session."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from signal import SIGINT
from typing import NoReturn

from runner.session.signals import STOP_SIGNALS, exit_code, on_signals


@contextmanager
def orderly_end() -> Iterator[None]:
    """Make signals such as SIGTERM end the block by SystemExit, so that a copy or an export removes its unfinished file."""

    def end(kind: int) -> NoReturn:
        sys.exit(exit_code(kind))

    # Python raises KeyboardInterrupt for Ctrl-C
    with on_signals((kind for kind in STOP_SIGNALS if kind != SIGINT), end):
        yield
