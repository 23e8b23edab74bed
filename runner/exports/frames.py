"""Makes tables of other libraries from columns: pandas, polars, Arrow. Each is imported when it is asked for.

Columns are typed: whole numbers, numbers, True and False, texts; None is what the library has for a missing value. Numbers that
do not fit into 64 bits, lists, objects and columns of several kinds are Python objects in pandas, JSON texts in polars and Arrow.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any, Literal, TypeAlias, get_type_hints

import msgspec

from runner.errors import UsageError
from runner.model import Result
from runner.text import encodable_tree

Kind: TypeAlias = Literal["int", "float", "bool", "text", "other"]

_OF_HINTS: dict[Any, Kind] = {int: "int", int | None: "int", float | None: "float", str | None: "text"}
_OURS: dict[str, Kind] = {name: _OF_HINTS.get(hint, "text") for name, hint in get_type_hints(Result).items()}
"""What a column of ours holds if it has no value that tells it."""
_PANDAS: dict[Kind, str] = {"int": "Int64", "float": "float64", "bool": "boolean", "text": "string", "other": "object"}
_POLARS: dict[Kind, str] = {"int": "Int64", "float": "Float64", "bool": "Boolean", "text": "String", "other": "String"}
_ARROW: dict[Kind, str] = {"int": "int64", "float": "float64", "bool": "bool_", "text": "string", "other": "string"}
_MOST = 2**63


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
    kinds = {name: kind_of(values, name) for name, values in columns.items()}
    return pandas.DataFrame({name: pandas.Series(values, dtype=_PANDAS[kinds[name]]) for name, values in columns.items()})


def to_polars(columns: Mapping[str, list[Any]]) -> Any:
    """Return a DataFrame of polars. Raises UsageError if polars is not installed."""
    polars = _library("polars")
    made = []
    for name, values in columns.items():
        kind = kind_of(values, name)
        made.append(polars.Series(name, _flat(values, kind), dtype=getattr(polars, _POLARS[kind])))
    return polars.DataFrame(made)


def to_arrow(columns: Mapping[str, list[Any]]) -> Any:
    """Return a table of Arrow. Raises UsageError if pyarrow is not installed."""
    arrow = _library("pyarrow")
    made = {}
    for name, values in columns.items():
        kind = kind_of(values, name)
        made[name] = arrow.array(_flat(values, kind), getattr(arrow, _ARROW[kind])())
    return arrow.table(made)


def kind_of(values: Iterable[Any], name: str = "") -> Kind:
    """Return what a column holds. name: tells it for a column of ours that holds nothing."""
    types = set(map(type, values)) - {type(None)}
    if not types:
        return _OURS.get(name, "text")
    if types == {int}:
        return "int" if all(value is None or -_MOST <= value < _MOST for value in values) else "other"
    if types <= {int, float}:
        return "float"
    return {bool: "bool", str: "text"}.get(types.pop(), "other") if len(types) == 1 else "other"  # type: ignore[return-value]


def _flat(values: list[Any], kind: Kind) -> list[Any]:
    """Return values as a typed column takes them."""
    if kind == "float":
        return [None if value is None else float(value) for value in values]
    if kind != "other":
        return values
    return [value if value is None or isinstance(value, str) else _json(value) for value in values]


def _json(value: object) -> str:
    return msgspec.json.encode(encodable_tree(value)).decode()


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise UsageError(f"this needs one package more: pip install {name}") from None
