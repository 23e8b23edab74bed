"""When things around a run are odd: outputs that are inputs, moved rows, closed files, interrupted notebooks."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from processes import Simulated, at, environment, rows, run, simulator, until, write_prompts
from raw_server import RawServer, Received, Reply, openai_answer, whole

import runner

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("output", ["runner.db", "runner.db-wal", "runner.db-run1.lock", "prompts.jsonl", "link.jsonl"])
def test_an_export_never_overwrites_the_store_or_the_prompts(folder: Path, server: Simulated, output: str) -> None:
    assert run(*at(server), cwd=folder).code == 0
    (folder / "link.jsonl").symlink_to("prompts.jsonl")
    before = (folder / "prompts.jsonl").read_bytes()
    ended = run("export", "-o", output, "--format", "jsonl", cwd=folder)
    assert ended.code == 2
    assert "name another file" in ended.err
    assert (folder / "prompts.jsonl").read_bytes() == before
    assert rows(folder / "runner.db", "SELECT count(*) FROM items") == [(10,)]


def test_the_next_command_is_one_that_goes_on(folder: Path, server: Simulated) -> None:
    for options in (("--limit", "3"), ("--new", "--limit", "3")):
        ended = run(*at(server, *options), cwd=folder)
        assert ended.code == 0
        (said,) = [line for line in ended.out.splitlines() if line.startswith("next:")]
        assert "resume" in said
        assert "same command" not in said
    assert run("resume", "2", cwd=folder).code == 0
    assert rows(folder / "runner.db", "SELECT run_id, count(*) FROM items GROUP BY 1") == [(1, 3), (2, 10)]


def test_check_and_show_config_need_no_model(folder: Path) -> None:
    checked = run("check", "prompts.jsonl", cwd=folder, env={"OPENAI_API_KEY": "sk-canary-123456"})
    assert checked.code == 0
    assert "10 rows" in checked.out
    assert "warning: `runner run` needs one thing more: no model is set" in checked.out
    assert run("run", "prompts.jsonl", "--show-config", cwd=folder).code == 0


def test_a_resumed_run_listens_to_the_environment(folder: Path, server: Simulated) -> None:
    assert run(*at(server, "--limit", "2"), cwd=folder).code == 0
    ended = run("resume", cwd=folder, env={"RUNNER_CONCURRENCY": "nonsense"})
    assert ended.code == 2
    assert "RUNNER_CONCURRENCY" in ended.err
    assert run("resume", cwd=folder, env={"RUNNER_CONCURRENCY": "1"}).code == 0
    assert rows(folder / "runner.db", "SELECT count(*) FROM items") == [(10,)]


def test_a_broken_line_stays_in_the_export_until_it_is_gone(folder: Path, server: Simulated) -> None:
    prompts = folder / "prompts.jsonl"
    good = prompts.read_text()
    prompts.write_text(good + "not json\n")
    assert run(*at(server), cwd=folder).code == 1
    prompts.write_text('{"id": "new", "prompt": "Say new."}\n' + good + "not json\n")
    assert run(*at(server, "--limit", "1"), cwd=folder).code == 1
    kept = run("export", "-o", "-", "--format", "jsonl", cwd=folder)
    assert sum('"bad_row"' in line for line in kept.out.splitlines()) == 1
    again = run("retry", cwd=folder)
    assert "retry 1 tries again" not in again.out
    prompts.write_text('{"id": "new", "prompt": "Say new."}\n' + good)
    assert run(*at(server), cwd=folder).code == 0
    assert len(run("export", "-o", "-", "--format", "jsonl", cwd=folder).out.splitlines()) == 11


def test_restored_rows_are_counted_in_the_file_and_not_in_the_store(folder: Path, server: Simulated) -> None:
    assert run(*at(server), cwd=folder).code == 0
    write_prompts(folder / "prompts.jsonl", [*range(100, 108), 3, 5])
    ended = run(*at(server, "--json"), cwd=folder)
    told = [json.loads(line) for line in ended.out.splitlines()]
    (started,) = [one for one in told if one["event"] == "started"]
    assert (started["rows"], started["restored"]) == (10, 2)
    assert all(one["restored"] + one["done"] + one["failed"] <= 10 for one in told if one["event"] == "progress")
    assert told[-1]["missing"] == 8


def test_foreign_words_in_notes_are_cleaned(tmp_path: Path, server: Simulated) -> None:
    write_prompts(tmp_path / "prompts.jsonl", range(2))
    assert run(*at(server, "--system", "plain"), cwd=tmp_path).code == 0
    ended = run(*at(server, "--system", "red \x1b[31m"), cwd=tmp_path)
    assert ended.code == 0
    assert "\\x1b[31m" in ended.out
    assert "\x1b" not in ended.out + ended.err


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_process_without_standard_files_works(folder: Path, server: Simulated, closed: str) -> None:
    arguments = " ".join(at(server))
    command = f"exec {sys.executable} -m runner {arguments} {closed}"
    ended = subprocess.run(["/bin/sh", "-c", command], cwd=folder, env=environment(), capture_output=True, check=False)
    assert ended.returncode == 0, ended
    assert rows(folder / "runner.db", "SELECT count(*) FROM items WHERE status = 'done'") == [(10,)]


async def test_an_interrupt_in_a_notebook_ends_the_run(tmp_path: Path) -> None:
    """Where a loop runs already the work has a thread of its own, which must not go on buying behind the caller's back."""
    write_prompts(tmp_path / "prompts.jsonl", range(200))
    with simulator("--first-token-s", "0.2") as server:

        def interrupt() -> None:
            until(lambda: server.stats()["requests"] >= 6, "the first requests")
            os.kill(os.getpid(), signal.SIGINT)

        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        helper = threading.Thread(target=interrupt)
        helper.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                runner.run(tmp_path / "prompts.jsonl", db=tmp_path / "r.db", model="m", base_url=server.openai, concurrency=2)
        finally:
            helper.join()
            signal.signal(signal.SIGINT, before)
        asked = server.stats()["requests"]
        # the lock is free, so nobody works on the run any more
        assert not runner.runs(db=tmp_path / "r.db")[0].active
        await asyncio.sleep(0.6)
        assert server.stats()["requests"] == asked
    (count,) = rows(tmp_path / "r.db", "SELECT count(*) FROM items")[0]
    assert 0 < count < 200


