"""Files whose rows lie in another shape: messages of a chat, one object around all rows, columns."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from runner.errors import UsageError
from runner.inputs import json_rows
from runner.inputs.formats import json as json_format
from runner.inputs.options import ReadOptions
from runner.origin import joined
from runner.session import survey
from runner.session.opening import open_input

ROWS = [{"id": number, "text": f"text {number}"} for number in range(3)]
TABLE = pd.DataFrame(ROWS)
CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "Why?"}]}]
TEMPLATE = ReadOptions(asked=frozenset({"text"}))
PANDAS = 'holds columns in place of rows; pandas writes rows with df.to_json("rows.jsonl", orient="records", lines=True)'


def refusal(path: Path, options: ReadOptions | None = None) -> str:
    with pytest.raises(UsageError) as refused:
        open_input(path, options)
    return str(refused.value)


def written(folder: Path, value: Any, name: str = "a.json", **form: Any) -> Path:
    path = folder / name
    path.write_text(json.dumps(value, **form))
    return path


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.csv", "a.parquet"])
def test_messages_of_a_chat_are_no_rows(tmp_path: Path, name: str) -> None:
    path, table = tmp_path / name, pd.DataFrame(CHAT[:1] * 2)
    if name == "a.json":
        path.write_text(json.dumps(CHAT))
    elif name == "a.jsonl":
        path.write_text("".join(json.dumps(one) + "\n" for one in CHAT))
    else:
        (table.to_csv if name == "a.csv" else table.to_parquet)(path)
    other = tmp_path / f"b{path.suffix}"
    other.write_bytes(path.read_bytes())
    for source in (path, joined([path, other])):
        said = refusal(source)
        assert said.startswith(f"{name} has a message of a chat in each row (role, content)"), said
        assert 'a chat is one row, {"messages": [{"role": "user", "content": "..."}, ...]}' in said
    # what the sentence names does what it says
    assert len(list(open_input(path, ReadOptions(asked=frozenset({"content"}))).read())) == 2


def test_a_message_among_rows_is_a_broken_row(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in (*CHAT, {"prompt": "Why?"})))
    assert len(list(open_input(path).read())) == 3


@pytest.mark.parametrize(
    ("value", "form", "where"),
    [
        ({"data": ROWS}, {}, ".data"),
        ({"count": 3, "data": ROWS}, {"indent": 1}, ".data"),
        ({"result": {"my items": ROWS}, "links": []}, {}, '.result.["my items"]'),
        (json.loads(TABLE.to_json(orient="table")), {}, ".data"),
    ],
)
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_rows_inside_of_one_object(tmp_path: Path, name: str, value: Any, form: dict[str, Any], where: str) -> None:
    path = written(tmp_path, value, name, **form)
    told = f"{name} is one JSON object, and its rows are in {where}: `jq -c '{where}[]'` makes JSON lines of them"
    assert refusal(path) == refusal(path, TEMPLATE) == told
    with pytest.raises(UsageError, match="is one JSON object, and its rows are in"):
        survey.survey(path, ReadOptions())


def test_prompts_inside_of_one_object(tmp_path: Path) -> None:
    path = written(tmp_path, {"data": ["Why?", "How?"]})
    assert refusal(path) == "a.json is one JSON object, and its prompts are in .data: `jq .data` takes that list out"


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_an_empty_object_is_a_row_without_fields(tmp_path: Path, name: str) -> None:
    (row,) = open_input(written(tmp_path, {}, name)).read()
    assert (row.fields, row.fault) == ({}, None)


def test_an_object_that_is_cut_off_is_a_broken_row(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"data": [{"text": "a"},')
    (row,) = open_input(path).read()
    assert row.fault is not None


@pytest.mark.parametrize("form", ["columns", "index", "split", "list"])
def test_columns_in_place_of_rows(tmp_path: Path, form: str) -> None:
    value = TABLE.to_dict(orient="list") if form == "list" else json.loads(TABLE.to_json(orient=form))
    assert refusal(written(tmp_path, value)) == f"a.json {PANDAS}"
    assert refusal(written(tmp_path, value, indent=1)) == f"a.json {PANDAS}"


def test_the_cells_of_a_column_do_not_go_into_one_request(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(TABLE[["text"]].to_json())
    assert refusal(path, TEMPLATE) == f"a.json {PANDAS}"


@pytest.mark.parametrize(
    ("value", "asked"),
    [
        ({"prompt": "Why?", "data": ROWS}, None),
        ({"messages": CHAT}, None),
        ({"data": ROWS}, {"data"}),
        ({"data": ROWS}, {"row"}),
        ({"a": {"x": 1}, "b": {"x": 2}}, {"a"}),
        ({"texts": ["a", "b"], "notes": ["c", "d"]}, {"texts"}),
    ],
)
def test_one_row_that_has_what_is_asked_for_is_a_row(tmp_path: Path, value: Any, asked: set[str] | None) -> None:
    options = ReadOptions(asked=frozenset(asked) if asked is not None else None)
    assert len(list(open_input(written(tmp_path, value), options).read())) == 1


@pytest.mark.parametrize(
    ("value", "told"), [({"data": ROWS}, "its rows are in .data"), (json.loads(TABLE.to_json()), "holds columns")]
)
@pytest.mark.parametrize("indent", [None, 1])
def test_one_object_that_is_too_long_for_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: dict[str, Any], told: str, indent: int | None
) -> None:
    for module in (json_rows, json_format):
        monkeypatch.setattr(module, "ROW_BYTES", 1 << 20)
    path = written(tmp_path, {**value, "more": ["x" * 1000] * 3000}, indent=indent)
    assert told in refusal(path)
