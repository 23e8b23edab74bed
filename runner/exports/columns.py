"""The columns of an export, and its records. Pure."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import NamedTuple

from msgspec import structs

from runner.model import Result
from runner.text import encodable

_SOME = ("file", "answer_number", "same_as", "endpoint")
COLUMNS = tuple(name for name in Result.__struct_fields__ if name not in _SOME)
"""The columns of an export, before ``metadata`` is replaced by a column for each of the rows' own fields."""


class Parts(NamedTuple):
    """Which columns an export has that most have not.

    files: of the files in which the rows are. answers: of the number of each answer. copies: of the rows that bought answers
    for others. endpoints: of the one that answered, where there are several.
    """

    files: bool = False
    answers: bool = False
    copies: bool = False
    endpoints: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """All columns, ``metadata`` among them."""
        names = list(COLUMNS)
        if self.answers:
            names.insert(names.index("text") + 1, "answer_number")
        if self.copies:
            names.insert(names.index("reused_from") + 1, "same_as")
        if self.endpoints:
            names.insert(names.index("served_model") + 1, "endpoint")
        return (*names, "file") if self.files else tuple(names)


_METADATA_AT = COLUMNS.index("metadata")


_MOST = Parts()


def spelt(name: str) -> str:
    """Return the name of a column as most formats can spell it."""
    return encodable(name).replace("\0", "")


def caseless(name: str) -> str:
    """Return the name of a column as a format has it that does not tell small letters from capital ones."""
    return spelt(name).lower()


def columns(
    own: Sequence[str],
    *,
    prompt: bool = True,
    parts: Parts = _MOST,
    prefix: bool = False,
    alike: Callable[[str], str] = spelt,
) -> list[str]:
    """Return the names of all columns of an export.

    own: the names of the rows' own fields, in their order. prompt: False leaves out the column of what each row asked. parts: the
    columns that most exports have not. prefix: each own field gets a prefix. alike: names for which it returns the same are one.
    """
    ours = parts.names
    named = of_rows(own, [name for name in ours if name != "metadata"], alike, prefix=prefix)
    return [*ours[:_METADATA_AT], *named, *ours[_METADATA_AT + 1 + (not prompt) :]]


def given(names: Sequence[str], own: int) -> Sequence[str]:
    """Return those columns of an export that hold what the rows came with: their id, and their own fields. own: how many."""
    return names[: _METADATA_AT + own]


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


def picked(records: Iterable[Sequence[object]], places: Sequence[int]) -> Iterator[list[object]]:
    """Yield records with the values at these places only."""
    for record in records:
        yield [record[place] for place in places]


def of_rows(own: Sequence[str], ours: Sequence[str], alike: Callable[[str], str], *, prefix: bool) -> list[str]:
    """Return the columns of the rows' own fields: their names, with ``input_`` in front where another column has that name.

    ours: the names of the other columns. The other arguments: as for ``columns``.
    """
    taken = set(map(alike, ours))
    kept = set[str]()
    for name in () if prefix else own:
        if alike(name) not in taken:
            taken.add(alike(name))
            kept.add(name)
    named = []
    for name in own:
        column = name
        while name not in kept:
            column = f"input_{column}"
            if alike(column) not in taken:
                taken.add(alike(column))
                break
        named.append(column)
    return named
