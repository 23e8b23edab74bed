"""Prompts that are piped in are kept beside the store, so that they can be gone on with."""

import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from processes import HANG_S, Ended, environment, piped, said, until

import runner
from runner.store.reader import StoreReader

ROWS = "".join(json.dumps({"id": f"r{n}", "prompt": f"number {n}"}) + "\n" for n in range(5))
JOB = ("--provider", "simulator", "--model", "m", "-q")


def command(folder: Path, *arguments: str, given: bytes = b"") -> Ended:
    return piped(*arguments, given=given, cwd=folder)


def kept(folder: Path) -> list[Path]:
    return sorted(folder.glob("runner.db-stdin-*"))


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_the_same_command_goes_on(tmp_path: Path, packed: bool) -> None:
    given = gzip.compress(ROWS.encode(), mtime=0) if packed else ROWS.encode()
    first = command(tmp_path, "run", "-", *JOB, "--limit", "2", given=given)
    assert (first.code, said(first.err)) == (0, "")
    (path,) = kept(tmp_path)
    assert path.read_bytes() == given
    assert path.stat().st_mode & 0o777 == 0o600
    assert command(tmp_path, "run", "-", *JOB, given=given).code == 0
    assert kept(tmp_path) == [path]
    with StoreReader(tmp_path / "runner.db") as reader:
        (run,) = reader.runs()
        assert (run.done, run.rows, run.input) == (5, 5, str(path))
        assert [one.attempts for one in reader.results(run.id)] == [1] * 5


def test_resume_needs_nothing_piped_in(tmp_path: Path) -> None:
    command(tmp_path, "run", "-", *JOB, "--limit", "2", given=ROWS.encode())
    assert command(tmp_path, "resume", "-q").code == 0
    assert len(list(runner.results(db=tmp_path / "runner.db"))) == 5


def test_other_prompts_are_another_run_and_take_no_place(tmp_path: Path) -> None:
    command(tmp_path, "run", "-", *JOB, "--limit", "2", given=ROWS.encode())
    said = command(tmp_path, "run", "-", *JOB[:-1], given=b'{"prompt":"other"}\n')
    assert "standard input differs from that of run 1, so this starts a new run and all rows are sent" in said.out
    assert len(kept(tmp_path)) == 2
    with StoreReader(tmp_path / "runner.db") as reader:
        assert [(run.done, run.rows) for run in reader.runs()] == [(2, 5), (1, 1)]


def test_an_export_does_not_overwrite_what_was_kept(tmp_path: Path) -> None:
    command(tmp_path, "run", "-", *JOB, given=ROWS.encode())
    (path,) = kept(tmp_path)
    refused = command(tmp_path, "export", "-o", path.name)
    assert refused.code == 2
    assert "belongs to the store" in refused.err
    assert path.read_text() == ROWS


def test_check_reads_standard_input_and_leaves_nothing(tmp_path: Path) -> None:
    given = (ROWS + "{oops\n").encode()
    checked = command(tmp_path, "check", "-", "--provider", "simulator", "--json", given=given)
    assert checked.code == 1
    found = json.loads(checked.out)
    assert (found["rows"], found["broken_rows"], len(found["broken"])) == (6, 1, 1)
    assert list(tmp_path.iterdir()) == []


def test_show_config_reads_nothing(tmp_path: Path) -> None:
    shown = command(tmp_path, "run", "-", "--provider", "simulator", "--show-config", given=ROWS.encode())
    assert (shown.code, list(tmp_path.iterdir())) == (0, [])


def test_refused_in_one_sentence(tmp_path: Path) -> None:
    away = command(tmp_path, "run", "-", *JOB, "--db", "away/runner.db", given=ROWS.encode())
    assert away.code == 2
    assert away.err.startswith("runner: standard input cannot be saved in ")
    closed = subprocess.run(
        ["sh", "-c", 'exec "$0" -m runner run - --provider simulator <&-', sys.executable],
        cwd=tmp_path,
        capture_output=True,
        timeout=HANG_S,
        check=False,
    )
    assert closed.returncode == 2
    assert b"there is no standard input" in closed.stderr
    assert list(tmp_path.iterdir()) == []


def test_gzip_that_is_cut_off_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl.gz").write_bytes(gzip.compress(ROWS.encode() * 2000)[:-200])
    refused = command(tmp_path, "run", "p.jsonl.gz", *JOB)
    assert refused.code == 2
    assert "cut off or damaged" in refused.err
    assert not (tmp_path / "runner.db").exists()


