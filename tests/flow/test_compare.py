"""``runner compare``: two runs side by side, in a terminal, as JSON, as a table of pairs, and from Python."""

import csv
import json
from collections.abc import Iterator
from itertools import count as counting
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow.parquet as pq
import pytest
from processes import assert_clean, rows, run
from raw_server import RawServer, Received, Reply, in_thread, openai_answer, whole

import runner
from runner.errors import UsageError

REFUSED = whole("400 Bad Request", {"error": {"message": "too odd", "type": "invalid_request_error"}})
TEXTS = {
    "one": {"a": "yes", "b": "no ", "c": "yes", "d": "no"},
    "other": {"a": "yes\n", "b": "yes", "c": None, "e": "no"},
}
JUDGED = {
    "one": {"a": ("good", 1), "b": ("good", 2), "c": ("bad", 3), "d": ("bad", 4)},
    "other": {"a": ("good", 1), "b": ("bad", 2), "c": ("bad", 3), "d": ("bad", 5)},
}
FIELDS = "mood: good|bad, score: int, why: str"
PRICES = {"one": {"input": 1, "output": 1}, "other": {"input": 2, "output": 2}}


class Pairs:
    """A folder with a store, and a server that answers each prompt as its model does."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store, self.numbers = folder, folder / "runner.db", counting(1)

    def answer(self, request: Received) -> Reply:
        model, prompt = request.json["model"], request.json["messages"][0]["content"]
        if "response_format" in request.json:
            mood, score = JUDGED[model][prompt]
            # what is between the fields does not count
            space = " " if model == "one" else "\n"
            return openai_answer(f'{{"mood": "{mood}",{space}"score": {score}, "why": "by {model}"}}')
        text = TEXTS[model].get(prompt, f"{model} {next(self.numbers)}")
        return REFUSED if text is None else openai_answer(text)

    def run(self, server: RawServer, model: str, prompts: str, **settings: Any) -> None:
        path = self.folder / f"{prompts}.jsonl"
        path.write_text("".join(f'{{"id": "{prompt}", "prompt": "{prompt}", "topic": "sky"}}\n' for prompt in prompts))
        runner.run(path, db=self.store, model=model, base_url=server.base_url, prices=PRICES, **settings)

    def json(self, *words: str) -> dict[str, Any]:
        ended = run("compare", *words, "--json", cwd=self.folder)
        assert_clean(ended)
        found: dict[str, Any] = json.loads(ended.out)
        return found


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pairs]:
    """Runs 1 and 2 have texts, 3 and 4 fields, 5 and 6 several answers."""
    pairs = Pairs(tmp_path_factory.mktemp("pairs"))
    with in_thread(RawServer(pairs.answer)) as server:
        pairs.run(server, "one", "abcd")
        pairs.run(server, "other", "abce", attempts=1)
        for model in ("one", "other"):
            pairs.run(server, model, "abcd", fields=FIELDS)
        for model in ("one", "other"):
            pairs.run(server, model, "xy", answers=3, reuse=False)
        # it wants fewer, and has bought three of each row
        pairs.run(server, "other", "xy", answers=2)
    return pairs


def test_texts_are_the_same_without_their_white_space(pairs: Pairs) -> None:
    found = pairs.json("1", "2")
    assert {name: found[name] for name in ("rows", "same", "changed", "only_left", "only_right", "agreement")} == {
        "rows": 3,
        "same": 1,
        "changed": 1,
        "only_left": 1,
        "only_right": 1,
        "agreement": 0.5,
    }
    assert found["outcomes"] == {"done_done": 2, "done_failed": 1, "failed_done": 0, "failed_failed": 0}
    # four answers of 7 and 3 tokens at a dollar for a million, three of them at two dollars
    assert found["tokens"] == [40, 30]
    assert found["cost"] == pytest.approx([40e-6, 60e-6])
    assert all(seconds > 0 for seconds in (*found["seconds"], *found["median_seconds"]))
    assert found["settings"] == {"model": ["one", "other"]}
    assert found["examples"] == [{"id": "b", "answer_number": 1, "left": "no ", "right": "yes", "fields": []}]
    assert (found["fields"], found["other_fields"]) == ({}, 0)


def test_a_person_reads_the_same(pairs: Pairs) -> None:
    ended = run("compare", "abcd.jsonl", "2", cwd=pairs.folder)
    # the newest run over that file is the one with fields
    assert ended.out.startswith("run 4 and run 2: 3 rows in both\n")
    said = run("compare", "1", "2", cwd=pairs.folder)
    assert_clean(said)
    lines = said.out.splitlines()
    assert lines[:5] == [
        "run 1 and run 2: 3 rows in both",
        "  same          1 (50.0 %)",
        "  changed       1",
        "  not compared  1 done in run 1, failed in run 2",
        "  in one only   1 in run 1, 1 in run 2",
    ]
    assert "cost, tokens and time are those of the whole runs" in lines
    assert [line.split() for line in lines[-3:]] == [["b"], ["1", "no"], ["2", "yes"]]


def test_fields_are_compared_one_by_one(pairs: Pairs) -> None:
    found = pairs.json("3", "4")
    assert (found["same"], found["changed"]) == (0, 4)
    # 3 of 4 are the same; by chance 1/2 * 1/4 + 1/2 * 3/4 = 1/2 would be
    assert found["fields"]["mood"] == {"same": 3, "changed": 1, "agreement": 0.75, "kappa": 0.5}
    assert found["fields"]["score"] == {"same": 3, "changed": 1, "agreement": 0.75, "kappa": None}
    assert found["examples"][1]["fields"] == ["mood", "why"]
    found = pairs.json("3", "4", "--on", "mood, score")
    assert (found["same"], found["changed"], list(found["fields"])) == (2, 2, ["mood", "score"])


def test_pairs_are_a_table(pairs: Pairs) -> None:
    files = [pairs.folder / f"pairs.{ending}" for ending in ("csv", "parquet", "xlsx")]
    for file in files:
        assert runner.compare(3, 4, db=pairs.store, on=["mood", "score"], output=file).rows == 4
    with files[0].open(newline="") as file:
        table = list(csv.DictReader(file))
    assert list(table[0])[:4] == ["id", "topic", "answer_number", "left_status"]
    assert [(row["id"], row["same"], row["left_mood"], row["right_mood"], row["right_score"]) for row in table] == [
        ("a", "true", "good", "good", "1"),
        ("b", "false", "good", "bad", "2"),
        ("c", "true", "bad", "bad", "3"),
        ("d", "false", "bad", "bad", "5"),
    ]
    read = pq.read_table(files[1])
    types = {name: str(read.schema.field(name).type) for name in ("id", "same", "left_mood", "left_score")}
    assert types == {"id": "string", "same": "bool", "left_mood": "string", "left_score": "int64"}
    sheet = openpyxl.load_workbook(files[2]).active
    assert sheet is not None
    assert sheet.max_row == 5
    ended = run("compare", "1", "2", "-o", "-", "--format", "jsonl", cwd=pairs.folder)
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert [(line["id"], line["same"], line["right_error_code"]) for line in lines] == [
        ("a", True, None),
        ("b", False, None),
        ("c", None, "bad_request"),
    ]
    assert "3 pairs written to -" in ended.err


def test_answers_are_matched_by_their_numbers(pairs: Pairs) -> None:
    found = runner.compare(5, 6, db=pairs.store)
    assert (found.rows, found.changed, found.only_left, found.only_right, found.answers) == (4, 4, 2, 0, (3, 2))
    assert {(change.id, change.answer_number) for change in found.examples} == {("x", 1), ("x", 2), ("y", 1), ("y", 2)}
    assert rows(pairs.store, "SELECT count(*) FROM items WHERE run_id = 6") == [(6,)]
    back = runner.compare(6, 5, db=pairs.store)
    assert (back.rows, back.only_left, back.only_right, back.answers) == (4, 0, 2, (2, 3))
    page = pairs.folder / "page.html"
    runner.report(page, run_ids=[5, 6], db=pairs.store)
    assert "4 answers in common, 4 answered by both; 0 of these answers are the same." in page.read_text()


def test_runs_without_a_row_in_common(pairs: Pairs) -> None:
    found = runner.compare(1, 6, db=pairs.store)
    assert (found.rows, found.agreement, found.kappa, found.only_left, found.only_right) == (0, None, None, 4, 4)
    assert "no row is in both: rows are matched by their ids" in run("compare", "1", "6", cwd=pairs.folder).out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("1", "1"), "both are run 1; name two runs"),
        (("1",), "name two runs, by their numbers, their names or their prompt files"),
        (("1", "9"), "there is no run 9"),
        (
            ("3", "4", "--on", "model"),
            "'model' is no field of the answers of run 3 and run 4; the fields of both: mood",
        ),
        (("1", "2", "--on", "mood"), "they have none in common"),
        (("1", "2", "-o", "x.jsonl", "--format", "messages"), "messages holds the answers of one run"),
        (("1", "2", "-o", "x.docx"), "cannot tell the format of x.docx"),
        (("1", "2", "-o", "runner.db", "--format", "sqlite"), "runner.db"),
        (("1", "2", "--format", "csv"), "--format is that of --output"),
        (("1", "2", "-o", "-", "--json"), "name a file for one of them"),
    ],
)
def test_what_cannot_be_compared_is_refused(pairs: Pairs, words: tuple[str, ...], said: str) -> None:
    before = pairs.store.read_bytes()
    ended = run("compare", *words, cwd=pairs.folder)
    # with --json an error is a line of JSON too
    assert (ended.code, bool(ended.out), ended.err.count("\n")) == (2, "--json" in words, 1), ended
    assert said in ended.err
    assert pairs.store.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [({"left": "1"}, "run_id must be the number"), ({"left": None}, "name both runs"), ({"on": 3}, "on must be a list of names")],
)
def test_what_a_program_gives_wrong_is_refused(pairs: Pairs, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        runner.compare(**{"left": 1, "right": 2, "db": pairs.store, **arguments})