def files_with(folder: Path, canary: str) -> list[str]:
    return [path.name for path in folder.iterdir() if canary.encode() in path.read_bytes()]


async def test_a_key_that_a_server_echoes_in_an_answer_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "sk-canary-fedcba9876543210"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    write_prompts(tmp_path / "prompts.jsonl", range(3))
    async with RawServer(openai_answer(f"Your key is {key}.")) as server:
        summary = await asyncio.to_thread(
            runner.run, tmp_path / "prompts.jsonl", db=tmp_path / "r.db", model="m", base_url=server.base_url, limit=1
        )
    assert summary.done == 1
    (result,) = runner.results(db=tmp_path / "r.db")
    assert result.text == "Your key is [redacted]."
    assert files_with(tmp_path, key) == []


async def test_causes_with_the_same_code_are_told_apart(tmp_path: Path) -> None:
    write_prompts(tmp_path / "prompts.jsonl", range(4))

    def answer(request: Received) -> Reply:
        kind = "invalid_image" if b"number 2" in request.body else "bad_tool"
        return whole("400 Bad Request", {"error": {"type": kind, "message": "No."}})

    async with RawServer(answer) as server:
        await asyncio.to_thread(runner.run, tmp_path / "prompts.jsonl", db=tmp_path / "r.db", model="m", base_url=server.base_url)
    shown = run("errors", "--db", "r.db", cwd=tmp_path).out
    assert "3 x bad_request" in shown
    assert "bad_tool" in shown
    assert "1 x bad_request" in shown
    assert "invalid_image" in shown
