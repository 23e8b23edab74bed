"""Names of columns, cells that are settings, and values of tables as JSON."""

import math
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

import pytest

from runner.inputs.cells import Plain, Settings, column_names


@pytest.mark.parametrize(
    ("header", "names"),
    [
        (["id", "", "text", " "], ["id", "column_2", "text", "column_4"]),
        ([None, "column_1"], ["column_1_2", "column_1"]),
        (["text", "text", " text "], ["text", "text_2", "text_3"]),
        (["text", "text", "text_2"], ["text", "text_3", "text_2"]),
        ([1, 2.5], ["1", "2.5"]),
    ],
)
def test_every_column_has_a_name_of_its_own(header: list[Any], names: list[str]) -> None:
    assert column_names(header) == names


def test_cells_that_are_settings_are_read_as_json_and_blank_ones_set_nothing() -> None:
    names = ["model", "system", "temperature", "stop", "params", "text"]
    fields: dict[str, Any] = {
        "model": "7",
        "system": "8",
        "temperature": " 0.5 ",
        "stop": '["A"]',
        "params": " ",
        "text": "1",
    }
    Settings(names, as_data=False).read(fields)
    assert fields == {"model": "7", "system": "8", "temperature": 0.5, "stop": ["A"], "params": None, "text": "1"}


def test_fields_that_are_plain_data_stay_texts_but_for_params() -> None:
    fields: dict[str, Any] = {"model": "7", "temperature": "0.5", "params": '{"seed": 1}'}
    Settings(list(fields), as_data=True).read(fields)
    assert fields == {"model": "7", "temperature": "0.5", "params": {"seed": 1}}


@pytest.mark.parametrize(
    ("value", "as_json"),
    [
        (2.0, 2),
        (date(2024, 1, 31), "2024-01-31"),
        (time(1, 2, 3), "01:02:03"),
        (timedelta(seconds=90), 90.0),
        (Decimal("1.50"), "1.50"),
        (b"abc", "abc"),
        (b"\xff\xfe", "//4="),
        ({1: [b"a", (None, True)]}, {"1": ["a", [None, True]]}),
    ],
)
def test_values_of_tables_as_json(value: Any, as_json: Any) -> None:
    assert Plain().value(value) == as_json


def test_numbers_that_are_none_become_null_and_are_counted() -> None:
    plain = Plain()
    assert plain.value([math.nan, {"a": math.inf}, 1.5]) == [None, {"a": None}, 1.5]
    assert plain.nulls == 2
