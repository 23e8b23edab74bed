"""Makes tables of other libraries from columns: pandas, polars, Arrow. Each is imported when it is asked for.

Columns are typed: whole numbers, numbers, True and False, texts; None is what the library has for a missing value. Numbers that
do not fit into 64 bits, lists, objects and columns of several kinds are Python objects in pandas, JSON texts in polars and Arrow.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any

from runner.errors import UsageError
from runner.exports.kinds import OURS, Kind, flat, kind_of

_EMPTY: Mapping[str, Kind] = {name: "text" if kind == "other" else kind for name, kind in OURS.items()}
"""What a column of ours is taken for if it has no value that tells it."""
_PANDAS: dict[Kind, str] = {"int": "Int64", "float": "float64", "bool": "boolean", "text": "string", "other": "object"}
_POLARS: dict[Kind, str] = {"int": "Int64", "float": "Float64", "bool": "Boolean", "text": "String", "other": "String"}
_ARROW: dict[Kind, str] = {"int": "int64", "float": "float64", "bool": "bool_", "text": "string", "other": "string"}


def gathered(names: Sequence[str], records: Iterable[Sequence[object]]) -> dict[str, list[Any]]:
    """Return the values of each column."""
    values: list[list[Any]] = [[] for _ in names]
    adders: list[Callable[[Any], None]] = [column.append for column in values]
    for record in records:
        for add, value in zip(adders, record, strict=True):
            add(value)
    return dict(zip(names, values, strict=True))


def to_pandas(columns: Mapping[str, list[Any]]) -> Any:
    """Return a DataFrame of pandas. Raises UsageError if pandas is not installed."""
    pandas = _library("pandas")
    kinds = {name: _kind(values, name) for name, values in columns.items()}
    return pandas.DataFrame({name: pandas.Series(values, dtype=_PANDAS[kinds[name]]) for name, values in columns.items()})


def to_polars(columns: Mapping[str, list[Any]]) -> Any:
    """Return a DataFrame of polars. Raises UsageError if polars is not installed."""
    polars = _library("polars")
    made = []
    for name, values in columns.items():
        kind = _kind(values, name)
        made.append(polars.Series(name, flat(values, kind), dtype=getattr(polars, _POLARS[kind])))
    return polars.DataFrame(made)


def to_arrow(columns: Mapping[str, list[Any]]) -> Any:
    """Return a table of Arrow. Raises UsageError if pyarrow is not installed."""
    arrow = _library("pyarrow")
    made = {}
    for name, values in columns.items():
        kind = _kind(values, name)
        made[name] = arrow.array(flat(values, kind), getattr(arrow, _ARROW[kind])())
    return arrow.table(made)


def _kind(values: Sequence[Any], name: str) -> Kind:
    return kind_of(values) or _EMPTY.get(name, "text")


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise UsageError(f"this needs one package more: pip install {name}") from None
