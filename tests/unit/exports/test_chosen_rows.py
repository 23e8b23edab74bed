"""Which rows and columns an export has, and in which order; several files of one state."""

import json
from pathlib import Path
from typing import Any

import pytest
from filling import OURS, broken, done, failed, filled, read_csv, read_jsonl
from msgspec import structs

import runner
from runner.errors import UsageError
from runner.model import Completion, Outcome
from runner.remedies import ADVICE
from runner.session.only import GROUPS


def ended(outcome: Outcome, reason: str, *notes: str, text: str = "yes") -> Outcome:
    return structs.replace(outcome, completion=Completion(text=text, finish_reason=reason, notes=notes))


def coded(key: str, position: int, code: str, at: float = 1.0) -> Outcome:
    outcome = failed(key, position)
    assert outcome.attempt is not None
    return structs.replace(outcome, error_code=code, attempt=structs.replace(outcome.attempt, error_code=code, started_at=at))


def later(outcome: Outcome, at: float) -> Outcome:
    assert outcome.attempt is not None
    return structs.replace(outcome, attempt=structs.replace(outcome.attempt, started_at=at))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(
        tmp_path_factory.mktemp("store") / "runner.db",
        later(done("good", 1, metadata={"lang": "en"}), 50),
        ended(done("cut", 2), "MAX_TOKENS"),
        ended(done("filtered", 3), "refusal"),
        ended(done("nothing", 4), "stop", "tail_lost", "empty", text=""),
        coded("slow", 5, "timeout_silence"),
        coded("slower", 6, "timeout_attempt", at=0.5),
        coded("reset", 7, "cut", at=90),
        coded("theirs", 8, "finish_odd's"),
        broken("row-c", 9),
    )


def ids(store: Path, tmp_path: Path, **flags: Any) -> list[str]:
    count = runner.export(tmp_path / "a.jsonl", db=store, **flags)
    found = [row["id"] for row in read_jsonl(tmp_path / "a.jsonl")]
    assert count == len(found)
    return found


DONE, FAILED = ["good", "cut", "filtered", "nothing"], ["slow", "slower", "reset", "theirs", "row-c"]


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        (None, DONE + FAILED),
        ("done", DONE),
        ("failed", FAILED),
        ("done,failed", DONE + FAILED),
        ("length", ["cut"]),
        ("content-filter", ["filtered"]),
        ("empty", ["nothing"]),
        ("whole", ["good"]),
        (["Whole", "length"], ["good", "cut"]),
        ("timeout", ["slow", "slower"]),
        ("timeout_silence", ["slow"]),
        ("network , bad_row", ["reset", "row-c"]),
        ("finish_odd's", ["theirs"]),
        ("length,timeout", ["cut", "slow", "slower"]),
        ("dns", []),
        ("policy", []),
    ],
)
def test_only_the_rows_that_are_named(store: Path, tmp_path: Path, only: Any, expected: list[str]) -> None:
    assert ids(store, tmp_path, only=only) == expected


def test_the_batch_format_has_the_same_rows(store: Path, tmp_path: Path) -> None:
    assert runner.export(tmp_path / "a.jsonl", db=store, format="openai-batch", only="length,failed", order="finished") == 6
    names = [row["custom_id"] for row in read_jsonl(tmp_path / "a.jsonl")]
    assert names == ["slower", "slow", "theirs", "cut", "reset", "row-c"]


def test_every_code_of_a_group_exists() -> None:
    assert set().union(*GROUPS.values()) <= ADVICE.keys()
    assert len(GROUPS["timeout"]) == 4


