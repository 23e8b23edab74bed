"""A Python program shows its progress where a person looks, a terminal or a notebook, and nowhere else unless it is asked to."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from lanes import at, lane
from processes import Simulated, environment, piped, said

import runner
from runner.event_types import Event, Finished, Started, Stopping
from runner.progress import watching

PROGRAM = """
import sys, threading, runner
given = dict(model="m", base_url=sys.argv[1], **eval(sys.argv[3]))
def work():
    print(runner.run(["a", "b"], **given).done)
if sys.argv[2] == "thread":
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
else:
    work()
"""


def on_a_terminal(folder: Path, url: str, where: str = "main", given: str = "{}", term: str = "xterm") -> str:
    """Return what a program writes to a terminal on its standard error; its standard output is a pipe."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", PROGRAM, url, where, given]
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=theirs, env={**environment(), "TERM": term, "NO_COLOR": "1"}
    ) as process:
        os.close(theirs)
        read = b""
        try:
            while part := os.read(ours, 4096):
                read += part
        except OSError:
            # Linux tells the end of a terminal so
            pass
        out = process.stdout.read() if process.stdout is not None else b""
        assert (process.wait(), out) == (0, b"2\n"), read
    os.close(ours)
    return read.decode()


def test_a_terminal_has_the_three_lines_of_the_command_which_are_gone_at_the_end(server: Simulated, tmp_path: Path) -> None:
    seen = on_a_terminal(tmp_path, server.openai)
    begin, _, drawn = seen.partition("run 1: a list of 2 texts in memory, 2 rows\r\n")
    # where the requests go is said before one is sent
    assert begin.startswith(f"endpoint {server.openai}, model m")
    assert "2 left" in drawn
    assert " open " in drawn
    last = drawn.rpartition("\x1b[J")[2]
    assert last.startswith("run 1 finished: 2 done, 0 failed of 2 rows in 0:0")


@pytest.mark.parametrize(
    ("where", "given", "term"),
    [
        ("thread", "{}", "xterm"), ("main", "{'progress': False}", "xterm"), ("main", "{'observe': lambda event: None}", "xterm"),
        ("main", "{}", "dumb"),
    ],
    ids=["thread", "off", "observer", "dumb"],
)  # fmt: skip
def test_a_terminal_has_nothing_where_nobody_looks_at_it(
    server: Simulated, tmp_path: Path, where: str, given: str, term: str
) -> None:
    assert on_a_terminal(tmp_path, server.openai, where, given, term) == ""


def test_a_program_that_writes_to_a_pipe_shows_nothing_unless_asked(
    server: Simulated, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    call = {"model": "m", "base_url": server.openai, "db": tmp_path / "runner.db"}
    runner.run(["a"], **call)
    assert capfd.readouterr() == ("", "")
    runner.run(["b"], progress=True, **call)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines()[1].startswith("cost unknown: no price is known for m; state one")
    assert err.splitlines()[2] == "run 2: a list of 1 text in memory, 1 row"
    assert err.splitlines()[-1].startswith("run 2 finished: 1 done, 0 failed of 1 row in ")
    runner.resume(2, progress=False, **{name: call[name] for name in ("db",)})
    assert capfd.readouterr() == ("", "")
    with pytest.raises(runner.UsageError, match="progress must be True or False"):
        runner.run(["b"], progress="no", **call)


def test_the_observer_of_the_program_hears_everything_beside_it(server: Simulated, tmp_path: Path) -> None:
    heard: list[Event] = []
    runner.run(["a"], progress=True, observe=heard.append, model="m", base_url=server.openai, db=tmp_path / "runner.db")
    assert (type(heard[0]), type(heard[-1])) == (Started, Finished)


class Closed:
    """A standard error that was closed."""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        raise ValueError("I/O operation on closed file")

    def flush(self) -> None:
        raise OSError(5, "Input/output error")


def test_what_cannot_be_shown_ends_the_showing_and_not_the_run(
    server: Simulated,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Closed())
    assert runner.run(["a"], progress=True, model="m", base_url=server.openai, db=tmp_path / "runner.db").done == 1
    monkeypatch.setattr(sys, "stderr", None)
    assert runner.run(["b"], progress=True, model="m", base_url=server.openai, db=tmp_path / "runner.db").done == 1
    assert (capsys.readouterr().out, caplog.records) == ("", [])


def test_foreign_words_are_harmless_and_a_stop_says_what_it_waits_for(capsys: pytest.CaptureFixture[str]) -> None:
    with watching.watched(True, None) as tell:
        assert tell is not None
        tell(Started(run=1, input="p\x1b[2J.jsonl", rows=2, restored=0, notes=("note \x1b]0;",)))
        tell(at(lane()))
        tell(Stopping(reason="stopped by Ctrl-C", in_flight=2, grace_s=30.0))
    said = capsys.readouterr().err
    assert "\x1b" not in said
    assert said.endswith("stopped by Ctrl-C; waiting up to 30 s for 2 open requests; interrupt again to drop them\n")


def test_the_command_shows_its_own_lines_once(server: Simulated, tmp_path: Path) -> None:
    ended = piped("run", "-", "--model", "m", "--base-url", server.openai, given=b'{"prompt":"a"}\n', cwd=tmp_path)
    assert ended.out.count("run 1: ") == 1
    assert said(ended.err) == ""
