"""What a session changes about its run, and how that is noted in the history."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from runner.model import Json
from runner.origin import Files

Noted: TypeAlias = tuple[str, str | None, str | None]
"""An entry of the history: (what, old, new)."""


class Changes(Struct, frozen=True, kw_only=True):
    """What a session changes about its run.

    columns: new values of its entry. noted: for the history. variant: the answer settings of this session, if they
    are not those of the run. files: those of an input of several now; if others were there before, the rows keep theirs.
    single: the one file of before, by its path, if it was one. taken_over: the files and their numbers are those of another run.
    """

    columns: Mapping[str, Any] = {}
    noted: Sequence[Noted] = ()
    variant: Mapping[str, Json] | None = None
    files: Files | None = None
    single: str | None = None
    taken_over: bool = False


def noted(then: Mapping[str, Json], now: Mapping[str, Json]) -> list[Noted]:
    """Return what differs between two states of a run, by the names in ``now``; values that are not texts as JSON."""
    return [(what, _plain(then.get(what)), _plain(new)) for what, new in now.items() if then.get(what) != new]


def entries(run_id: int, changes: Sequence[Noted]) -> list[dict[str, Any]]:
    """Return entries for the table of the history."""
    return [{"run_id": run_id, "at": time.time(), "what": what, "old": old, "new": new} for what, old, new in changes]


def _plain(value: Json) -> str | None:
    return value if value is None or isinstance(value, str) else msgspec.json.encode(value).decode()
