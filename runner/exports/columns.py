"""The columns of an export, and its records. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import NamedTuple

from msgspec import structs

from runner.model import Result

_SOME = ("file", "answer_number", "same_as")
COLUMNS = tuple(name for name in Result.__struct_fields__ if name not in _SOME)
"""The columns of an export, before ``metadata`` is replaced by a column for each of the rows' own fields."""


class Parts(NamedTuple):
    """Which columns an export has that most have not.

    files: of the files in which the rows are. answers: of the number of each answer. copies: of the rows that bought answers
    for others.
    """

    files: bool = False
    answers: bool = False
    copies: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """All columns, ``metadata`` among them."""
        names = list(COLUMNS)
        if self.answers:
            names.insert(names.index("text") + 1, "answer_number")
        if self.copies:
            names.insert(names.index("reused_from") + 1, "same_as")
        return (*names, "file") if self.files else tuple(names)


_METADATA_AT = COLUMNS.index("metadata")


_MOST = Parts()


def columns(own: Sequence[str], *, prompt: bool = True, parts: Parts = _MOST) -> list[str]:
    """Return the names of all columns of an export.

    own: the names of the rows' own fields, in their order. prompt: False leaves out the column of what each row asked. parts: the
    columns that most exports have not.
    """
    ours = parts.names
    return [*ours[:_METADATA_AT], *(_column_of(name, own, ours) for name in own), *ours[_METADATA_AT + 1 + (not prompt) :]]


def given(own: Sequence[str], parts: Parts = _MOST) -> list[str]:
    """Return the names of the columns that hold what the rows came with: their id and their own fields."""
    return columns(own, parts=parts)[: _METADATA_AT + len(own)]


def records(
    results: Iterable[Result], own: Sequence[str], *, prompt: bool = True, parts: Parts = _MOST
) -> Iterator[list[object]]:
    """Yield each result as a list of values, in the order of ``columns(own)``; a field that a row lacks is None."""
    places = itemgetter(*map(Result.__struct_fields__.index, parts.names))
    end = _METADATA_AT + 1 + (not prompt)
    for result in results:
        values: list[object] = list(places(structs.astuple(result)))
        get = result.metadata.get
        values[_METADATA_AT:end] = [get(name) for name in own]
        yield values


def _column_of(name: str, own: Sequence[str], ours: Sequence[str]) -> str:
    """Return the column name for a row's own field: the same name, prefixed with ``input_`` if a column of ours has that name."""
    while name in ours and name != "metadata":
        name = f"input_{name}"
        while name in own:
            name = f"input_{name}"
    return name