def test_the_order_in_which_rows_were_finished(store: Path, tmp_path: Path) -> None:
    last = ["good", "reset", "row-c"]
    assert ids(store, tmp_path, order="finished")[-3:] == last
    assert ids(store, tmp_path, order="finished", only="failed") == ["slower", "slow", "theirs", "reset", "row-c"]
    assert ids(store, tmp_path, order="input") == DONE + FAILED


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            {"only": "failde"},
            r"--only knows no 'failde' \(did you mean 'failed'\?\); it takes error codes, and done, failed, whole",
        ),
        ({"only": ["done", "*"]}, "--only knows no"),
        ({"order": "random"}, "the order is input or finished, not 'random'"),
        ({"columns": "id,txt"}, r"the export has no column 'txt' \(did you mean 'text'\?\); its columns: id, lang, prompt"),
        ({"columns": ["id", "text", "id"]}, "--columns names 'id' twice"),
        ({"only": 7}, "only must be a list of names, or a text with commas between them, not 7"),
        ({"columns": [1]}, "columns must be a list of names"),
        ({"manifest": "yes"}, "manifest must be True or False"),
        ({"format": "openai-batch", "columns": "id"}, "--columns means nothing for openai-batch; leave it out"),
        ({"format": "messages", "prefix_fields": True}, "--prefix-fields means nothing for messages; leave it out"),
        ({"format": "messages", "prompt": False}, "messages is made of what each row asked; leave --no-prompt out"),
        ({"csv_excel": True}, "--csv-excel means nothing for jsonl"),
    ],
)
def test_what_means_nothing_is_one_sentence(store: Path, tmp_path: Path, flags: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        runner.export(tmp_path / "a.jsonl", db=store, **flags)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "sqlite", "xlsx"])
def test_columns_in_the_order_in_which_they_are_named(store: Path, tmp_path: Path, kind: str) -> None:
    import pandas as pd

    names = ["attempts", "lang", "id", "cost"]
    assert runner.export(tmp_path / f"a.{kind}", db=store, columns=",".join(names), only="done") == 4
    read = {
        "csv": pd.read_csv,
        "jsonl": lambda path: pd.read_json(path, lines=True),
        "parquet": pd.read_parquet,
        "sqlite": lambda path: pd.read_sql("SELECT * FROM answers", f"sqlite:///{path}"),
        "xlsx": lambda path: pd.read_excel(path, engine="calamine"),
    }[kind](tmp_path / f"a.{kind}")
    assert list(read.columns) == names
    assert (read["attempts"].tolist(), read["id"].tolist(), read["lang"].tolist()[0]) == ([2] * 4, DONE, "en")


def test_a_cell_of_a_chosen_column_is_escaped_as_before(tmp_path: Path) -> None:
    path = filled(tmp_path / "runner.db", done("=id", 1, text="=1", metadata={"f": "=2"}))
    runner.export(tmp_path / "a.csv", db=path, columns=["text", "f", "id"])
    assert (tmp_path / "a.csv").read_text() == '"text","f","id"\n"\'=1","=2","=id"\n'


def test_every_field_of_the_rows_with_a_prefix(tmp_path: Path) -> None:
    own = {"lang": "en", "text": 1, "input_lang": 2, "tokens": 3, "input_text": 4}
    path = filled(tmp_path / "runner.db", done("a", 1, metadata=own))
    runner.export(tmp_path / "a.jsonl", db=path, prefix_fields=True)
    (row,) = read_jsonl(tmp_path / "a.jsonl")
    names = ["input_lang", "input_text", "input_input_lang", "input_input_tokens", "input_input_text"]
    assert list(row) == ["id", *names, *OURS]
    assert [row[name] for name in names] == ["en", 1, 2, 3, 4]


# -- several files


def test_several_files_have_the_same_rows(store: Path, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.csv", "b.csv", "c.jsonl")]
    counts = runner.export(files, db=store, format=[None, None, "messages"], notes=(notes := []), only="done")
    assert counts == [4, 4, 0]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert len(read_csv(files[0])) == 4
    assert notes == [f"{files[2]}: 4 rows left out: the store does not have all that was asked (files, or keep_rows = false)"]


@pytest.mark.parametrize(
    ("names", "format_", "words"),
    [
        (["a.csv", "b.xyz"], None, r"cannot tell the format of .*b\.xyz"),
        (["a.csv", "./a.csv"], None, "is named twice"),
        (["a.csv", "no/b.csv"], None, "its folder does not exist"),
        (["a.csv", "b.csv"], ["csv"], "output must be a path or a list of paths, and format is then a list"),
        (["a.csv", "b.csv"], "csv", "output must be a path or a list of paths, and format is then a list"),
        ([], None, "output must be a path or a list of paths"),
        (["-", "-"], ["csv", "csv"], "- is named twice"),
    ],
)
def test_nothing_is_written_if_one_of_several_cannot_be(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str], format_: Any, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=words):
        runner.export(names, db=store, format=format_)
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_is_not_replaced_by_the_other_export(store: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is named twice"):
        runner.export([tmp_path / "a.csv", tmp_path / "a.csv.manifest.json"], db=store, format=[None, "jsonl"], manifest=True)
    for output in ("-", "/dev/null"):
        with pytest.raises(UsageError, match="--manifest writes a file beside the export"):
            runner.export(output, db=store, format="csv", manifest=True)
    runner.export(tmp_path / "a.csv", db=store, manifest=True)
    assert json.loads((tmp_path / "a.csv.manifest.json").read_text())["export"]["rows"] == 9
