"""The values of Python in a row become JSON in documented forms, or are refused: never a text that may change tomorrow."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from runner.errors import UsageError
from runner.inputs import objects

pytestmark = pytest.mark.quick


class Colour(Enum):
    RED = "red"


class Name(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "another text"


class Grade(IntEnum):
    GOOD = 2


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ("a", "a"), (Name("a"), "a"), (True, True), (2**70, 2**70), (1.0, 1.0), (None, None),
        (float("nan"), None), (float("-inf"), None), (Colour.RED, "red"), (Grade.GOOD, 2), ([Colour.RED], ["red"]),
        (date(2026, 1, 2), "2026-01-02"), (datetime(2026, 1, 2, 3, tzinfo=UTC), "2026-01-02T03:00:00+00:00"),
        (time(3, 4), "03:04:00"), (timedelta(minutes=1.5), 90.0), (Decimal("1.50"), "1.50"), (Decimal("nan"), None),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"), (PurePosixPath("a/b"), "a/b"),
        (b"caf\xc3\xa9", "café"), (bytearray(b"\xff"), "/w=="), ((1, (2,)), [1, [2]]), ({1: {"a": (2,)}}, {"1": {"a": [2]}}),
        (np.int64(3), 3), (np.float32(0.5), 0.5), (np.bool_(True), True), (np.str_("a"), "a"), (np.array([[1, 2]]), [[1, 2]]),
        (np.datetime64("2026-01-02T03:04:05.000000006"), "2026-01-02T03:04:05"), (np.datetime64("NaT", "s"), None),
        (np.timedelta64(90, "s"), 90.0), (pd.NaT, None), (pd.NA, None), (pd.Timestamp("2026-01-02"), "2026-01-02T00:00:00"),
        (pd.Timedelta("90s"), 90.0), (pd.Period("2026-01"), "2026-01"), (pd.Series([1, 2]), [1, 2]), (pa.scalar(3), 3),
        (pa.array([1, None]), [1, None]),
    ],
)  # fmt: skip
def test_forms(value: Any, plain: object) -> None:
    made = objects.plain({"field": value})["field"]
    assert made == plain
    assert type(made) is type(plain)
    msgspec.json.encode(made)


@pytest.mark.parametrize("value", [object(), {1, 2}, Fraction(1, 2), 1j, int, len, np.array([object()]), {(1, 2): 3}])
def test_what_has_no_form_is_refused_with_the_way_to_it(value: Any) -> None:
    with pytest.raises(objects.UnfitError) as refused:
        objects.plain({"a": [1, value]})
    assert refused.value.where[:2] == ("a", "1")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"prompt": "a\ud800"}, r"field 'prompt' of row 7 has half of a surrogate pair \('\\ud800'\)"),
        ({"a": {"\udc00": 1}}, r"of row 7 has half of a surrogate pair \('\\udc00'\)"),
        ({"a": ["b", {"c": "\udfff"}]}, r"field 'a.1.c' of row 7 has half"),
    ],
)
def test_half_of_a_surrogate_pair_is_refused_by_its_field(fields: dict[str, Any], words: str) -> None:
    line = bytearray(b"before\n")
    with pytest.raises(UsageError, match=words):
        objects.add(line, fields, 7)


def test_rows_are_lines() -> None:
    lines = bytearray()
    for number in range(3):
        objects.add(lines, {"prompt": f"a\nb {number}"}, number + 1)
    assert [msgspec.json.decode(line)["prompt"] for line in lines.splitlines()] == ["a\nb 0", "a\nb 1", "a\nb 2"]
