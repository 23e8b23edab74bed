"""The user's word is asked for before any advice, is for what was shown and nothing else, and is kept when it is said."""

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from processes import Started, run, until, write_prompts
from processes import runner as start
from raw_server import RawServer, in_thread, openai_answer
from test_signals import Terminal

KEY, OTHER_KEY = "canary-0123456789", "canary-of-another-variable"
FAR = "http://far.example/v1"
QUESTION = "Allow it, now and in later runs? [y/N]"


class Desk:
    """A folder that somebody sent, a configuration folder, and a proxy that stands for every server of the network."""

    def __init__(self, tmp_path: Path, proxy: RawServer) -> None:
        self.folder, self.proxy = tmp_path / "sent", proxy
        self.folder.mkdir()
        write_prompts(self.folder / "prompts.jsonl", range(3))
        self.env = {
            "OPENAI_API_KEY": KEY,
            "OTHER": OTHER_KEY,
            "XDG_CONFIG_HOME": str(tmp_path / "configuration"),
            "http_proxy": f"http://127.0.0.1:{proxy.port}",
        }
        self.trusted = tmp_path / "configuration" / "prompt-runner" / "trusted.json"

    def job(self, text: str) -> None:
        (self.folder / "prompts.toml").write_text(f'model = "m"\n{text}')

    def run(self, *arguments: str) -> Any:
        return run(*arguments, cwd=self.folder, env=self.env)

    @contextmanager
    def asked(self, *arguments: str) -> Iterator[tuple[Started, Terminal]]:
        with (
            Terminal(300) as terminal,
            start(*arguments, cwd=self.folder, env={**self.env, "TERM": "xterm"}, terminal=terminal.slave) as process,
        ):
            terminal.let_go()
            yield process, terminal

    def answered(self, *answers: bytes, command: tuple[str, ...] = ("run", "prompts.jsonl")) -> tuple[int, str]:
        """Run a command that asks so often. Return its exit code and what the terminal showed."""
        with self.asked(*command) as (process, terminal):
            for number, answer in enumerate(answers, 1):
                until(lambda wanted=number: terminal.said().count(QUESTION) == wanted, "the question")
                terminal.press(answer)
            until(lambda: terminal.said() and not process.alive, "the end")
            return process.ended().code, terminal.said()

    def remembered(self) -> dict[str, list[list[str]]]:
        found: dict[str, list[list[str]]] = json.loads(self.trusted.read_text())
        return found

    @property
    def keys_sent(self) -> list[str]:
        return [one.headers.get("authorization", "") for one in self.proxy.requests]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with in_thread(RawServer(openai_answer())) as serving:
        yield Desk(tmp_path, serving)


# -- no advice before the question, and none that makes a file's address the user's word


@pytest.fixture
def half_done(desk: Desk) -> Desk:
    """A run of one's own at a server of one's own, beside which a job file comes that names another server."""
    with in_thread(RawServer(openai_answer())) as own:
        url = f"http://127.0.0.1:{own.port}/v1"
        ended = desk.run("run", "prompts.jsonl", "--base-url", url, "--model", "m", "--limit", "1")
    assert ended.code == 0, ended
    desk.trusted.unlink(missing_ok=True)
    return desk


def test_the_question_comes_before_the_advice(half_done: Desk) -> None:
    half_done.job(f'base_url = "{FAR}"\n')
    ended = half_done.run("run", "prompts.jsonl")
    assert (ended.code, ended.out) == (2, ""), ended
    assert "prompts.toml wants to send OPENAI_API_KEY to http://far.example, and you have not allowed that" in ended.err
    assert "--base-url" not in ended.err
    assert half_done.answered(b"n\n")[0] == 2
    assert half_done.proxy.connections == 0


@pytest.mark.parametrize("extra", ["", '[headers]\nAuthorization = "Bearer theirs"\n'])
def test_no_advice_makes_a_files_address_the_users_word(half_done: Desk, extra: str) -> None:
    half_done.job(f'base_url = "{FAR}"\n{extra}')
    trust = () if extra else ("--trust",)
    ended = half_done.run("run", "prompts.jsonl", *trust)
    assert (ended.code, ended.out) == (2, ""), ended
    assert "--base-url" not in ended.err
    assert "prompts.toml names http://far.example/v1: `runner resume 1` continues that run at http://127.0.0.1" in ended.err
    # the same where another run has answered the rows of a new one
    write_prompts(half_done.folder / "other.jsonl", range(4))
    (half_done.folder / "prompts.toml").rename(half_done.folder / "other.toml")
    begun = half_done.run("run", "other.jsonl", *trust)
    assert "already answered in run 1" in begun.out, begun
    assert "--base-url" not in begun.out


def test_an_address_of_the_user_is_advised(half_done: Desk) -> None:
    ended = half_done.run("run", "prompts.jsonl", "--base-url", FAR, "--model", "m")
    assert f"`runner resume 1 --base-url {FAR}` continues that run there" in ended.err
    with in_thread(RawServer(openai_answer())) as here:
        # every secret may go to this machine, whoever names it
        half_done.job(f'base_url = "http://127.0.0.1:{here.port}/v1"\n')
        ended = half_done.run("run", "prompts.jsonl")
        assert f"`runner resume 1 --base-url http://127.0.0.1:{here.port}/v1` continues" in ended.err


def test_a_finished_run_asks_nothing(desk: Desk) -> None:
    desk.job(f'base_url = "{FAR}"\n')
    assert desk.run("run", "prompts.jsonl", "--trust").code == 0
    desk.trusted.unlink()
    assert desk.run("run", "prompts.jsonl").code == 0


