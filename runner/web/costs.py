"""What each run of a store has cost, for the list of runs. A run of a million rows takes a second to add up, so sums are kept."""

import threading
import time
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from runner.model import Run
from runner.money import costs
from runner.store.reader import StoreReader
from runner.store.sessions import numbers_of

_MOST_S = 0.5
"""Seconds that one call adds up, at most, beyond the sum that it has begun."""
_AGAIN_S, _PATIENCE = 1.0, 20
"""The sum of a run that goes on holds for so many seconds, and for so many times as long as it took."""
FIELDS = ("cost", "cost_perhaps")


class _Sum(msgspec.Struct, frozen=True):
    told: dict[str, Any]
    state: Hashable
    until: float


class Costs:
    """The costs of the runs of one store. For threads: while one adds up, the others are told what is known."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._sums: dict[int, _Sum] = {}
        self._adding = threading.Lock()

    def beside(self, runs: Sequence[Run]) -> list[dict[str, Any]]:
        """Return the runs as objects, each with ``cost`` and ``cost_perhaps``; without them if they are not added up yet.

        Blocks. Raises StoreError.
        """
        if runs and self._adding.acquire(blocking=False):
            try:
                self._add_up(runs)
            finally:
                self._adding.release()
        return [{**msgspec.to_builtins(run), **(known.told if (known := self._sums.get(run.id)) else {})} for run in runs]

    def _add_up(self, runs: Sequence[Run]) -> None:
        began = time.monotonic()
        with StoreReader(self._store) as reader:
            number = numbers_of(reader.fetch)
            for run in reversed(runs):
                now = time.monotonic()
                if now - began > _MOST_S:
                    break
                state = _state(run, number.get(run.id, 0))
                known = self._sums.get(run.id)
                if known is not None and (known.state == state if state is not None else now < known.until):
                    continue
                money = costs(reader.money(run.id), None)
                after = time.monotonic()
                told = {name: money[name] for name in FIELDS}  # type: ignore[literal-required]
                self._sums[run.id] = _Sum(told, state, after + max(_AGAIN_S, _PATIENCE * (after - now)))
        self._sums = {run.id: self._sums[run.id] for run in runs if run.id in self._sums}


def _state(run: Run, number: int) -> Hashable:
    """Return what changes whenever a run that nobody works on has sent something; None for a run that goes on."""
    if run.active:
        return None
    return number, run.created_at, run.finished_at, run.done, run.failed, run.stop_reason
