"""What ``runner status --watch`` does: shows one run again and again until it ends. Ctrl-C leaves; the run goes on."""

import sys
import time

from runner import api
from runner.cli.fitting import fitted
from runner.cli.status import status

EVERY_S = 2.0
"""Seconds between two looks at the store."""
_CLEAR = "\x1b[H\x1b[J"


def watch(run_id: int | None, db: str, *, as_json: bool) -> None:
    """Print the status of a run until no process works on it. On a terminal, each print replaces the last one.

    Raises UsageError, StoreError.
    """
    clear = _CLEAR if sys.stdout.isatty() and not as_json else ""
    while True:
        run, books = api.status(run_id, db=db)
        # the newest run may become another one meanwhile
        run_id = run.id
        shown = status(run, books, db=db, as_json=as_json, watched=True)
        shown = shown if as_json else fitted(shown, sys.stdout)
        print(f"{clear}{shown}", flush=True)
        if not run.active:
            return
        time.sleep(EVERY_S)
