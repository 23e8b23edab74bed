"""What the answers of a run are like: lengths, and what the fields of a schema hold. Counted in SQL, in constant memory."""

from collections.abc import Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from runner.answer_shape import FieldKind
from runner.figures import AnswerFigures, FieldFigures
from runner.store.schema import items
from runner.store.spending import Fetch, once
from runner.store.spreads import spread, spread_and_rest

_FIELDS = 24
"""Fields at most; each takes a pass over all answers."""
_VALUES = 12
"""Values of a field that are shown."""
_LOOK = 2_000
"""Answers that tell whether a field has few values, or a text of its own in each."""
_NUMBERS = ("integer", "real")
_FEW = 50
"""So many values among these are few."""


def answers_of(fetch: Fetch, run_id: int, answers: int, fields: Mapping[str, FieldKind]) -> AnswerFigures:
    """Return what the answers of a run are like. answers: how many of each row are wanted. fields: those of its schema."""
    done = (items.c.run_id == run_id, items.c.status == "done", items.c.answer_number <= answers)
    noted = sa.select(items.c.notes, sa.func.count()).where(*done, items.c.notes.is_not(None)).group_by(items.c.notes)
    notes: dict[str, int] = {}
    for words, count in fetch(noted):
        for word in filter(None, words.split(",")):
            notes[word] = notes.get(word, 0) + count
    told = [(name, kind) for name, kind in fields.items() if not set('"\\\0') & set(name)][:_FIELDS]
    return AnswerFigures(
        characters=spread(fetch, sa.func.length(items.c.text), items, *done),
        notes=dict(sorted(notes.items(), key=lambda one: (-one[1], one[0]))),
        fields=[_field(fetch, name, kind, done) for name, kind in told],
    )


def _field(fetch: Fetch, name: str, kind: FieldKind, done: tuple[sa.ColumnElement[bool], ...]) -> FieldFigures:
    # no text that is broken reaches the functions of JSON, which would end the statement
    valid = sa.case((sa.func.json_valid(items.c.text) == 1, items.c.text))
    path = f'$."{name}"'
    value, of_type = sa.func.json_extract(valid, path), sa.func.json_type(valid, path)
    seen = sa.select(value.label("value")).where(*done).limit(_LOOK).subquery()
    (different,) = fetch(sa.select(sa.func.count(seen.c.value.distinct())))[0]
    is_number, has_few = kind in ("int", "float"), different <= _FEW
    measured, values, others, missing = None, list[tuple[str, int]](), 0, 0
    if is_number:
        measured, missing = spread_and_rest(fetch, sa.case((of_type.in_(_NUMBERS), value)), items, *done)
    elif has_few:
        values, others, missing = _values(fetch, value, of_type, done)
    else:
        measured, missing = spread_and_rest(fetch, sa.case((of_type == "text", sa.func.length(value))), items, *done)
    return FieldFigures(
        name=name, kind=kind, values=values, others=others, missing=missing, spread=measured, is_length=not is_number
    )


def _values(
    fetch: Fetch, value: Any, of_type: Any, where: tuple[sa.ColumnElement[bool], ...]
) -> tuple[list[tuple[str, int]], int, int]:
    """Return the most frequent values as JSON, how many answers have others, and how many have none."""
    row = once(sa.select(value.label("value"), sa.func.nullif(of_type, "null").label("type")).where(*where)).c
    grouped = sa.select(row.value, row.type, sa.func.count().label("count")).group_by(row.value, row.type).subquery()
    every = sa.func.sum(grouped.c.count).over().label("every")
    # those without a value come first, so that they are among the rows that are read
    order = (grouped.c.type.is_not(None), grouped.c.count.desc(), grouped.c.value)
    rows = fetch(sa.select(*grouped.c, every).order_by(*order).limit(_VALUES + 1))
    missing = sum(count for _, kind, count, _ in rows if kind is None)
    values = [(_json(found, kind), count) for found, kind, count, _ in rows if kind is not None][:_VALUES]
    total = rows[0].every if rows else 0
    return values, total - missing - sum(count for _, count in values), missing


def _json(value: Any, kind: str) -> str:
    """Return a value that SQLite took out of JSON as JSON again."""
    if kind in ("true", "false"):
        return kind
    # lists and objects are texts of JSON already
    return str(value) if kind in ("array", "object") else msgspec.json.encode(value).decode()
