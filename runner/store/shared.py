"""Reads the outcomes of rows whose requests other rows make too, and the answers that these get."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from runner.errors import BAD_ROW
from runner.model import Completion, Item, Outcome, Status
from runner.store import database
from runner.store.connection import Connection

# answers that were bought by the row itself, with the settings of the session
_OUTCOMES = (
    "SELECT i.key, i.id, i.status, i.error_code, i.text IS NOT NULL, i.fingerprint, i.position,"  # noqa: S608 - constants
    " r.id IS NOT NULL AND r.outcome IS NULL, r.outcome IS 'done'"
    " FROM items i LEFT JOIN attempts a ON a.id = i.attempt_id"
    " LEFT JOIN retried r ON r.run_id = i.run_id AND r.item_key = i.key"
    f" WHERE i.run_id = ? AND i.same_as IS NULL AND a.variant_id IS ? AND i.error_code IS NOT '{BAD_ROW}' AND i.key IN ({{}})"
)
_ANSWERS = "SELECT id, key, status, made_seed, text, finish_reason, notes, extra, error_code, error FROM items WHERE id IN ({})"
_WAITING = "SELECT key, position, fingerprint FROM batch_rows WHERE run_id = ? AND released = 0 AND key IN ({})"
_DECODE = msgspec.json.Decoder(dict[str, Any]).decode


class Bought(NamedTuple):
    """The outcome of a row. entry: its number in the store. has_text: also a failed row may have an answer.

    again: the retry of the run is still to ask the row again. anew: it has done so, and this is the new answer.
    """

    key: str
    entry: int
    status: Status
    error_code: str | None
    has_text: bool
    fingerprint: int
    position: int
    again: bool
    anew: bool


class SharedAnswers:
    """To be closed. variant: the entry of the settings of the session; None: those of the run."""

    def __init__(self, store: Path, run_id: int, variant: int | None) -> None:
        self._store, self._run, self._variant = store, run_id, variant
        self._connection = Connection(store, write=False)

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    async def outcomes(self, keys: Sequence[str]) -> list[Bought]:
        """Return the outcomes of rows that have one which they did not get from another row."""
        rows = await self._connection.rows(_OUTCOMES.format(_places(keys)), (self._run, self._variant, *keys))
        return [Bought(*row) for row in rows]

    async def in_batches(self, keys: Sequence[str]) -> list[tuple[str, int, int]]:
        """Return the rows that wait in batches at a provider: key, position, and fingerprint of what was sent."""
        return [
            (key, at, sent) for key, at, sent in await self._connection.rows(_WAITING.format(_places(keys)), (self._run, *keys))
        ]

    async def given(self, items: Sequence[tuple[Item, int]]) -> list[Outcome]:
        """Return the outcomes that rows get from others. items: each with the entry of the other one."""
        entries = list({entry for _, entry in items})
        rows = await self._connection.rows(_ANSWERS.format(_places(entries)), tuple(entries))
        found = {entry: rest for entry, *rest in rows}
        try:
            return [_given(item, *found[entry]) for item, entry in items if entry in found and found[entry][0] != item.key]
        except database.DAMAGE as error:
            raise database.store_error(self._store, "read", error) from error


def _given(
    item: Item,
    key: str,
    status: Status,
    made_seed: int | None,
    text: str | None,
    *rest: str | None,
) -> Outcome:
    """Return the outcome of a row that has the one of another. It has no attempt: nothing was sent for it."""
    finish_reason, notes, extra, error_code, error = rest
    completion = Completion(
        text=text or "",
        finish_reason=finish_reason or "",
        notes=tuple(notes.split(",")) if notes else (),
        extra=_DECODE(extra) if extra else {},
    )
    return Outcome(
        key=item.key,
        position=item.position,
        status=status,
        metadata=item.metadata,
        fingerprint=item.fingerprint,
        completion=completion if text is not None else None,
        error_code=error_code,
        error=error,
        attempts=item.attempts_before,
        kept=item.answered and status == "failed",
        same_as=key,
        made_seed=made_seed,
    )


def _places(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))
