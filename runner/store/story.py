"""One row of a run, with everything that was sent for it and what came back. Synchronous."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import Struct

from runner.model import Json
from runner.store import database
from runner.store.reuse import IS_TAKEN_OVER
from runner.store.schema import attempts, items, reused


class Sent(Struct, frozen=True, kw_only=True):
    """One attempt, as the store has it."""

    number: int
    started_at: float
    duration_s: float
    time_to_first_token_s: float | None
    status: int | None
    sent: bool
    bytes_received: int
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None
    served_model: str | None
    response_id: str | None
    error_code: str | None
    error: str | None


_DIGITS = 18
"""Of the longest number that SQLite can hold in any case."""


class TakenFrom(Struct, frozen=True, kw_only=True):
    """Where an answer is from that was taken over: the run that bought it, the row's id there, and the attempt."""

    from_run: int
    from_key: str
    started_at: float
    duration_s: float
    time_to_first_token_s: float | None
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None
    served_model: str | None
    response_id: str | None


class Story(Struct, frozen=True, kw_only=True):
    """A row. key: its id. fields: as they are stored. status: None if it has no outcome yet."""

    key: str
    line: int | None
    status: str | None
    fields: Mapping[str, Json]
    text: str | None
    finish_reason: str | None
    error_code: str | None
    error: str | None
    notes: str | None
    # reasoning, refusal, tool calls, citations, logprobs
    extra: Mapping[str, Json]
    attempts: list[Sent]
    # None: the answer is the run's own
    taken_from: TakenFrom | None = None


def story(store: Path, run_id: int, key: str) -> Story | None:
    """Return a row of a run by its id, or by its line if no row has that id; None if nothing is known. Raises StoreError."""
    database.prepare(store, create=False)
    names = Sent.__struct_fields__
    with database.transaction(store, write=False) as connection:
        of_run = sa.select(items).where(items.c.run_id == run_id)
        row = connection.execute(of_run.where(items.c.key == key)).first()
        if row is None and key.isascii() and key.isdecimal() and len(key) <= _DIGITS:
            # rows without an id have hashes as keys, and a person knows the line
            row = connection.execute(of_run.where(items.c.position == int(key)).order_by(items.c.id.desc())).first()
            key = key if row is None else row.key
        columns = [attempts.c[name] for name in names]
        # no index holds the answered ones, so this reads all attempts: an answer that was replaced is told too
        sent_for = (attempts.c.run_id == run_id, attempts.c.item_key == key)
        found = list(connection.execute(sa.select(*columns).where(*sent_for).order_by(attempts.c.id)))
        taken_over = (IS_TAKEN_OVER, items.c.run_id == run_id, items.c.key == key)
        taken = connection.execute(sa.select(reused).join(items, sa.and_(*taken_over))).mappings().first()
    if row is None and not found:
        return None
    sent = [Sent(**dict(zip(names, one, strict=True))) for one in found]
    try:
        known = {name: getattr(row, name, None) for name in ("status", "text", "finish_reason", "error_code", "error", "notes")}
        fields, extra = _decoded(getattr(row, "metadata", None)), _decoded(getattr(row, "extra", None))
    except database.DAMAGE as error:
        raise database.store_error(store, "read", error) from error
    return Story(
        key=key,
        line=getattr(row, "position", None),
        fields=fields,
        extra=extra,
        attempts=sent,
        taken_from=TakenFrom(**{name: taken[name] for name in TakenFrom.__struct_fields__}) if taken is not None else None,
        **known,
    )


def _decoded(text: str | None) -> dict[str, Any]:
    return msgspec.json.decode(text, type=dict[str, Any]) if text is not None else {}
