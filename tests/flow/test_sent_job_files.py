"""A job file that somebody sent: it gets no key to its server and runs no code, unless the user says so once."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import QUICK, Ended, rows, run, simulator, until, write_prompts
from processes import runner as start
from raw_server import RawServer, in_thread, openai_answer
from test_signals import Terminal

KEY = "canary-0123456789"
JOB = 'model = "m"\nbase_url = "http://far.example/v1"\napi_key_env = "AWS_SECRET_ACCESS_KEY"\n'


@pytest.fixture
def proxy() -> Iterator[RawServer]:
    """Stands for every server of the network: requests to plain HTTP addresses come to the proxy."""
    with in_thread(RawServer(openai_answer())) as serving:
        yield serving


@pytest.fixture
def env(tmp_path: Path, proxy: RawServer) -> dict[str, str]:
    return {
        "AWS_SECRET_ACCESS_KEY": KEY,
        "XDG_CONFIG_HOME": str(tmp_path / "configuration"),
        "http_proxy": f"http://127.0.0.1:{proxy.port}",
    }


@pytest.fixture
def sent(tmp_path: Path) -> Path:
    """The folder that somebody sent."""
    folder = tmp_path / "sent"
    folder.mkdir()
    write_prompts(folder / "prompts.jsonl", range(3))
    (folder / "prompts.toml").write_text(JOB)
    return folder


def refused(ended: Ended) -> None:
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1), ended
    assert "prompts.toml wants to send AWS_SECRET_ACCESS_KEY to http://far.example" in ended.err
    assert "--trust" in ended.err


@pytest.mark.parametrize("file", ["prompts.jsonl", "job.toml"])
def test_nothing_is_sent_without_the_users_word(sent: Path, env: dict[str, str], proxy: RawServer, file: str) -> None:
    if file == "job.toml":
        (sent / "prompts.toml").rename(sent / "job.toml")
        (sent / "job.toml").write_text(f'input = "prompts.jsonl"\n{JOB}')
    ended = run("run", file, cwd=sent, env=env)
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1), ended
    assert "toml wants to send AWS_SECRET_ACCESS_KEY to http://far.example" in ended.err
    assert not (sent / "runner.db").exists()
    assert proxy.connections == 0
    checked = run("check", file, cwd=sent, env=env)
    assert checked.code == 2
    assert "would refuse to start" in checked.out
    assert KEY not in checked.out + ended.err


def test_trust_is_asked_for_once(sent: Path, env: dict[str, str], proxy: RawServer) -> None:
    refused(run("run", "prompts.jsonl", cwd=sent, env=env))
    ran = run("run", "prompts.jsonl", "--limit", "1", "--trust", cwd=sent, env=env)
    assert ran.code == 0, ran
    first = ran.out.splitlines()[0]
    for word in ("endpoint http://far.example/v1", "model m", "key from AWS_SECRET_ACCESS_KEY", "job file prompts.toml"):
        assert word in first
    assert KEY not in ran.out + ran.err
    assert run("resume", cwd=sent, env=env).code == 0
    assert run("run", "prompts.jsonl", "--new", "--limit", "1", cwd=sent, env=env).code == 0
    assert [one.path for one in proxy.requests] == ["http://far.example/v1/chat/completions"] * 4
    assert all(KEY in one.headers["authorization"] for one in proxy.requests)
    (remembered,) = (sent.parent / "configuration").rglob("*.json")
    assert KEY not in remembered.read_text()


def test_a_store_that_somebody_sent_is_asked_about(sent: Path, env: dict[str, str], proxy: RawServer, tmp_path: Path) -> None:
    theirs = {**env, "XDG_CONFIG_HOME": str(tmp_path / "theirs")}
    assert run("run", "prompts.jsonl", "--limit", "1", "--trust", cwd=sent, env=theirs).code == 0
    before = len(proxy.requests)
    for command in ("resume", "retry"):
        ended = run(command, "1", cwd=sent, env=env)
        assert (ended.code, ended.out) == (2, ""), ended
        assert "the stored run wants to send AWS_SECRET_ACCESS_KEY to http://far.example" in ended.err
    assert len(proxy.requests) == before
    assert run("resume", "1", "--trust", cwd=sent, env=env).code == 0
    assert len(proxy.requests) == before + 2


def test_a_run_whose_user_named_server_and_variable_is_resumed(sent: Path, env: dict[str, str], proxy: RawServer) -> None:
    (sent / "prompts.toml").unlink()
    named = ("--base-url", "http://far.example/v1", "--api-key-env", "AWS_SECRET_ACCESS_KEY", "--model", "m")
    assert run("run", "prompts.jsonl", *named, "--limit", "1", cwd=sent, env=env).code == 0
    assert run("resume", "1", cwd=sent, env=env).code == 0
    assert len(proxy.requests) == 3


@pytest.mark.parametrize(("answer", "code"), [(b"y\n", 0), (b"n\n", 2), (b"\n", 2)])
def test_a_terminal_asks(sent: Path, env: dict[str, str], proxy: RawServer, answer: bytes, code: int) -> None:
    with (
        Terminal(200) as terminal,
        start("run", "prompts.jsonl", cwd=sent, env={**env, "TERM": "xterm"}, terminal=terminal.slave) as process,
    ):
        terminal.let_go()
        until(lambda: "Allow it, now and in later runs? [y/N]" in terminal.said(), "the question")
        assert "prompts.toml wants to send AWS_SECRET_ACCESS_KEY to http://far.example" in terminal.said()
        assert proxy.connections == 0
        terminal.press(answer)
        until(lambda: terminal.said() and not process.alive, "the end")
        assert process.ended().code == code, terminal.said()
    assert len(proxy.requests) == (3 if code == 0 else 0)
    again = run("run", "prompts.jsonl", "--new", cwd=sent, env=env)
    assert again.code == code, again


def test_no_proxy_with_a_port(sent: Path, env: dict[str, str], proxy: RawServer) -> None:
    (sent / "prompts.toml").unlink()
    named = ("--base-url", "http://far.example:8000/v1", "--model", "m")
    # nothing is there
    past = run("run", "prompts.jsonl", *named, "--deadline", "2", cwd=sent, env={**env, "no_proxy": "far.example:8000"})
    assert past.code == 3, past
    assert "through the proxy" not in past.out
    assert proxy.connections == 0
    assert run("run", "prompts.jsonl", *named, cwd=sent, env={**env, "no_proxy": "far.example:80"}).code == 0
    assert len(proxy.requests) == 3


CODE = """
from pathlib import Path
Path("ran").write_text("")
from runner.providers.dialects.openai import *
from runner.providers.dialects.openai import make
"""


@pytest.mark.parametrize("name", ["sent", "tools.sent"])
def test_code_of_the_current_folder_does_not_run_on_a_files_word(sent: Path, env: dict[str, str], name: str) -> None:
    file = sent / f"{name.replace('.', '/')}.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text(CODE)
    with simulator(*QUICK) as server:
        (sent / "prompts.toml").write_text(f'provider = "{name}"\nmodel = "m"\nbase_url = "{server.openai}"\n')
        for command in (["run", "prompts.jsonl"], ["run", "prompts.jsonl", "--show-config"], ["check", "prompts.jsonl"]):
            ended = run(*command, cwd=sent, env=env)
            assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1), ended
            assert f"prompts.toml wants to run the module {name}" in ended.err
            assert not (sent / "ran").exists()
        assert run("run", "prompts.jsonl", "--trust", "--limit", "1", cwd=sent, env=env).code == 0
        assert (sent / "ran").exists()
        # allowed once, it may run where a store names it
        assert run("resume", "1", cwd=sent, env=env).code == 0
        (sent / "ran").unlink()
        other = {**env, "XDG_CONFIG_HOME": str(sent / "nothing")}
        assert "wants to run the module" in run("retry", "1", cwd=sent, env=other).err
        assert not (sent / "ran").exists()
        assert run("check", "prompts.jsonl", "--provider", name, cwd=sent, env=other).code == 0
        assert (sent / "ran").exists()


def test_python_says_trust(sent: Path, env: dict[str, str], proxy: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    import runner

    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(runner.UsageError, match="trust=True in Python"):
        runner.run(sent / "prompts.jsonl", db=sent / "r.db")
    assert runner.run(sent / "prompts.jsonl", db=sent / "r.db", trust=True).done == 3
    assert len(proxy.requests) == 3
    assert os.environ["XDG_CONFIG_HOME"] == env["XDG_CONFIG_HOME"]
    assert rows(sent / "r.db", "SELECT count(*) FROM items") == [(3,)]


def test_a_file_from_elsewhere_is_sent_only_on_the_users_word(sent: Path, env: dict[str, str], proxy: RawServer) -> None:
    """Any text file is a file of prompts: with a job file that somebody sent, it would be a way to read this machine."""
    secret = sent.parent / "secret.txt"
    secret.write_text("a line of somebody's own\n")
    (sent / "link.txt").symlink_to(secret)
    del env["AWS_SECRET_ACCESS_KEY"]
    for name in ("../secret.txt", str(secret), "link.txt"):
        (sent / "job.toml").write_text(f'input = "{name}"\nmodel = "m"\nbase_url = "http://far.example/v1"\n')
        ended = run("run", "job.toml", cwd=sent, env=env)
        assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1), ended
        assert "job.toml wants to send the file " in ended.err
        assert proxy.connections == 0
    # a server that the user names, and the user's yes, are the user's word
    assert run("run", "job.toml", "--base-url", "http://near.example/v1", cwd=sent, env=env).code == 0
    assert run("run", "job.toml", "--trust", "--new", cwd=sent, env=env).code == 0
    assert run("run", "job.toml", "--new", cwd=sent, env=env).code == 0
    # what is in its own folder needs none
    (sent / "job.toml").write_text('input = "prompts.jsonl"\nmodel = "m"\nbase_url = "http://far.example/v1"\n')
    assert run("run", "job.toml", cwd=sent, env=env).code == 0