def test_a_packed_file_has_the_job_file_of_the_bare_one_and_its_format(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl.gz").write_bytes(gzip.compress(ROWS.encode()))
    (tmp_path / "p.toml").write_text('input = "p.jsonl.gz"\nprovider = "simulator"\nmodel = "m"\n')
    assert command(tmp_path, "run", "p.jsonl.gz", "-q").code == 0
    (tmp_path / "table.csv.gz").write_bytes(gzip.compress(b"id,prompt\n1,x\n"))
    assert command(tmp_path, "run", "table.csv.gz", *JOB).code == 0
    (tmp_path / "table.csv.gz").write_bytes(gzip.compress(b"id,question\n1,x\n"))
    refused = command(tmp_path, "run", "table.csv.gz", *JOB)
    assert (refused.code, "table.csv.gz has no column prompt; its columns: id, question" in refused.err) == (2, True)


def test_what_is_refused_leaves_nothing_and_is_called_standard_input(tmp_path: Path) -> None:
    doubled, packed = ROWS + ROWS, gzip.compress(ROWS.encode() * 2000)[:-200]
    hosted = ("--model", "m", "--base-url", "https://api.openai.com/v1")
    refusals = [
        (hosted, ROWS.encode(), "OPENAI_API_KEY is not set"),
        (JOB, doubled.encode(), "standard input: 5 duplicate ids: "),
        (JOB, packed, "standard input is cut off or damaged"),
        (JOB, b"Why is the sky blue?\n", "standard input begins with 'Why is the sky blue?', which is neither JSON nor a table"),
        ((*JOB, "--strict"), b"{oops\n", "standard input: 1 broken row, and --strict was given: line 1: "),
    ]
    for options, given, why in refusals:
        refused = command(tmp_path, "run", "-", *options, given=given)
        assert (refused.code, refused.out) == (2, "")
        assert why in refused.err
        assert ("-stdin-" in refused.err, refused.err.count("\n")) == (False, 1)
        assert list(tmp_path.iterdir()) == []
    checked = command(tmp_path, "check", "-", *JOB[:-1], given=packed)
    assert (checked.code, "standard input is cut off or damaged" in checked.err) == (2, True)


def test_what_a_run_goes_on_with_stays_when_the_same_is_refused(tmp_path: Path) -> None:
    assert command(tmp_path, "run", "-", *JOB, "--limit", "2", given=ROWS.encode()).code == 0
    before = kept(tmp_path)
    refused = command(tmp_path, "run", "-", "--model", "m", "--base-url", "https://api.openai.com/v1", given=ROWS.encode())
    assert refused.code == 2
    assert kept(tmp_path) == before
    # nor does a refusal of other prompts leave anything, or take anything away
    assert command(tmp_path, "run", "-", *JOB, given=(ROWS + ROWS).encode()).code == 2
    assert kept(tmp_path) == before
    assert command(tmp_path, "run", "-", *JOB, given=ROWS.encode()).code == 0
    again = command(tmp_path, "run", "-", *JOB[:-1], given=ROWS.encode())
    assert "run 1 is finished and standard input has not changed" in again.out


def test_a_file_that_is_no_store_leaves_nothing_of_standard_input(tmp_path: Path) -> None:
    (tmp_path / "runner.db").write_text("no store\n" * 10)
    refused = command(tmp_path, "run", "-", *JOB, given=ROWS.encode())
    assert (refused.code, "is not a runner store" in refused.err) == (4, True)
    assert kept(tmp_path) == []


@contextmanager
def waiting(folder: Path) -> "Iterator[subprocess.Popen[bytes]]":
    """A run to which nothing is piped in for the moment; it has begun to keep it."""
    before = kept(folder)
    with subprocess.Popen(
        [sys.executable, "-m", "runner", "run", "-", *JOB],
        cwd=folder,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            until(lambda: set(kept(folder)) - set(before), "a file for standard input")
            yield process
        finally:
            if process.poll() is None:
                process.kill()


@pytest.mark.parametrize(("kind", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)])
def test_a_signal_while_standard_input_comes_leaves_nothing(tmp_path: Path, kind: signal.Signals, code: int) -> None:
    with waiting(tmp_path) as process:
        process.send_signal(kind)
        # not by communicate, which would close the pipe
        assert process.wait(HANG_S) == code
        out, err = process.communicate(timeout=HANG_S)
    assert (out, err.strip()) == (b"", b"")
    assert list(tmp_path.iterdir()) == []


def test_what_a_kill_left_is_cleared_away_and_what_still_comes_is_not(tmp_path: Path) -> None:
    with waiting(tmp_path) as killed:
        killed.kill()
        killed.communicate(timeout=HANG_S)
    (left,) = kept(tmp_path)
    with waiting(tmp_path) as other:
        (coming,) = kept(tmp_path)
        assert coming != left
        assert command(tmp_path, "run", "-", *JOB, given=b'{"prompt":"other"}\n').code == 0
        assert coming in kept(tmp_path)
        out, err = other.communicate(ROWS.encode(), timeout=HANG_S)
        assert (out, said(err.decode())) == (b"", "")
        assert other.returncode == 0
    assert [path.suffix for path in kept(tmp_path)] == [".jsonl"] * 2


WAYS = {
    "a pipe by name": "(cat rows.jsonl > pipe &) ; $RUN pipe $JOB",
    "in a job file": "(cat rows.jsonl > pipe &) ; mkdir -p away; cd away; RUNNER_DB=../runner.db $RUN ../job.toml $JOB",
    "of a shell": "$RUN <(cat rows.jsonl) $JOB",
    "/dev/stdin": "cat rows.jsonl | $RUN /dev/stdin $JOB",
    "/dev/stdin in a job file": "cat rows.jsonl | $RUN stdin.toml $JOB",
}


@pytest.mark.parametrize("way", WAYS)
def test_whatever_flows_is_kept_like_standard_input(tmp_path: Path, way: str) -> None:
    (tmp_path / "rows.jsonl").write_text(ROWS)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "job.toml").write_text('input = "pipe"\n')
    (tmp_path / "stdin.toml").write_text('input = "/dev/stdin"\n')
    for name in ("run", "check"):
        env = {**environment(), "RUN": f"{sys.executable} -m runner {name}", "JOB": "--provider simulator"}
        done = subprocess.run(["bash", "-c", WAYS[way]], cwd=tmp_path, env=env, capture_output=True, timeout=HANG_S, check=False)
        assert (done.returncode, said(done.stderr.decode())) == (0, ""), done
    (path,) = kept(tmp_path)
    assert path.read_text() == ROWS
    with StoreReader(tmp_path / "runner.db") as reader:
        assert [(run.done, run.rows, run.input) for run in reader.runs()] == [(5, 5, str(path))]


