"""The page of a run that goes on, in processes as a user has them: it begins and ends with the run, and steers it."""

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from following import holds
from processes import Simulated, Started, assert_clean, environment, run, runner, simulator, until, write_prompts
from test_workers import workers_of

from runner.control.place import socket_of

URL = re.compile(r"http://127\.0\.0\.1:(\d+)/\?token=([\w-]+)")
GUARD_S = 60.0


@pytest.fixture(scope="module")
def slow() -> Iterator[Simulated]:
    """A server whose answers take a second."""
    with simulator("--first-token-s", "0.1", "--chunk-s", "0.03", "--tokens", "30") as started:
        yield started


@contextmanager
def opened(process: Started) -> Iterator[httpx.Client]:
    """A client of the page whose address a process has printed."""
    until(lambda: URL.search(process.out) or not process.alive, "the address of the page")
    found = URL.search(process.out)
    assert found is not None, process.ended()
    headers = {"Authorization": f"Bearer {found[2]}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{found[1]}", headers=headers, timeout=GUARD_S) as client:
        yield client


def is_served(client: httpx.Client) -> bool:
    with socket.socket() as end:
        return end.connect_ex((client.base_url.host, client.base_url.port or 0)) == 0


def start(folder: Path, server: Simulated, *more: str) -> Started:
    to = ("--provider", "openai", "--base-url", server.openai, "--model", "m")
    return runner("run", "prompts.jsonl", *to, "--web", "--port", "0", *more, cwd=folder, env={"OPENAI_API_KEY": "k"})


def told(lines: Iterator[str], kind: str) -> Any:
    """Return the data of the next event of a kind."""
    name = ""
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: ") and name == kind:
            return json.loads(line.removeprefix("data: "))
    raise AssertionError(f"the stream has ended without {kind}")


def test_a_run_is_watched_and_steered_and_its_page_ends_with_it(folder: Path, slow: Simulated) -> None:
    write_prompts(folder / "prompts.jsonl", range(60))
    with start(folder, slow, "--concurrency", "2") as process, opened(process) as client:
        with client.stream("GET", "/api/events") as stream:
            lines = stream.iter_lines()
            assert told(lines, "state")["run"] == 1
            assert told(lines, "text")["pieces"]
            # the page is a guest at the socket of the session, and does not have it
            place = socket_of(folder / "runner.db", 1)
            assert [holds(pid, place) for pid in (process.pid, *workers_of(process))] == [True, False]
            assert client.post("/api/runs/1/pause").json()["done"].startswith("paused")
            assert told(lines, "steered")["by"] == "api"
            assert client.post("/api/runs/1/set", json={"concurrency": 8}).status_code == 200
            assert client.post("/api/runs/1/retry", json={"confirm": True}).json()["code"] == "running"
            assert client.post("/api/runs/1/continue").status_code == 200
            assert client.get("/api/runs/1").json()["run"]["active"]
            # Ctrl-C in a terminal goes to the whole group of the run, in which the page is not
            os.killpg(process.pid, signal.SIGINT)
            assert "Ctrl-C" in told(lines, "stopping")["reason"]
            summary = told(lines, "finished")
        ended = process.ended()
        until(lambda: not is_served(client), "the end of the page")
    assert ended.code == 130
    assert summary["done"] + summary["left"] == 60
    with closing(sqlite3.connect(folder / "runner.db")) as store:
        asked = store.execute('SELECT command, "by" FROM steered ORDER BY id').fetchall()
    assert asked == [("pause", "api"), ("set", "api"), ("continue", "api")]


def test_the_page_of_a_run_that_is_killed_ends_too(folder: Path, slow: Simulated) -> None:
    write_prompts(folder / "prompts.jsonl", range(60))
    with start(folder, slow, "--json", "--concurrency", "2") as process, opened(process) as client:
        (line,) = [one for one in map(json.loads, process.out.splitlines()) if one["event"] == "web"]
        assert (line["error"], str(client.base_url) in line["url"]) == (None, True)
        with client.stream("GET", "/api/runs/1/events") as stream:
            lines = stream.iter_lines()
            told(lines, "state")
            process.killed()
            assert "killed" in told(lines, "gone")["reason"]
            assert list(lines)[-1:] in ([], [""])
        until(lambda: not is_served(client), "the end of the page")


