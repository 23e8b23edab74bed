"""``docs/reference/faults.md`` has every line of the fault catalogue, once, and names tests that exist."""

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
LINES = {"N": 18, "H": 15, "S": 28, "P": 13, "X": 21, "W": 7}
"""The catalogue: how many lines each of its parts has."""

ROW = re.compile(r"^\| ([A-Z]\d+) \| (.+) \| (.+) \| (.+) \|$")
NAMED = re.compile(r"`([a-z0-9_]+\.py)::([a-z0-9_]+)`")


def table() -> list[tuple[str, str]]:
    """Give each row of the tables: its line, and the tests that it names."""
    text = (ROOT / "docs" / "reference" / "faults.md").read_text(encoding="utf-8")
    return [(found[1], found[4]) for found in map(ROW.match, text.splitlines()) if found is not None]


@functools.cache
def names_by_file() -> dict[str, set[str]]:
    """Collect the names of all tests by file, without importing any."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        # the table names files without their folder
        assert path.name not in found, path
        body = ast.parse(path.read_text(encoding="utf-8")).body
        functions = {node.name for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        found[path.name] = {name for name in functions if name.startswith("test_")}
    return found


def test_every_line_of_the_catalogue_is_in_the_table_once_and_in_order() -> None:
    assert [line for line, _ in table()] == [f"{part}{number}" for part, last in LINES.items() for number in range(1, last + 1)]


@pytest.mark.parametrize(("line", "named"), table(), ids=[line for line, _ in table()])
def test_every_line_has_tests_and_they_exist(line: str, named: str) -> None:
    known = names_by_file()
    found = NAMED.findall(named)
    assert found
    # nothing but tests stands there
    assert NAMED.sub("", named).strip(", ") == ""
    for file, name in found:
        assert name in known.get(file, set()), f"{line} names {file}::{name}"


def test_every_test_that_has_a_line_in_its_name_is_in_the_table() -> None:
    """As ``test_h9_s13_...`` has two."""
    by_line = {line: {name for _, name in NAMED.findall(named)} for line, named in table()}
    missing = [
        (line, name)
        for names in names_by_file().values()
        for name in names
        for line in re.findall(r"(?<=_)([nhspx][1-9]\d?)(?=_)", re.match(r"test(?:_[nhspx]\d+)*_", name)[0])
        if name not in by_line.get(line.upper(), set())
    ]
    assert missing == []
