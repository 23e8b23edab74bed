"""``docs/reference/telemetry.md`` tells of every name that OpenTelemetry is told, with its kind and unit, and of no other."""

import re
from pathlib import Path

from runner.integrations import telemetry_names as names

PAGE = Path(__file__).parents[2] / "docs/reference/telemetry.md"
TEXT = PAGE.read_text(encoding="utf-8")


def table(head: str) -> list[list[str]]:
    """Return the cells of the table whose first column has this head."""
    lines = TEXT.partition(f"\n| {head} |")[2].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[: lines.index("")]]


def test_the_attributes_are_those_of_the_code() -> None:
    for head, told in (
        ("attribute of an attempt", names.ATTEMPT_ATTRIBUTES),
        ("attribute of a session", names.SESSION_ATTRIBUTES),
    ):
        assert [cells[0] for cells in table(head)] == [f"`{name}`" for name in told]


def test_the_metrics_are_those_of_the_code() -> None:
    rows = table("metric")
    assert [tuple(cells[:3]) for cells in rows] == [(f"`{one.name}`", one.kind, f"`{one.unit}`") for one in names.METRICS]
    shared = re.findall(r"`([a-z_.]+)`", TEXT.partition("\nThose of attempts also have ")[2].partition(". Behind")[0])
    for cells, one in zip(rows, names.METRICS, strict=True):
        own = re.findall(r"`([a-z_]+\.[a-z_.]+)`", cells[4])
        assert sorted(one.attributes) == sorted([*own, *(shared if "those below" in cells[4] else [])]), one.name


def test_the_page_names_the_version_of_the_conventions() -> None:
    assert f"version {names.CONVENTIONS} of OpenTelemetry's" in TEXT
    assert names.SCHEMA_URL.endswith(names.CONVENTIONS)
