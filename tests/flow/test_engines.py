"""A run whose workers an engine places: all rows are answered, a worker that is killed has a successor, and nothing is left."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import clusters
import pytest
from clusters import Cluster
from processes import QUICK, Simulated, Started, count, environment, simulator, until

KEY = "sk-canary-7f3a9c5d1e"
ROWS = 40
SLOW = ("--first-token-s", "0.5", "--chunk-s", "0", "--tokens", "6")
"""A server whose answers take long enough for a worker to be killed meanwhile."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "mine"
    (made / "shared").mkdir(parents=True)
    (made / "p.jsonl").write_text("".join(json.dumps({"id": f"r{n}", "prompt": f"Say {n}."}) + "\n" for n in range(ROWS)))
    return made


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Cluster]:
    with clusters.slurm(tmp_path / "cluster") as made:
        clusters.real_runner(made.bin / "runner")
        yield made


def started(folder: Path, server: Simulated, cluster: Cluster | None, *options: str) -> Started:
    path = {} if cluster is None else {"PATH": cluster.path}
    given = ("--model", "m", "--base-url", server.base_url("openai"), "--concurrency", "4", *options)
    command = [sys.executable, "-m", "runner", "run", "p.jsonl", *given]
    return Started(command, cwd=folder, env=environment({"OPENAI_API_KEY": KEY, **path}))


SLURM = ("--engine", "slurm", "--engine-option", "folder=shared", "--engine-option", "connect=127.0.0.1")


