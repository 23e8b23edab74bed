"""Generates ``docs/reference/schema.md`` from the tables of the store: columns, types, and what the code says about them."""

import inspect
import re
from pathlib import Path

import sqlalchemy as sa
from options_page import BEGIN, END
from pages import Part

from runner.store import schema

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "schema.md"
_COLUMN = re.compile(r'^    sa\.Column\(\s*"(\w+)"')
_TABLE = re.compile(r'^\w+ = sa\.Table\(\s*"?(\w*)"?')


def tables() -> str:
    """Return a section for each table, in the order of the code."""
    said = comments()
    return "\n" + "\n".join(section(table, said) for table in schema.metadata.tables.values())


def section(table: sa.Table, said: dict[tuple[str, str], str]) -> str:
    """Return the columns of a table."""
    rows = (row(column, said.get((table.name, column.name), "")) for column in table.columns)
    return f"## {table.name}\n\n| column | what the code says | type | NULL |\n|---|---|---|---|\n" + "".join(rows)


def row(column: "sa.Column[object]", said: str) -> str:
    """Return the row of a column."""
    refers = "".join(f", of `{key.target_fullname}`" for key in column.foreign_keys)
    kind = ("key, " if column.primary_key else "") + str(column.type) + refers
    return f"| `{column.name}` | {said.replace('|', chr(92) + '|')} | {kind} | {'may be' if column.nullable else 'never'} |\n"


def comments() -> dict[tuple[str, str], str]:
    """Return the comment above each column, by table and column."""
    found: dict[tuple[str, str], str] = {}
    table, above = "", []
    # a name that is on the line after its bracket is found as well
    for line in re.sub(r"(sa\.(?:Table|Column)\()\n\s*", r"\1", inspect.getsource(schema)).splitlines():
        begun, column = _TABLE.match(line), _COLUMN.match(line)
        if begun:
            table = begun[1]
        if column and above:
            found[table, column[1]] = re.sub(r"``([^`]+)``", r"`\1`", " ".join(above))
        above = [*above, line.strip().lstrip("# ")] if line.strip().startswith("#") else []
    return found


PART = Part(PAGE, BEGIN, END, tables)
"""All tables in their page."""