def test_a_host_that_looks_like_another_is_named_as_it_is_looked_up(desk: Desk) -> None:
    desk.job('base_url = "https://\u0430pi.openai.com/v1"\n')
    ended = desk.run("run", "prompts.jsonl")
    assert ended.code == 2, ended
    assert "wants to send OPENAI_API_KEY to https://xn--pi-6kc.openai.com, and" in ended.err
    assert "xn--pi-6kc" in desk.run("check", "prompts.jsonl").out


# -- a yes is for what was shown

PLUG = """KEY_ENV, BASE_URL_ENV, DEFAULT_BASE_URL = "K", "B", "http://127.0.0.1:9"
from runner.providers.dialects.openai import make
"""


def test_a_yes_to_a_module_is_none_to_its_keys(desk: Desk) -> None:
    (desk.folder / "plug.py").write_text(PLUG)
    desk.job(f'provider = "plug"\nbase_url = "{FAR}"\napi_key_env = "OTHER"\n')
    code, said = desk.answered(b"y\n", b"n\n")
    assert code == 2, said
    assert said.index("wants to run the module plug") < said.index("wants to send OTHER to http://far.example")
    assert desk.remembered()["keys"] == []
    assert desk.proxy.connections == 0
    # the module is not asked about again, the key is
    code, said = desk.answered(b"y\n")
    assert (code, "module" in said.partition("endpoint")[0]) == (0, False), said
    assert desk.remembered()["keys"] == [["OTHER", "http://far.example"]]
    assert desk.answered()[0] == 0


def test_trust_names_what_it_allows(desk: Desk) -> None:
    (desk.folder / "plug.py").write_text(PLUG)
    desk.job(f'provider = "plug"\nbase_url = "{FAR}"\napi_key_env = "OTHER"\n[headers]\nX-A = "${{OPENAI_API_KEY}}"\n')
    ended = desk.run("run", "prompts.jsonl", "--limit", "1", "--trust")
    assert ended.code == 0, ended
    for words in ("run the module plug", "send OTHER to http://far.example", "send OPENAI_API_KEY to http://far.example"):
        assert f"--trust allows, now and in later runs: prompts.toml wants to {words}" in ended.out
    # said once
    assert "--trust allows" not in desk.run("run", "prompts.jsonl", "--limit", "2", "--trust").out
    assert desk.run("resume").code == 0


# -- a yes is kept when it is said


def test_a_yes_is_kept_although_the_start_fails(desk: Desk) -> None:
    (desk.folder / "prompts.jsonl").write_text('{"prompt": "x"}\n{"nonsense": 1}\n')
    desk.job(f'base_url = "{FAR}"\n')
    command = ("run", "prompts.jsonl", "--strict")
    code, said = desk.answered(b"y\n", command=command)
    assert (code, "broken row" in said) == (2, True), said
    assert desk.remembered()["keys"] == [["OPENAI_API_KEY", "http://far.example"]]
    code, said = desk.answered(command=command)
    assert (code, "broken row" in said, QUESTION in said) == (2, True, False), said


def test_the_end_of_the_input_is_a_no(desk: Desk) -> None:
    desk.job(f'base_url = "{FAR}"\n')
    code, said = desk.answered(b"\x04")
    assert code == 2, said
    assert "you have not allowed that; if you trust it, add --trust" in said
    assert not desk.trusted.exists()


# -- the file of what was allowed

GIVEN = {"keys": [["OPENAI_API_KEY", "http://far.example"]], "code": []}


def damaged(path: Path) -> str:
    path.write_text('{"keys": [["OTHER", "http://early')
    return "is damaged"


def nested(path: Path) -> str:
    path.write_text('{"more": ' + "[" * 100_000)
    return "is damaged"


def shared(path: Path) -> str:
    path.write_text(json.dumps(GIVEN))
    path.chmod(0o666)
    return "can be written by others"


def pipe(path: Path) -> str:
    os.mkfifo(path)
    return "is not a plain file"


def folder(path: Path) -> str:
    path.mkdir()
    return "is not a plain file"


def listening(path: Path) -> str:
    here = os.open(".", os.O_RDONLY)
    try:
        # the path of a socket has at most 107 characters
        os.chdir(path.parent)
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)
        os.close(here)
    return "is not a plain file"


@pytest.mark.parametrize("make", [damaged, nested, shared, pipe, folder, listening])
def test_a_file_that_is_not_believed_is_named_and_put_aside(desk: Desk, make: Callable[[Path], str]) -> None:
    desk.job(f'base_url = "{FAR}"\n')
    desk.trusted.parent.mkdir(parents=True)
    why = make(desk.trusted)
    before = desk.trusted.read_bytes() if desk.trusted.is_file() else None
    ended = desk.run("run", "prompts.jsonl")
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1), ended
    assert f"trusted.json {why}, so what it allows does not count" in ended.err
    assert ("chmod go-w" in ended.err) == (make is shared)
    ended = desk.run("run", "prompts.jsonl", "--trust")
    assert ended.code == 0, ended
    assert f"trusted.json {why}; it is kept as {desk.trusted}.old1" in ended.out
    assert desk.remembered() == GIVEN
    aside = desk.trusted.with_name("trusted.json.old1")
    assert aside.exists()
    assert before is None or aside.read_bytes() == before


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    from runner.config import remembered

    env = {"XDG_CONFIG_HOME": str(tmp_path)}
    together = threading.Barrier(8)

    def add(number: int) -> None:
        for turn in range(5):
            together.wait()
            assert remembered.add([(f"KEY_{number}_{turn}", "http://far.example")], [], env) == []

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(remembered.read(env).keys) == 40