def workers_of(mark: Path | str) -> list[int]:
    """Return the processes that work for the run whose command line or environment holds a mark."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
        except OSError:
            continue
        if b"\0worker\0" in line and os.fsencode(mark) in line:
            found.append(int(folder.name))
    return found


def test_the_engine_local_answers_all_rows_and_leaves_nothing(folder: Path) -> None:
    with simulator(*QUICK) as server, started(folder, server, None, "--engine", "local", "--workers", "2") as run:
        ended = run.ended()
        assert ended.code == 0, ended.err
        assert server.sent() == ROWS
    assert count(folder / "runner.db", where="status = 'done'") == ROWS
    assert workers_of(str(folder)) == []
    assert [file.name for file in folder.glob("*.token")] == []


def test_slurm_places_workers_and_a_killed_one_has_a_successor(folder: Path, slurm: Cluster) -> None:
    with simulator(*SLOW) as server, started(folder, server, slurm, *SLURM, "--workers", "2") as run:
        run.until(lambda: run.out.count("has joined") == 2, "two workers")
        run.until(lambda: server.sent() >= 4, "requests under way")
        os.kill(workers_of(folder)[0], signal.SIGKILL)
        ended = run.ended()
        assert ended.code == 0, ended.err
        # what was out at the killed one went out again, and nothing else
        assert ROWS <= server.sent() <= ROWS + 4
    assert count(folder / "runner.db", where="status = 'done'") == ROWS
    assert len(slurm.calls_of("sbatch")) == 2
    assert "was lost" in ended.out
    assert slurm.calls_of("scancel")
    until(lambda: not workers_of(folder), "the end of all workers")


def test_neither_the_key_nor_the_token_is_in_what_slurm_shows(folder: Path, slurm: Cluster) -> None:
    with simulator(*SLOW) as server, started(folder, server, slurm, *SLURM, "--workers", "1") as run:
        run.until(lambda: server.sent() >= 1, "a request")
        (file,) = (folder / "shared").glob("*/token")
        token = file.read_text().strip()
        shown = [json.dumps(slurm.calls), *(script.read_text() for script in slurm.folder.glob("*.script"))]
        shown += [Path(f"/proc/{worker}/cmdline").read_text() for worker in workers_of(folder)]
        assert not any(secret in text for secret in (token, KEY) for text in shown)
        assert run.ended().code == 0
    assert not any(secret.encode() in file.read_bytes() for secret in (token, KEY) for file in folder.glob("runner.db*"))


def test_workers_none_of_which_can_start_stop_the_run_with_the_reason(folder: Path, slurm: Cluster) -> None:
    clusters.program(slurm.bin / "lame", "#!/bin/sh\necho 'no module named runner' >&2\nexit 1\n")
    lame = ("--engine-option", f"runner={slurm.bin / 'lame'}")
    with simulator(*QUICK) as server, started(folder, server, slurm, *SLURM, *lame, "--workers", "2") as run:
        ended = run.ended()
        assert server.sent() == 0
    assert ended.code == 3, ended.err
    assert "no worker is left: Slurm: the worker 100_" in ended.err
    assert " is failed; its output: " in ended.err
    # the output stays, for whoever wants to know
    assert len(list((folder / "shared").glob("*/100_*.log"))) == 2


def test_no_worker_is_left_when_the_run_is_killed(folder: Path, slurm: Cluster) -> None:
    with simulator(*SLOW) as server, started(folder, server, slurm, *SLURM, "--workers", "2") as run:
        run.until(lambda: server.sent() >= 4, "requests under way")
        run.killed()
        until(lambda: not workers_of(folder), "the end of all workers")
    # and the same command continues, without the engine
    with simulator(*QUICK) as server, started(folder, server, None) as again:
        assert again.ended().code == 0
    assert count(folder / "runner.db", where="status = 'done'") == ROWS


REFUSED = {
    "no number of workers": (("--engine", "slurm"), "the engine slurm has to know how many workers to place; add --workers N"),
    "the processors of this machine": (("--engine", "slurm", "--workers", "auto"), "has to know how many workers to place"),
    "no such engine": (("--engine", "slrum", "--workers", "2"), "there is no engine 'slrum'; did you mean 'slurm'?"),
    "an option of another engine": (
        ("--engine", "slurm", "--workers", "2", "--engine-option", "image=i"),
        "the engine slurm takes no option 'image'",
    ),
    "a misspelt option": (
        ("--engine", "slurm", "--workers", "2", "--engine-option", "partitoin=cpu"),
        "the engine slurm takes no option 'partitoin'; did you mean partition?",
    ),
    "no value": (
        ("--engine", "slurm", "--workers", "2", "--engine-option", "time"),
        "--engine-option takes NAME=VALUE, not 'time'",
    ),
    "two values": (
        ("--engine", "slurm", "--workers", "2", "--engine-option", "time=1", "--engine-option", "time=2"),
        "the option time of the engine has two values; give it once",
    ),
    "an address for none": (("--engine", "local", "--workers", "2", "--address", "x"), "the engine local takes no --address"),
    "no engine": (("--address", "east"), "--address and --engine-option are for an engine; name it: --engine NAME"),
    "loopback": (
        ("--engine", "slurm", "--workers", "2"),
        "the engine slurm starts workers on other machines, and these cannot reach 127.0.0.1:",
    ),
}


@pytest.mark.parametrize(("options", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_one_sentence(folder: Path, slurm: Cluster, options: tuple[str, ...], words: str) -> None:
    with simulator(*QUICK) as server, started(folder, server, slurm, *options) as run:
        ended = run.ended()
        assert server.sent() == 0
    assert ended.code == 2, ended.err
    assert words in ended.err
    assert slurm.calls == []


def test_a_job_file_does_not_decide_alone_where_workers_run(folder: Path, slurm: Cluster) -> None:
    # what is allowed is remembered, and no other test has such a folder
    (folder / "p.toml").write_text('engine = "slurm"\nengine_options = ["folder=sent", "connect=127.0.0.1"]\nworkers = 1\n')
    (folder / "sent").mkdir()
    with simulator(*QUICK) as server:
        with started(folder, server, slurm) as run:
            ended = run.ended()
        assert ended.code == 2
        wants = "p.toml wants to start workers with the engine slurm (folder=sent, connect=127.0.0.1), and you have not"
        assert wants in ended.err
        assert slurm.calls == []
        with started(folder, server, slurm, "--trust") as run:
            ended = run.ended()
        assert ended.code == 0, ended.err
    assert slurm.calls_of("sbatch")
