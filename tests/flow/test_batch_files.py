"""Files that look like those of a batch API: read as what they are, and never replaced unless they are our own."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import Ended, run
from raw_server import RawServer, Received, Reply, in_thread, openai_answer

import runner
from runner.errors import UsageError

SYSTEM_TEXT = ("--system", "Be brief.")
OWN = [{"custom_id": str(number), "text": f"t{number}", "result": {"stars": 5}} for number in range(2)]
RESULT = {"id": "b", "custom_id": "1", "response": {"status_code": 200, "body": {"choices": [{"message": {"content": "x"}}]}}}
EXPIRED = {"id": "c", "custom_id": "2", "response": None, "error": {"code": "batch_expired", "message": "late"}}
CLAUDE = {"custom_id": "3", "result": {"type": "succeeded", "message": {"content": [{"type": "text", "text": "x"}]}}}


class Folder:
    """A folder, and a server that echoes."""

    def __init__(self, path: Path, server: RawServer) -> None:
        self.path, self.server = path, server

    @property
    def store(self) -> Path:
        return self.path / "runner.db"

    def buy(self) -> None:
        """Run a file of one prompt in this process."""
        path = self.put("in.jsonl", [{"id": "a", "prompt": "one"}])
        assert runner.run(path, db=self.store, model="m", base_url=self.server.base_url).done == 1

    def put(self, name: str, lines: list[object]) -> Path:
        path = self.path / name
        text = "".join(f"{json.dumps(line)}\n" for line in lines)
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    def run(self, *words: str) -> Ended:
        given = ("--model", "m", "--base-url", self.server.base_url) if words[0] == "run" else ()
        return run(*words, *given, cwd=self.path)

    def refused(self, *words: str) -> str:
        ended = self.run(*words)
        assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1), ended
        return ended.err


def echo(request: Received) -> Reply:
    return openai_answer(f"echo {request.json['messages'][-1]['content']}")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    with in_thread(RawServer(echo)) as server:
        yield Folder(tmp_path, server)


@pytest.mark.parametrize("first", [{"id": "z", "prompt": ""}, {"id": "z", "text": "no prompt"}], ids=["empty", "none"])
def test_our_export_is_an_input_also_if_its_first_row_was_broken(folder: Folder, first: dict[str, str]) -> None:
    folder.put("in.jsonl", [first, {"id": "a", "prompt": "one"}])
    assert folder.run("run", "in.jsonl", *SYSTEM_TEXT, "-q").code == 1
    assert folder.run("export", "-o", "out.jsonl", "--format", "openai-batch", "-q").code == 0
    # and nothing is bought again
    ended = folder.run("run", "out.jsonl", "--json")
    assert (ended.code, len(folder.server.requests)) == (1, 1)
    assert [(row.id, row.status) for row in runner.results(db=folder.store)] == [("z", "failed"), ("a", "done")]
    # where no line has a request there is nothing to ask
    assert folder.run("export", "-o", "bare.jsonl", "--format", "openai-batch", "--no-prompt", "-q").code == 0
    assert "without their requests" in folder.refused("run", "bare.jsonl")


@pytest.mark.parametrize("more", [(), ("--input-format", "jsonl")], ids=["looked at", "named"])
@pytest.mark.parametrize("packed", ["", ".gz"])
def test_rows_with_a_column_custom_id_are_rows(folder: Folder, more: tuple[str, ...], packed: str) -> None:
    name = folder.put(f"own.jsonl{packed}", [*OWN]).name
    assert folder.run("run", name, "--prompt", "{{ text }}", "--id-column", "custom_id", *more, "-q").code == 0
    results = list(runner.results(db=folder.store))
    assert [(row.id, row.text, row.metadata["result"]) for row in results] == [
        (line["custom_id"], f"echo {line['text']}", {"stars": 5}) for line in OWN
    ]


def test_lines_of_a_batch_are_rows_for_whoever_says_so(folder: Folder) -> None:
    folder.put("batch.jsonl", [{"custom_id": "1", "body": {"model": "m", "messages": []}}, RESULT])
    words = ("run", "batch.jsonl", "--input-format", "jsonl", "--prompt", "{{ custom_id }} {{ body is defined }}", "-q")
    assert folder.run(*words).code == 0
    assert sorted(str(row.text) for row in runner.results(db=folder.store)) == ["echo 1 false", "echo 1 true"]


def test_without_a_template_the_way_out_is_named(folder: Folder) -> None:
    folder.put("own.jsonl", [*OWN])
    said = folder.refused("run", "own.jsonl")
    assert "neither request nor result" in said
    assert "use --input-format jsonl" in said


@pytest.mark.parametrize("lines", [[RESULT], [EXPIRED, RESULT], [CLAUDE], ["broken", RESULT]], ids=str)
def test_results_of_others_are_not_replaced(folder: Folder, lines: list[object]) -> None:
    folder.buy()
    path = folder.put("dl.csv", lines)
    before = path.read_bytes()
    with pytest.raises(UsageError, match="holds the results of a batch, which the export would replace"):
        runner.export(path, db=folder.store)
    assert path.read_bytes() == before
    # our own are
    for _ in range(2):
        assert runner.export(folder.path / "ours.jsonl", db=folder.store, format="openai-batch") == 1


def test_nor_by_a_command(folder: Folder) -> None:
    folder.buy()
    before = folder.put("dl.jsonl", [RESULT]).read_bytes()
    for words in (("export",), ("run", "in.jsonl", "--new")):
        assert "dl.jsonl holds the results of a batch, which" in folder.refused(*words, "-o", "dl.jsonl")
    assert ((folder.path / "dl.jsonl").read_bytes(), len(folder.server.requests)) == (before, 1)


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("x.jsonl.gz", {"format": "openai-batch"}, r"x\.jsonl\.gz would not be compressed, as its ending says; name it \.jsonl"),
        ("x.csv.bz2", {"format": "csv"}, r"name it \.csv, and pack it afterwards"),
        ("x.csv", {"format": "openai-batch"}, r"would hold openai-batch, and not csv, as its ending says; name it \.jsonl"),
        ("x.xlsx", {"format": "csv"}, r"x\.xlsx would hold csv, and not xlsx"),
        ("x.ndjson", {"format": "csv"}, r"x\.ndjson would hold csv, and not jsonl"),
        ("x.jsonl", {"csv_excel": True}, "--csv-excel means nothing for jsonl; leave it out"),
        ("x.jsonl", {"csv_escape": True}, "--csv-escape means nothing for jsonl"),
        ("x.txt", {"csv_excel": True, "format": "openai-batch"}, "--csv-excel means nothing for openai-batch"),
    ],
)
def test_names_and_options_that_mean_nothing_are_refused(folder: Folder, name: str, given: dict[str, Any], said: str) -> None:
    folder.buy()
    with pytest.raises(UsageError, match=said):
        runner.export(folder.path / name, db=folder.store, **given)
    assert not (folder.path / name).exists()
    for other in ("x.ndjson", "x.results", "x.txt"):
        assert runner.export(folder.path / other, db=folder.store, format="openai-batch") == 1