def test_a_pipe_that_is_refused_is_called_by_its_name(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    script = "(echo '{oops' > pipe &) ; exec \"$0\" -m runner run pipe --provider simulator --strict"
    refused = subprocess.run(
        ["bash", "-c", script, sys.executable], cwd=tmp_path, capture_output=True, timeout=HANG_S, check=False
    )
    assert refused.returncode == 2
    assert f"runner: {tmp_path / 'pipe'}: 1 broken row, and --strict was given: line 1: " in refused.stderr.decode()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_file_called_dash_is_a_file_where_its_path_says_so(tmp_path: Path) -> None:
    (tmp_path / "-").write_text('{"prompt":"a"}\n{"prompt":"b"}\n')
    assert command(tmp_path, "run", "./-", *JOB, given=ROWS.encode()).code == 0
    assert kept(tmp_path) == []
    (tmp_path / "job.toml").write_text('input = "./-"\n')
    checked = command(tmp_path, "check", "job.toml", "--provider", "simulator", "--json", given=ROWS.encode())
    assert json.loads(checked.out)["rows"] == 2
    with StoreReader(tmp_path / "runner.db") as reader:
        assert [(run.rows, run.input) for run in reader.runs()] == [(2, str(tmp_path / "-"))]
    assert runner.check(tmp_path / "-", provider="simulator").rows == 2


def test_a_job_file_may_name_standard_input(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text('input = "-"\nprovider = "simulator"\n')
    checked = command(tmp_path, "check", "job.toml", "--json", given=ROWS.encode())
    assert json.loads(checked.out)["rows"] == 5
    for _ in range(2):
        assert command(tmp_path, "run", "job.toml", "-q", given=ROWS.encode()).code == 0
    (path,) = kept(tmp_path)
    with StoreReader(tmp_path / "runner.db") as reader:
        assert [(run.done, run.input) for run in reader.runs()] == [(5, str(path))]
