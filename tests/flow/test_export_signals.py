"""An export that a signal ends: quiet, with the code of the signal, and without a trace in the folder."""

import json
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from processes import Simulated, assert_clean, at, run, runner, write_prompts

MANY = 150_000


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory, server: Simulated) -> Path:
    """A store with so many rows that its export takes a while."""
    folder = tmp_path_factory.mktemp("large")
    write_prompts(folder / "prompts.jsonl", range(2))
    assert run(*at(server), cwd=folder).code == 0
    with closing(sqlite3.connect(folder / "runner.db", isolation_level=None)) as connection:
        connection.execute(
            "INSERT INTO items (run_id, key, position, status, fingerprint, attempts, finish_reason, text)"
            " WITH RECURSIVE n(i) AS (SELECT 3 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
            " SELECT 1, 'more-' || i, i, 'done', i, 1, 'stop', 'text' FROM n",
            (MANY,),
        )
    return folder


@pytest.mark.parametrize(("kind", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)])
def test_x1_x2_a_signal_during_an_export_leaves_nothing(large: Path, tmp_path: Path, kind: signal.Signals, code: int) -> None:
    with runner("export", "1", "-o", str(tmp_path / "answers.jsonl"), cwd=large) as process:
        process.until(lambda: any(path.stat().st_size for path in tmp_path.iterdir()), "the first rows of the export")
        process.signal(kind)
        ended = process.ended()
    assert_clean(ended)
    # click ends the line on which the terminal shows ^C
    assert (ended.code, ended.out, ended.err.strip()) == (code, "", "")
    assert list(tmp_path.iterdir()) == []


def test_x1_an_export_that_was_ended_can_be_done_again(large: Path, tmp_path: Path) -> None:
    assert run("export", "1", "-o", str(tmp_path / "answers.jsonl"), cwd=large).code == 0
    with (tmp_path / "answers.jsonl").open() as file:
        assert sum(json.loads(line)["status"] == "done" for line in file) == MANY


@pytest.mark.parametrize("kind", ["parquet", "xlsx", "sqlite"])
def test_a_killed_export_leaves_the_old_file(large: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / f"answers.{kind}").write_text("old")
    with runner("export", "1", "-o", str(tmp_path / f"answers.{kind}"), cwd=large) as process:
        process.until(
            lambda: any(_size(path) for path in tmp_path.rglob("*") if path.name != f"answers.{kind}"), "the first rows"
        )
        process.signal(signal.SIGKILL)
        process.ended()
    assert (tmp_path / f"answers.{kind}").read_text() == "old"


@pytest.mark.parametrize("kind", ["xlsx", "sqlite"])
def test_x1_ctrl_c_leaves_nothing_of_what_a_format_keeps_on_the_disk(large: Path, tmp_path: Path, kind: str) -> None:
    with runner("export", "1", "-o", str(tmp_path / f"answers.{kind}"), cwd=large) as process:
        process.until(lambda: any(map(_size, tmp_path.rglob("*"))), "the first rows of the export")
        process.signal(signal.SIGINT)
        ended = process.ended()
    assert (ended.code, ended.out, ended.err.strip()) == (130, "", "")
    assert list(tmp_path.iterdir()) == []


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except FileNotFoundError:
        return 0
