"""What was typed comes back harmless: no escape reaches the terminal raw, and no key is repeated in the last line."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from processes import Simulated, at, environment, run, runner

PYTHON = shlex.quote(sys.executable)
OTHERS = (
    ["run", "prompts.jsonl", "--show-config", "--model", "m"],
    ["check", "prompts.jsonl", "--provider", "simulator"],
    ["list", "--json"],
    ["status"],
)
ESCAPE = "\x1b[31m\x1b]0;owned\x07\u202e\x9b"
KEY = "sk-canary-0123456789abcdef"


def harmless(text: str) -> bool:
    return not any(char in text for char in "\x1b\x07\u202e\x9b")


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", f"{ESCAPE}.jsonl"),
        ("run", "prompts.jsonl", f"--{ESCAPE}"),
        ("run", "prompts.jsonl", "--limit", ESCAPE),
        ("run", "prompts.jsonl", "--model", "m", "--base-url", f"http://{ESCAPE}"),
        ("run", "prompts.jsonl", "--db", f"absent{ESCAPE}/r.db", "--provider", "simulator"),
        (ESCAPE,),
        ("list", "--db", f"{ESCAPE}.db"),
        ("status", "--db", f"{ESCAPE}.db"),
        ("export", "-o", f"{ESCAPE}.csv", "--db", f"{ESCAPE}.db"),
        ("export", "-o", f"a.{ESCAPE}"),
        ("check", ESCAPE),
        ("simulate", "--key-env", ESCAPE),
    ],
)
def test_an_error_repeats_no_escape(folder: Path, arguments: tuple[str, ...]) -> None:
    ended = run(*arguments, cwd=folder)
    assert ended.code in (0, 2, 4), ended
    assert harmless(ended.out + ended.err), ended


def test_a_store_with_an_escape_in_its_name(folder: Path, server: Simulated) -> None:
    """The next command is printed so that it can be typed."""
    name = f"it's {ESCAPE}.db"
    ran = run(*at(server, "--db", name), cwd=folder)
    assert ran.code == 0, ran
    said = [ran, *(run(*words, "--db", name, cwd=folder) for words in (["list"], ["status"], ["errors"]))]
    exported = run("export", "-o", f"{ESCAPE}.csv", "--db", name, cwd=folder)
    assert (folder / f"{ESCAPE}.csv").exists()
    for one in (*said, exported):
        assert one.code == 0
        assert harmless(one.out + one.err), one
    (line,) = [line.removeprefix("next: ") for line in ran.out.splitlines() if line.startswith("next: ")]
    done = subprocess.run(
        ["bash", "-c", line.replace("runner ", f"{PYTHON} -m runner ", 1)],
        cwd=folder, env=environment(), capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done
    assert (folder / "answers.csv").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", f"{KEY}.jsonl"),
        ("list", "--db", f"/nowhere/{KEY}/r.db"),
        ("export", "-o", "a.csv", "--db", f"{KEY}.db"),
        ("run", "prompts.jsonl", "--limit", KEY),
        ("run", "prompts.jsonl", "--model", "m", "--base-url", f"http://h/v1#api_key={KEY}"),
        (KEY,),
    ],
)
def test_the_last_line_repeats_no_key(folder: Path, arguments: tuple[str, ...]) -> None:
    ended = run(*arguments, cwd=folder)
    assert ended.code in (2, 4), ended
    assert "canary" not in ended.out + ended.err
    assert "[redacted]" in ended.err


# -- misspelt variables


def test_a_misspelt_variable_is_named(folder: Path, server: Simulated) -> None:
    env = {"RUNNER_MAX_TOKEN": "3", "RUNNER_QQQQQQQ": "1", "RUNNER_OS": "Linux", "RUNNER_TRACEBACK": "1", "RUNNER_DB": "r.db"}
    sentences = (
        "RUNNER_MAX_TOKEN is set, but runner has no such variable; did you mean RUNNER_MAX_TOKENS?",
        "RUNNER_QQQQQQQ is set, but runner has no such variable",
    )
    ran = run(*at(server), cwd=folder, env=env)
    assert ran.code == 0, ran
    # a run that is finished says it too
    again = run(*at(server), cwd=folder, env=env)
    for ended, text in [
        (ran, ran.out),
        (again, again.out),
        *((one, one.err) for one in (run(*words, cwd=folder, env=env) for words in OTHERS)),
    ]:
        assert ended.code == 0, ended
        for sentence in sentences:
            assert (ended.out + ended.err).count(sentence) == 1, ended
            assert sentence in text
        for name in ("RUNNER_OS", "RUNNER_TRACEBACK is", "RUNNER_DB is"):
            assert name not in text


@pytest.mark.parametrize(
    ("value", "shown"), [("1", True), ("yes", True), ("0", False), ("false", False), ("No", False), ("", False)]
)
def test_a_traceback_is_shown_where_it_was_asked_for(folder: Path, server: Simulated, value: str, shown: bool) -> None:
    assert run(*at(server), cwd=folder).code == 0
    (folder / "broken.py").write_text("def write(columns, records, out):\n    raise RuntimeError('no')\n")
    command, env = ("export", "--format", "broken", "-o", "answers.txt"), {"RUNNER_TRACEBACK": value}
    with runner(*command, cwd=folder, env=env) as process:
        ended = process.ended()
    assert ("Traceback" in ended.err) == shown
    assert (ended.code == 70) != shown
    assert ("RUNNER_TRACEBACK=1 shows where" in ended.err) != shown
