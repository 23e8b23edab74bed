"""The columns of an export, and its records. Pure."""

from collections.abc import Iterable, Iterator, Sequence

from msgspec import structs

from runner.model import Result

COLUMNS = tuple(name for name in Result.__struct_fields__ if name != "file")
"""The columns of an export, before ``metadata`` is replaced by a column for each of the rows' own fields."""

_METADATA_AT = COLUMNS.index("metadata")


def columns(own: Sequence[str], *, prompt: bool = True, file: bool = False) -> list[str]:
    """Return the names of all columns of an export.

    own: the names of the rows' own fields, in their order. prompt: False leaves out the column of what each row asked. file: True
    adds the column of the files in which the rows are.
    """
    ours = (*COLUMNS, "file") if file else COLUMNS
    return [*ours[:_METADATA_AT], *(_column_of(name, own, ours) for name in own), *ours[_METADATA_AT + 1 + (not prompt) :]]


def given(own: Sequence[str]) -> list[str]:
    """Return the names of the columns that hold what the rows came with: their id and their own fields."""
    return columns(own)[: _METADATA_AT + len(own)]


def records(results: Iterable[Result], own: Sequence[str], *, prompt: bool = True, file: bool = False) -> Iterator[list[object]]:
    """Yield each result as a list of values, in the order of ``columns(own)``; a field that a row lacks is None."""
    last = len(COLUMNS) + file
    end = _METADATA_AT + 1 + (not prompt)
    for result in results:
        values: list[object] = list(structs.astuple(result)[:last])
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
