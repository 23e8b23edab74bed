"""What the answers of a run are like: lengths, and what the fields of a schema hold. Counted in SQL, in constant memory."""

from collections.abc import Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from runner.answer_shape import FieldKind
from runner.figures import AnswerFigures, FieldFigures
from runner.store.schema import items
from runner.store.spending import Fetch
from runner.store.spreads import spread

_FIELDS = 24
"""Fields at most; each takes a pass over all answers."""
_VALUES = 12
"""Values of a field that are shown."""
_LOOK = 2_000
"""Answers that tell whether a field has few values, or a text of its own in each."""
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
    missing = sa.or_(of_type.is_(None), of_type == "null")
    (without,) = fetch(sa.select(sa.func.count()).where(*done, missing))[0]
    seen = sa.select(value.label("value")).where(*done, ~missing).limit(_LOOK).subquery()
    (different,) = fetch(sa.select(sa.func.count(seen.c.value.distinct())))[0]
    numbers, texts = of_type.in_(("integer", "real")), of_type == "text"
    is_number = kind in ("int", "float")
    if is_number:
        measured = spread(fetch, value, items, *done, numbers)
    elif kind == "bool" or different <= _FEW:
        measured = None
    else:
        measured = spread(fetch, sa.func.length(value), items, *done, texts)
    values, others = _values(fetch, value, of_type, (*done, ~missing)) if different <= _FEW else ([], 0)
    return FieldFigures(
        name=name,
        kind=kind,
        values=values,
        others=others,
        missing=without,
        spread=measured,
        is_length=measured is not None and not is_number,
    )


def _values(
    fetch: Fetch, value: Any, of_type: Any, where: tuple[sa.ColumnElement[bool], ...]
) -> tuple[list[tuple[str, int]], int]:
    """Return the most frequent values as JSON, and how many answers have others."""
    count = sa.func.count().label("count")
    grouped = sa.select(value.label("value"), of_type.label("type"), count).where(*where).group_by("value", "type")
    groups = fetch(grouped.order_by(count.desc(), "value").limit(_VALUES))
    (every,) = fetch(sa.select(sa.func.count()).where(*where))[0]
    return [(_json(found, kind), number) for found, kind, number in groups], every - sum(group[2] for group in groups)


def _json(value: Any, kind: str) -> str:
    """Return a value that SQLite took out of JSON as JSON again."""
    if kind in ("true", "false"):
        return kind
    # lists and objects are texts of JSON already
    return str(value) if kind in ("array", "object") else msgspec.json.encode(value).decode()
