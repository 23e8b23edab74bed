"""JSON as far as it has come, at a cost that grows with the length of the answer and not with its square."""

import json
from typing import Any

import pytest

from runner.schema.partial import Partial, reader

pytestmark = pytest.mark.quick


class Counted:
    """Counts the bytes that are read."""

    def __init__(self) -> None:
        self.read, self.bytes, self.looks = reader("trailing-strings", "values"), 0, 0

    def __call__(self, data: bytes) -> Any:
        self.bytes += len(data)
        self.looks += 1
        return self.read(data)


def test_a_long_answer_is_read_a_bounded_number_of_times() -> None:
    counted, text = Counted(), json.dumps({"words": ["word"] * 5_000})
    partial, told = Partial(counted), list[Any]()
    for at in range(0, len(text), 4):
        value = partial.take(text[at : at + 4], at)
        told += [value] if value is not None else []
    assert counted.bytes < 60 * len(text)
    assert counted.looks < 400
    assert [len(value.get("words", [])) for value in told] == sorted(len(value.get("words", [])) for value in told)
    assert partial.last(text) == json.loads(text)
    assert partial.last(text) is None


def test_a_text_that_starts_over_and_one_with_a_gap() -> None:
    partial = Partial(reader("trailing-strings", "values"))
    assert partial.take('Sure: {"a": 1', 0) == {"a": 1}
    assert partial.take(', "b": 2}', 40) is None
    assert partial.take('{"c": "x', 0) == {"c": "x"}
    assert partial.take("yz", 8) == {"c": "xyz"}
    assert partial.take('"}', 10) is None
    assert partial.last("no JSON") is None
