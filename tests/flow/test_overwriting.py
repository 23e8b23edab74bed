"""An export replaces an earlier export, and no file whose prompts exist nowhere else."""

import gzip
import json
from pathlib import Path

import pytest
from processes import run, write_prompts

import runner
from runner.errors import UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a finished run whose rows have a field named as a prompt is, and with prompts that were never sent."""
    lines = [{"id": f"r{number}", "messages": [{"role": "user", "content": f"p{number}"}], "prompt": None} for number in range(3)]
    (tmp_path / "ran.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run("run", "ran.jsonl", "--provider", "simulator", "-q", cwd=tmp_path).code == 0
    write_prompts(tmp_path / "fresh.jsonl", range(3))
    (tmp_path / "chats.jsonl").write_text('\n{broken\n{"messages": [{"role": "user", "content": "x"}]}\n')
    (tmp_path / "packed.jsonl.gz").write_bytes(gzip.compress((tmp_path / "fresh.jsonl").read_bytes()))
    (tmp_path / "link.jsonl").symlink_to("fresh.jsonl")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("moved.jsonl", ("moved.jsonl",)),
        ("moved.jsonl", ("-o", "moved.jsonl")),
        ("fresh.jsonl", ("fresh.jsonl",)),
        ("fresh.jsonl", ("1", "fresh.jsonl")),
        ("fresh.jsonl", ("-o", "fresh.jsonl", "--format", "csv")),
        ("fresh.jsonl", ("-o", "link.jsonl")),
        ("chats.jsonl", ("-o", "chats.jsonl")),
        ("packed.jsonl.gz", ("-o", "packed.jsonl.gz", "--format", "jsonl")),
    ],
)
def test_a_file_with_prompts_is_not_overwritten(folder: Path, name: str, arguments: tuple[str, ...]) -> None:
    (folder / "ran.jsonl").rename(folder / "moved.jsonl")
    before = (folder / name).read_bytes()
    ended = run("export", *arguments, cwd=folder)
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert "holds prompts" in ended.err
    assert (folder / name).read_bytes() == before


def test_python_does_not_overwrite_it_either(folder: Path) -> None:
    before = (folder / "fresh.jsonl").read_bytes()
    with pytest.raises(UsageError, match="holds prompts"):
        runner.export(folder / "fresh.jsonl", db=folder / "runner.db")
    assert (folder / "fresh.jsonl").read_bytes() == before


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
def test_an_earlier_export_is_replaced(folder: Path, name: str) -> None:
    first = run("export", name, cwd=folder)
    assert (first.code, first.out) == (0, f"run 1: 3 of 3 rows written to {name}\n")
    assert (run("run", "fresh.jsonl", "--provider", "simulator", "-q", cwd=folder)).code == 0
    assert run("export", name, cwd=folder).out == f"run 2: 3 of 3 rows written to {name}\n"


def test_an_export_with_prompts_in_it_is_replaced(folder: Path) -> None:
    # the rows of an export may be prompts again, whose own fields are then exported
    assert run("export", "-o", "out.jsonl", cwd=folder).code == 0
    lines = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    (folder / "out.jsonl").write_text("".join(json.dumps({**line, "prompt": "asked before"}) + "\n" for line in lines))
    assert run("export", "out.jsonl", cwd=folder).code == 0
