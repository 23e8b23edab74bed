"""How failed rows are sent again so that they need not fail as before: the same request would be paid for once more.

An answer that was cut at its limit gets twice that limit, and one that took longer than it may gets twice that time. Twice, as
each round pays for its input again, so that few rounds are to be enough; a limit that an answer does not reach costs nothing.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from runner.errors import BAD_ROW, INVALID_OUTPUT
from runner.model import Run
from runner.providers.finish import CUT, normal
from runner.session import only
from runner.session.only import CUT_CODES, FINISH_LENGTH, LENGTH
from runner.session.spelling import LEFT_OUT
from runner.store import reuse
from runner.store.causes import Cause, CauseReader
from runner.store.reader import StoreReader

_SLOW = "timeout_attempt"
_UNKNOWN = 4096
"""Tokens of the limit of an answer, where neither a setting nor an answer tells it."""


class Way(NamedTuple):
    """One way of sending failed rows again. classes: what ``--class`` calls them. rows: how many."""

    options: tuple[str, ...]
    classes: tuple[str, ...]
    rows: int


class Ways:
    """The ways for the causes of one run.

    limit: the most tokens that an answer could have; None: not known. slow_s: seconds of the longest attempt that took too long.
    """

    def __init__(self, failed: Iterable[Cause], limit: int | None = None, slow_s: float = 0.0) -> None:
        self._limit, self._slow_s = limit or _UNKNOWN, slow_s
        self._failed = [cause for cause in failed if cause.code != BAD_ROW]

    def options(self, cause: Cause) -> tuple[str, ...]:
        """Return the options with which the rows of a cause need not fail again; of those with its code, if one needs them."""
        alike = [one for one in self._failed if one.code == cause.code] if self.class_of(cause) == INVALID_OUTPUT else [cause]
        return next(filter(None, map(self._own, alike)), ())

    def class_of(self, cause: Cause) -> str:
        """Return what ``--class`` calls the rows of a cause: those that were cut by themselves, if others have the same code."""
        code = cause.code or LENGTH
        shared = code == INVALID_OUTPUT and is_cut(cause) and not all(is_cut(one) for one in self._failed if one.code == code)
        return LENGTH if shared else code

    def all(self) -> Sequence[Way] | None:
        """Return the ways for all failed rows, the most rows first; None if each may be sent again as it is.

        Rows for which only a change of the input helps are in none of them.
        """
        found: dict[tuple[str, ...], list[Cause]] = {}
        for cause in self._failed:
            if not is_own(cause):
                found.setdefault(self.options(cause), []).append(cause)
        if found.keys() == {()} and not any(map(is_own, self._failed)):
            return None
        ways = [
            Way(options, tuple(dict.fromkeys(one.code or LENGTH for one in those)), sum(one.count for one in those))
            for options, those in found.items()
        ]
        return sorted(ways, key=lambda way: -way.rows)

    def _own(self, cause: Cause) -> tuple[str, ...]:
        if cause.code == _SLOW:
            return ("--attempt-s", _twice_s(self._slow_s))
        if is_cut(cause) and not is_own(cause):
            return ("--max-tokens", str(2 * self._limit))
        return LEFT_OUT.get(cause.code or "", ())


def is_cut(cause: Cause) -> bool:
    """Return True if the answers of a cause were cut at a limit of their length."""
    return cause.code in FINISH_LENGTH or (cause.code in (None, INVALID_OUTPUT) and normal(cause.finish_reason or "") in CUT)


def is_own(cause: Cause) -> bool:
    """Return True if the answers of a cause were cut at limits that their rows set themselves, which no option changes."""
    return is_cut(cause) and cause.own_limits == cause.count


def of(run: Run, failed: Sequence[Cause], causes: CauseReader, reader: StoreReader) -> Ways:
    """Return the ways for the causes of a run. causes: in the same snapshot of the reader. Raises StoreError."""
    settings: list[Mapping[str, object]] = [run.settings]
    settings += map(msgspec.json.decode, reuse.variants(reader.fetch).get(run.id, {}).values())
    limits = [most for one in settings if isinstance(most := one.get("max_tokens"), int)]
    slow_s = causes.longest_s(_SLOW) if any(cause.code == _SLOW for cause in failed) else None
    # without a setting, the server has a limit of its own, which the longest answer has reached
    return Ways(failed, max(limits) if limits else causes.longest(), slow_s or 0.0)


def needed(run_id: int, codes: Iterable[str], store: Path) -> Sequence[Way] | None:
    """Return the ways for all failed rows of a run. The store is read only if one of the codes may need it.

    Raises UsageError, StoreError.
    """
    if CUT_CODES.isdisjoint(codes) and _SLOW not in codes:
        return None
    with StoreReader(store) as reader, reader.snapshot() as connection:
        run = reader.run(run_id, counted=False)
        cut, _ = only.doubtful(reader, run)
        causes = CauseReader(connection, run.id, run.answers, cut)
        return of(run, causes.counted(), causes, reader).all()


def _twice_s(short_s: float) -> str:
    """Return twice a time that was too short, in seconds, as a person types it."""
    return f"{2 * round(short_s)}" if short_s >= 10 else f"{2 * math.ceil(short_s * 10) / 10:g}"