def test_a_server_of_a_store_ends_at_once_and_retries_go_on(folder: Path, server: Simulated) -> None:
    to = ("--provider", "openai", "--base-url", server.openai, "--model", "m", "--quiet")
    assert run("run", "prompts.jsonl", *to, cwd=folder, env={"OPENAI_API_KEY": "k"}).code == 0
    with runner("web", "--port", "0", cwd=folder, env={"OPENAI_API_KEY": "k"}) as process, opened(process) as client:
        assert "Ctrl-C" in process.out
        key = client.get("/api/runs/1/rows", params={"limit": 1}).json()["rows"][0]["id"]
        foreseen = client.post("/api/runs/1/retry", json={"ids": [key]}).json()
        assert (foreseen["started"], foreseen["rows"]) == (False, 1)
        begun = client.post("/api/runs/1/retry", json={"ids": [key], "confirm": True})
        assert (begun.status_code, begun.json()["started"]) == (202, True)
        with client.stream("GET", "/api/events") as stream:
            until(lambda: client.get(f"/api/runs/1/rows/{key}").json()["former"], "the new answer")
            process.signal(signal.SIGINT)
            assert [one for one in stream.iter_lines() if "no more" in one] == []
        ended = process.ended()
        assert_clean(ended)
        assert ended.code == 0
        assert not is_served(client)


def test_two_servers_of_one_store_have_one_token_and_the_next_port(folder: Path, server: Simulated) -> None:
    to = ("--provider", "openai", "--base-url", server.openai, "--model", "m", "--quiet")
    run("run", "prompts.jsonl", *to, cwd=folder, env={"OPENAI_API_KEY": "k"})
    with runner("web", cwd=folder) as one, runner("web", cwd=folder) as other, opened(one) as first, opened(other) as second:
        assert first.base_url.port != second.base_url.port
        assert first.headers["authorization"] == second.headers["authorization"]
        assert first.get("/api/runs").json() == second.get("/api/runs").json()
        taken = run("web", "--port", str(first.base_url.port), cwd=folder)
        assert (taken.code, "name another port with --port" in taken.err) == (2, True)
    assert (folder / "runner.db.web-token").stat().st_mode & 0o777 == 0o600


def test_without_its_libraries_the_page_is_refused_before_anything_is_sent(folder: Path, server: Simulated) -> None:
    (folder / "block").mkdir()
    (folder / "block" / "sitecustomize.py").write_text("import sys\nsys.modules['starlette'] = None\n")
    env = {"PYTHONPATH": str(folder / "block"), "OPENAI_API_KEY": "k"}
    assert environment(env)["PYTHONPATH"].endswith("block")
    before = server.stats()["requests"]
    for words in (("run", "prompts.jsonl", "--web", "--base-url", server.openai, "--model", "m"), ("web",)):
        with runner(*words, cwd=folder, env=env, fresh=True) as process:
            ended = process.ended()
        assert (ended.code, ended.out) == (2, "")
        assert "pip install 'prompt-runner[web]'" in ended.err
    assert server.stats()["requests"] == before
    assert not (folder / "runner.db").exists()
    alone = run("run", "prompts.jsonl", "--port", "9", cwd=folder)
    assert (alone.code, "--web" in alone.err) == (2, True)


def test_a_run_without_a_page_imports_nothing_of_it(folder: Path) -> None:
    code = "import sys, runner.cli.foreground, runner.api; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment(), cwd=folder)
    assert not {"starlette", "uvicorn", "sse_starlette"} & set(done.stdout.split())
    assert "runner.web" not in done.stdout
