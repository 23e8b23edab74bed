"""What bash, zsh and fish complete: the shells themselves at a terminal, and what they are offered."""

import os
import pty
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from select import select

import pytest
from click.shell_completion import ShellComplete
from processes import HANG_S, environment, run

import runner as api
from runner.cli import completing
from runner.cli.commands import cli
from runner.cli.completion import SHELLS, VARIABLE
from runner.inputs import compression
from runner.remedies import ADVICE
from runner.session import only
from runner.session.survey import ENDINGS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of three runs, of a row from which no request can be made, and files of many kinds."""
    folder = tmp_path_factory.mktemp("completion")
    (folder / "prompts.jsonl").write_text('{"prompt": 1}\n')
    for name, tags in (("pilot", ["team=a", "draft"]), ("second", ["team=b"]), (None, [])):
        api.run(folder / "prompts.jsonl", db=folder / "runner.db", provider="simulator", new=True, name=name, tags=tags)
    for name in ("more.csv", "packed.csv.gz", "job.toml", "notes.md", ".hidden.csv", "data/inner/rows.parquet"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    return folder


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    monkeypatch.delenv("RUNNER_DB", raising=False)
    return folder


def offered(*words: str) -> list[str]:
    """What is offered for the last of the words behind ``runner``; a type of its own where it is left to the shell."""
    items = ShellComplete(cli, {}, "runner", VARIABLE).get_completions(list(words[:-1]), words[-1])
    return [item.value if item.type == "plain" else f"<{item.type}>" for item in items]


def test_commands_and_options(here: Path) -> None:
    assert offered("st") == ["status", "stop"]
    assert offered("export", "--pre") == ["--prefix-fields"]
    assert {"--name", "--tag", "--max-cost"} <= set(offered("run", "--"))
    assert offered("completion", "") == list(SHELLS)


@pytest.mark.parametrize("command", ["status", "resume", "retry", "errors", "export", "compare", "report", "name", "tag"])
def test_runs_by_name_and_number_and_else_files(here: Path, command: str) -> None:
    assert offered(command, "") == ["second", "pilot", "3", "2", "1"]
    assert offered(command, "pi") == ["pilot"]
    assert offered(command, "prom") == ["<file>"]


def test_each_run_of_several(here: Path) -> None:
    for command in ("compare", "report"):
        assert offered(command, "pilot", "sec") == ["second"]


def test_values_of_options(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert offered("run", "--provider", "") == ["anthropic", "openai", "simulator"]
    assert offered("run", "--schema-mode", "to") == ["tool"]
    assert offered("run", "--durability", "") == ["full", "normal"]
    assert offered("run", "--model", "") == ["simulated-model"]
    assert offered("run", "--input-format", "js") == ["json", "jsonl"]
    assert {"csv", "openai-batch", "messages"} <= set(offered("export", "--format", ""))
    # pairs of answers are a table
    assert {"csv", "openai-batch", "messages"} & set(offered("compare", "1", "2", "--format", "")) == {"csv"}
    for command in ("compare", "report", "retry", "run", "resume", "export"):
        assert offered(command, "-o", "pa") == ["<file>"]
    assert offered("retry", "--ids", "pa") == ["<file>"]
    assert offered("retry", "--model", "sim") == ["simulated-model"]
    assert offered("export", "--order", "") == ["input", "finished"]
    assert offered("list", "--tag", "") == ["team", "draft", "team=a", "team=b"]
    assert offered("tag", "pilot", "--remove", "dr") == ["draft"]
    assert offered("status", "--db", "run") == ["runner.db"]
    monkeypatch.setenv("MY_OWN_KEY", "secret")
    assert offered("run", "--api-key-env", "MY_O") == ["MY_OWN_KEY"]


def test_names_of_rows_one_behind_another(here: Path) -> None:
    assert offered("export", "--only", "bad") == ["bad_row"]
    assert offered("export", "--only", "done,len") == ["done,length"]
    assert offered("retry", "--class", "bad") == ["bad_row"]
    assert offered("retry", "pilot", "--class", "timeout,ser") == ["timeout,server"]


def test_prompt_files_by_their_endings(here: Path) -> None:
    assert offered("run", "") == ["data/", "job.toml", "more.csv", "packed.csv.gz", "prompts.jsonl"]
    # a folder that is the only one is gone into
    for command in ("check", "estimate", "try"):
        assert offered(command, "da") == ["data/inner/rows.parquet"]
    assert offered("run", "run:") == ["run:second", "run:pilot", "run:3", "run:2", "run:1"]
    assert offered("run", "notes") == ["<file>"]
    (here / "two words").mkdir(exist_ok=True)
    try:
        # what would have to be quoted is left to the shell
        assert offered("run", "") == ["<file>"]
    finally:
        (here / "two words").rmdir()


def test_what_is_offered_is_what_the_code_knows() -> None:
    assert {ending.lstrip(".") for ending in completing.ENDINGS} == set(ENDINGS)
    assert set(completing.PACKED) == compression._ENDINGS
    assert set(completing.NAMES_OF_ROWS) == set(only.NAMES)
    assert set(completing.NAMES_OF_ROWS).isdisjoint(ADVICE)


@pytest.mark.parametrize("state", ["none", "damaged", "locked", "older", "a folder", "empty"])
def test_a_store_that_cannot_be_read_offers_nothing_and_says_nothing(folder: Path, tmp_path: Path, state: str) -> None:
    store = tmp_path / "runner.db"
    lock = None
    if state == "damaged":
        store.write_bytes(b"SQLite format 3\x00" + b"x" * 5_000)
    elif state == "a folder":
        store.mkdir()
    elif state == "empty":
        store.touch()
    elif state != "none":
        shutil.copy(folder / "runner.db", store)
        with closing(sqlite3.connect(store)) as connection:
            if state == "older":
                connection.execute("DROP TABLE labels")
    if state == "locked":
        lock = sqlite3.connect(store, isolation_level=None)
        lock.execute("PRAGMA locking_mode = EXCLUSIVE")
        lock.execute("BEGIN EXCLUSIVE")
        lock.execute("CREATE TABLE x(y)")
    before = sorted(one.name for one in tmp_path.iterdir())
    ask = {VARIABLE: "bash_complete", "COMP_WORDS": "runner status ", "COMP_CWORD": "2"}
    ended = run(cwd=tmp_path, env=ask)
    # an older one has numbers, and no names yet
    expected = "plain,3\nplain,2\nplain,1\n" if state == "older" else "file,\n"
    assert (ended.code, ended.out, ended.err) == (0, expected, "")
    if lock is not None:
        lock.close()
    assert state in ("locked", "older") or sorted(one.name for one in tmp_path.iterdir()) == before


def test_words_that_are_no_command_or_no_store_are_no_error(here: Path) -> None:
    assert offered("frobnicate", "") == offered("")
    assert offered("status", "--db", "none.db", "") == ["<file>"]
    assert offered("run", "none/") == []


def test_it_loads_nothing_that_takes_time(folder: Path) -> None:
    code = "import sys, runner.cli.main, runner.store.glimpse; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    heavy = {"sqlalchemy", "msgspec", "anyio", "httpx", "aiohttp", "jinja2", "asyncio"}
    assert heavy.isdisjoint(loaded.stdout.split())


# --- the shells themselves --------------------------------------------------------------------------------------------

STARTS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], 'eval "$(runner completion bash)"'),
    "zsh": (["zsh", "-f", "-i"], 'autoload -Uz compinit; compinit -u -D; eval "$(runner completion zsh)"'),
    "fish": (["fish", "--no-config", "-i"], "runner completion fish | source"),
}


class Terminal:
    """A shell at a terminal of its own."""

    def __init__(self, command: list[str], folder: Path, bin_folder: Path) -> None:
        env = {
            **environment(),
            "TERM": "dumb" if command[0] != "fish" else "xterm",
            "HOME": str(bin_folder),
            "PATH": os.pathsep.join([str(bin_folder), os.environ["PATH"]]),
        }
        self.shown = ""
        self.pid, self.end = pty.fork()
        if not self.pid:
            os.chdir(folder)
            os.execvpe(command[0], command, env)

    def type(self, keys: str) -> None:
        os.write(self.end, keys.encode())

    def until(self, words: str) -> str:
        """Wait until words are shown, and return what was shown since the last call."""
        while words not in self.shown:
            assert select([self.end], [], [], HANG_S)[0], f"{words!r} does not come: {self.shown!r}"
            try:
                self.shown += os.read(self.end, 65_536).decode(errors="replace")
            except OSError:
                raise AssertionError(f"the shell has ended: {self.shown!r}") from None
        before, _, self.shown = self.shown.partition(words)
        return before

    def close(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.end)


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest, folder: Path, tmp_path: Path) -> Iterator[Terminal]:
    """A shell that has read its script."""
    command, setup = STARTS[request.param]
    if shutil.which(command[0]) is None:
        pytest.skip(f"not run: there is no {command[0]} here")
    script = tmp_path / "runner"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m runner "$@"\n')
    script.chmod(0o755)
    terminal = Terminal(command, folder, tmp_path)
    try:
        terminal.type(f"{setup}\necho rea''dy\n")
        terminal.until("ready\r\n")
        yield terminal
    finally:
        terminal.close()


def test_a_shell_completes_a_command_and_a_name_which_then_run(shell: Terminal) -> None:
    shell.type("runner stat\tpil\t\n")
    shell.until("run 1, pilot: finished")


def test_a_shell_completes_the_value_of_an_option(shell: Terminal) -> None:
    shell.type("runner check promp\t--provi\tsimu\t --json\n")
    shell.until('"provider": "simulator"')


def test_fish_shows_whole_descriptions_and_completes_behind_a_comma(folder: Path, tmp_path: Path) -> None:
    assert 'string split --max 1 ","' in run("completion", "fish", cwd=folder).out
    if shutil.which("fish") is None:
        pytest.skip("not run: there is no fish here")
    script = tmp_path / "runner"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m runner "$@"\n')
    script.chmod(0o755)
    asked = "runner completion fish | source; complete -C 'runner tag'; complete -C 'runner export --only done,len'"
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    env = environment({"HOME": str(tmp_path), "PATH": path})
    done = subprocess.run(["fish", "--no-config", "-c", asked], cwd=folder, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"tag\t{cli.commands['tag'].get_short_help_str()}", "done,length"]
    assert "," in cli.commands["tag"].get_short_help_str()
