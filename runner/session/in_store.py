"""What the summary of a session has from the store: what was saved by ending answers early, and what each endpoint has done."""

from contextlib import suppress
from typing import Any

from runner.errors import StoreError
from runner.store import by_endpoint, early
from runner.store.checkpoint import RunStore


def told(store: RunStore, ended_early: bool, *, several: bool) -> dict[str, Any]:
    """Return it, as arguments of ``Summary``. Reads the store, so it is for the end of a session.

    ended_early: an answer may have been ended early. several: there is more than one endpoint.
    """
    found, of = early.told(early.NOTHING), (store.path, store.run_id)
    # without it, the summary says less
    with suppress(StoreError):
        if several:
            found["endpoints"] = by_endpoint.read(*of)
        if ended_early:
            found |= early.told(early.read(*of))
    return found
