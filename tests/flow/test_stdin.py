"""Prompts that are piped in are kept beside the store, so that they can be gone on with."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import runner
from runner.reader import StoreReader

ROWS = "".join(json.dumps({"id": f"r{n}", "prompt": f"number {n}"}) + "\n" for n in range(5))
JOB = ("--provider", "simulator", "--model", "m", "-q")


def command(folder: Path, *arguments: str, given: bytes = b"") -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [sys.executable, "-m", "runner", *arguments], cwd=folder, input=given, capture_output=True, timeout=60, check=False
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def kept(folder: Path) -> list[Path]:
    return sorted(folder.glob("runner.db-stdin-*"))


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_the_same_command_goes_on(tmp_path: Path, packed: bool) -> None:
    given = gzip.compress(ROWS.encode(), mtime=0) if packed else ROWS.encode()
    first = command(tmp_path, "run", "-", *JOB, "--limit", "2", given=given)
    assert (first.returncode, first.stderr) == (0, "")
    (path,) = kept(tmp_path)
    assert path.read_bytes() == given
    assert path.stat().st_mode & 0o777 == 0o600
    assert command(tmp_path, "run", "-", *JOB, given=given).returncode == 0
    assert kept(tmp_path) == [path]
    with StoreReader(tmp_path / "runner.db") as reader:
        (run,) = reader.runs()
        assert (run.done, run.rows, run.input) == (5, 5, str(path))
        assert [one.attempts for one in reader.results(run.id)] == [1] * 5


def test_resume_needs_nothing_piped_in(tmp_path: Path) -> None:
    command(tmp_path, "run", "-", *JOB, "--limit", "2", given=ROWS.encode())
    assert command(tmp_path, "resume", "-q").returncode == 0
    assert len(list(runner.results(db=tmp_path / "runner.db"))) == 5


def test_other_prompts_are_another_run_and_take_no_place(tmp_path: Path) -> None:
    command(tmp_path, "run", "-", *JOB, "--limit", "2", given=ROWS.encode())
    said = command(tmp_path, "run", "-", *JOB[:-1], given=b'{"prompt":"other"}\n')
    assert "standard input is other than that of run 1, so this is a run of its own and all rows are sent" in said.stdout
    assert len(kept(tmp_path)) == 2
    with StoreReader(tmp_path / "runner.db") as reader:
        assert [(run.done, run.rows) for run in reader.runs()] == [(2, 5), (1, 1)]


def test_an_export_does_not_overwrite_what_was_kept(tmp_path: Path) -> None:
    command(tmp_path, "run", "-", *JOB, given=ROWS.encode())
    (path,) = kept(tmp_path)
    refused = command(tmp_path, "export", "-o", path.name)
    assert refused.returncode == 2
    assert "belongs to the store" in refused.stderr
    assert path.read_text() == ROWS


def test_check_reads_standard_input_and_leaves_nothing(tmp_path: Path) -> None:
    given = (ROWS + "{oops\n").encode()
    checked = command(tmp_path, "check", "-", "--provider", "simulator", "--json", given=given)
    assert checked.returncode == 1
    found = json.loads(checked.stdout)
    assert (found["rows"], found["broken_rows"], len(found["broken"])) == (6, 1, 1)
    assert list(tmp_path.iterdir()) == []


def test_show_config_reads_nothing(tmp_path: Path) -> None:
    shown = command(tmp_path, "run", "-", "--provider", "simulator", "--show-config", given=ROWS.encode())
    assert (shown.returncode, list(tmp_path.iterdir())) == (0, [])


def test_refused_in_one_sentence(tmp_path: Path) -> None:
    away = command(tmp_path, "run", "-", *JOB, "--db", "away/runner.db", given=ROWS.encode())
    assert away.returncode == 2
    assert away.stderr.startswith("runner: standard input cannot be kept in ")
    closed = subprocess.run(
        ["sh", "-c", 'exec "$0" -m runner run - --provider simulator <&-', sys.executable],
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert closed.returncode == 2
    assert b"there is no standard input" in closed.stderr
    assert list(tmp_path.iterdir()) == []


def test_gzip_that_is_cut_off_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl.gz").write_bytes(gzip.compress(ROWS.encode() * 2000)[:-200])
    refused = command(tmp_path, "run", "p.jsonl.gz", *JOB)
    assert refused.returncode == 2
    assert "cut off or damaged" in refused.stderr
    assert not (tmp_path / "runner.db").exists()


def test_a_packed_file_has_the_job_file_of_the_bare_one_and_its_format(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl.gz").write_bytes(gzip.compress(ROWS.encode()))
    (tmp_path / "p.toml").write_text('input = "p.jsonl.gz"\nprovider = "simulator"\nmodel = "m"\n')
    assert command(tmp_path, "run", "p.jsonl.gz", "-q").returncode == 0
    (tmp_path / "table.csv.gz").write_bytes(gzip.compress(b"id,prompt\n"))
    refused = command(tmp_path, "run", "table.csv.gz", *JOB)
    assert (refused.returncode, ".csv files cannot be read yet" in refused.stderr) == (2, True)


def test_a_pipe_by_name_is_refused_with_the_way_out(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    refused = command(tmp_path, "run", "pipe", *JOB)
    assert refused.returncode == 2
    assert "runner run -" in refused.stderr
