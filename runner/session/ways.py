"""How failed rows are sent again so that they need not fail as before: the same request would be paid for once more.

An answer that was cut at its limit gets twice that limit, and one that took longer than it may gets twice that time. Twice, as
each round pays for its input again, so that few rounds are to be enough; a limit that an answer does not reach costs nothing.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import msgspec

from runner.errors import BAD_ROW, INVALID_OUTPUT
from runner.model import Run
from runner.providers.finish import CUT, EMPTY, end_of, normal
from runner.session import only
from runner.session.only import BUT, CUT_CODES, FINISH_LENGTH, LENGTH, OWN_LIMIT
from runner.session.spelling import LEFT_OUT
from runner.store import reuse
from runner.store.causes import Cause, CauseReader
from runner.store.reader import StoreReader

_SLOW = "timeout_attempt"
_NEED_MORE = frozenset({*CUT_CODES, _SLOW, *LEFT_OUT})
"""Error codes of rows that may need options, or a change of the input, so as not to fail again."""
_BUT_OWN = f"{BUT}{OWN_LIMIT}"
_UNKNOWN = 4096
"""Tokens of the limit of an answer, where neither a setting nor an answer tells it."""


class Way(NamedTuple):
    """One way of sending failed rows again. classes: what ``--class`` calls them. rows: how many."""

    options: tuple[str, ...]
    classes: tuple[str, ...]
    rows: int


class Ways:
    """The ways for the causes of one run.

    answered: those of its answers, where they are wanted too. limit: the most tokens that an answer could have. slow_s: seconds
    of the longest attempt that took too long.
    """

    def __init__(
        self, failed: Iterable[Cause], answered: Iterable[Cause] = (), *, limit: int = _UNKNOWN, slow_s: float = 0.0
    ) -> None:
        self._limit, self._slow_s = limit, slow_s
        self._every = [*failed, *answered]
        self._failed = [one for one in self._every if one.code not in (None, BAD_ROW)]

    def options(self, cause: Cause) -> tuple[str, ...]:
        """Return the options with which the rows of a cause need not fail again; of those with its code, if one needs them."""
        shared = INVALID_OUTPUT in self.classes(cause) and not is_own(cause)
        alike = [one for one in self._failed if one.code == cause.code] if shared else [cause]
        return next(filter(None, map(self._own, alike)), ())

    def classes(self, cause: Cause) -> Sequence[str]:
        """Return what ``--class`` calls the rows of a cause, without those that would be cut again at limits of their own."""
        name = name_of(cause)
        alike = [one for one in self._every if takes(name, one)]
        if is_own(cause):
            return [name] if all(map(is_own, alike)) else [OWN_LIMIT]
        if name == INVALID_OUTPUT and is_cut(cause) and not all(map(is_cut, alike)):
            name, alike = LENGTH, [one for one in self._every if is_cut(one)]
        return _without_own([name], alike)

    def rows(self, cause: Cause) -> int:
        """Return how many rows ``--class`` takes with the classes of a cause."""
        names = self.classes(cause)
        chosen = [one for one in self._every if any(takes(name, one) for name in names)]
        return sum(one.count for one in chosen if not (_BUT_OWN in names and is_own(one)))

    @cached_property
    def differ(self) -> bool:
        """True if not each of the failed rows may be sent again as it is."""
        return self.all() is not None

    def all(self) -> Sequence[Way] | None:
        """Return the ways for all failed rows, the most rows first; None if each may be sent again as it is.

        Rows for which only a change of the input helps are in none of them.
        """
        found: dict[tuple[str, ...], list[Cause]] = {}
        for cause in self._failed:
            if not is_own(cause):
                found.setdefault(self.options(cause), []).append(cause)
        if found.keys() <= {()} and not any(map(is_own, self._failed)):
            return None
        return sorted((self._way(options, those) for options, those in found.items()), key=lambda way: -way.rows)

    def _way(self, options: tuple[str, ...], those: Sequence[Cause]) -> Way:
        names = list(dict.fromkeys(map(name_of, those)))
        classes = _without_own(names, [one for one in self._failed if name_of(one) in names])
        return Way(options, tuple(classes), sum(one.count for one in those))

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
    return is_cut(cause) and cause.own_limit


def name_of(cause: Cause) -> str:
    """Return the name of a cause as ``--class`` takes it."""
    status = "failed" if cause.code is not None else "done"
    return only.kind_of(status, cause.code, cause.finish_reason, cause.notes)


def takes(name: str, cause: Cause) -> bool:
    """Return True if ``--class`` takes the rows of a cause by a name, which is the code or the kind of one."""
    if name in (LENGTH, OWN_LIMIT):
        return is_cut(cause) if name == LENGTH else is_own(cause)
    if cause.code is not None:
        return cause.code == name
    return end_of(cause.finish_reason or "") == name or (name == EMPTY and EMPTY in (cause.notes or "").split(","))


def _without_own(names: list[str], those: Iterable[Cause]) -> list[str]:
    return [*names, _BUT_OWN] if any(map(is_own, those)) else names


def of(run: Run, failed: Sequence[Cause], answered: Sequence[Cause], causes: CauseReader, reader: StoreReader) -> Ways:
    """Return the ways for the causes of a run. causes: in the same snapshot of the reader. Raises StoreError."""
    settings: list[Mapping[str, object]] = [run.settings]
    settings += map(msgspec.json.decode, reuse.variants(reader.fetch).get(run.id, {}).values())
    limits = [most for one in settings if isinstance(most := one.get("max_tokens"), int)]
    slow_s = causes.longest_s(_SLOW) if any(cause.code == _SLOW for cause in failed) else None
    if len(limits) < len(settings):
        # without a setting, the server has a limit of its own, which the longest answer has reached
        limits.append(causes.longest() or _UNKNOWN)
    return Ways(failed, answered, limit=max(limits), slow_s=slow_s or 0.0)


def needed(run_id: int, codes: Iterable[str], store: Path) -> Sequence[Way] | None:
    """Return the ways for all failed rows of a run. The store is read only if one of the codes may need it.

    Raises UsageError, StoreError.
    """
    if _NEED_MORE.isdisjoint(codes):
        return None
    with StoreReader(store) as reader, reader.snapshot() as connection:
        run = reader.run(run_id, counted=False)
        cut, _ = only.doubtful(reader, run)
        causes = CauseReader(connection, run.id, run.answers, cut)
        return of(run, causes.counted(), (), causes, reader).all()


def _twice_s(short_s: float) -> str:
    """Return twice a time that was too short, in seconds, as a person types it."""
    return f"{2 * round(short_s)}" if short_s >= 10 else f"{2 * math.ceil(short_s * 10) / 10:g}"
