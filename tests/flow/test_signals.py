"""Signals, kills and terminals: what is paid for is kept, nothing is bought twice, and no end is ugly."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest
from processes import (
    QUICK,
    Simulated,
    Started,
    assert_clean,
    count,
    environment,
    free_port,
    rows,
    run,
    runner,
    simulator,
    until,
    write_prompts,
)

SLOW = ("--first-token-s", "0.25", "--chunk-s", "0.005", "--tokens", "20")
CONCURRENCY = 8
ENDINGS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)]
# what batch systems send some time before they kill: Slurm, Grid Engine, the limit of processor time
BATCH = [(signal.SIGUSR1, 138), (signal.SIGUSR2, 140), (signal.SIGXCPU, 152)]


def command(server: Simulated, *options: str) -> tuple[str, ...]:
    address = ("--model", "m", "--base-url", server.openai)
    return ("run", "prompts.jsonl", *address, "--concurrency", str(CONCURRENCY), *options)


def prepared(folder: Path, number: int) -> Path:
    write_prompts(folder / "prompts.jsonl", range(number))
    return folder / "runner.db"


def assert_each_row_once(store: Path, number: int) -> None:
    found = rows(store, "SELECT key, status FROM items ORDER BY position")
    assert found == [(f"row-{one}", "done") for one in range(number)]
    assert rows(store, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize(("kind", "code"), [*ENDINGS, *BATCH], ids=lambda value: getattr(value, "name", None))
def test_one_signal_lets_what_is_in_flight_finish(tmp_path: Path, kind: signal.Signals, code: int) -> None:
    store = prepared(tmp_path, 36)
    with simulator(*SLOW) as server:
        with runner(*command(server), cwd=tmp_path) as process:
            process.until(lambda: count(store) > CONCURRENCY, "the first rows")
            process.signal(kind)
            ended = process.ended()
        assert_clean(ended)
        assert ended.code == code, ended
        assert f"stopped by {'Ctrl-C' if kind == signal.SIGINT else kind.name}" in ended.out
        assert "runner resume 1" in ended.out
        kept = count(store)
        assert CONCURRENCY < kept < 36
        # all that was sent is finished and saved
        assert server.sent() == kept == count(store, "attempts")
        again = run("resume", "1", cwd=tmp_path) if kind == signal.SIGTERM else run(*command(server), cwd=tmp_path)
        assert again.code == 0, again
        assert f"{kept} already done" in again.out
        assert server.sent() == 36
    assert_each_row_once(store, 36)


def all_stalled(server: Simulated, store: Path) -> Callable[[], bool]:
    """Tell whether every slot is taken by an answer that has stalled, and all others are saved."""

    def check() -> bool:
        stats = server.stats()
        return stats["faults"].get("stall") == CONCURRENCY and count(store) == stats["requests"] - CONCURRENCY

    return check


@pytest.mark.parametrize(("kind", "code"), ENDINGS, ids=lambda value: getattr(value, "name", None))
def test_a_second_signal_gives_up_what_is_in_flight(tmp_path: Path, kind: signal.Signals, code: int) -> None:
    store = prepared(tmp_path, 100)
    with simulator(*QUICK, "--fault", "stall=0.3") as server:
        with runner(*command(server), cwd=tmp_path) as process:
            process.until(all_stalled(server, store), "eight stalled answers")
            kept = count(store)
            process.signal(kind)
            process.until(
                lambda: f"waiting up to 30 s for {CONCURRENCY} open requests; Ctrl-C to drop them" in process.out,
                "the word about the grace time",
            )
            process.signal(kind)
            # a hang here would be the grace time of 30 s
            ended = process.ended(25)
        assert_clean(ended)
        assert ended.code == code, ended
        assert "runner resume 1" in ended.out
        assert count(store) == kept
        assert rows(store, "SELECT DISTINCT status FROM items") == [("done",)]
        assert count(store, "attempts", "error_code = 'cancelled'") == CONCURRENCY
        assert count(store, "attempts") == server.sent()
        assert "8 cancelled attempts: " in run("status", cwd=tmp_path).out


def test_the_kernels_repeated_word_about_processor_time_drops_nothing(tmp_path: Path) -> None:
    store = prepared(tmp_path, 36)
    with simulator(*SLOW) as server, runner(*command(server), cwd=tmp_path) as process:
        process.until(lambda: count(store) > CONCURRENCY, "the first rows")
        for _ in range(4):
            process.signal(signal.SIGXCPU)
            process.until(lambda: True, "the next one")
        assert process.ended().code == 152
        assert server.sent() == count(store) == count(store, "attempts")


@pytest.mark.parametrize("again", ["resume", "retry"])
def test_a_batch_system_stops_the_other_commands_too(tmp_path: Path, again: str) -> None:
    store = prepared(tmp_path, 40)
    port = str(free_port())
    faults = ("--fault", "truncate=0.9") if again == "retry" else ()
    with simulator(*QUICK, "--port", port, *faults) as server:
        limit = ("--limit", "4") if again == "resume" else ()
        assert run(*command(server, "--attempts", "1", *limit), cwd=tmp_path).code == len(faults) // 2
    with simulator(*SLOW, "--port", port) as server:
        before = count(store, where="status = 'done'")
        with runner(again, "1", cwd=tmp_path) as process:
            process.until(lambda: count(store, where="status = 'done'") > before, "an answer")
            process.signal(signal.SIGUSR1)
            ended = process.ended()
        assert ended.code == 138, ended
        assert "stopped by SIGUSR1" in ended.out
        assert server.sent() == count(store, where="status = 'done'") - before < 30


WINDOWS = """
import asyncio, signal, sys
sys.modules["uvloop"] = None
def missing(*_):
    raise NotImplementedError
asyncio.SelectorEventLoop.add_signal_handler = asyncio.SelectorEventLoop.remove_signal_handler = missing
for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGPIPE"):
    delattr(signal, name)
from runner.cli.main import main
main()
"""
"""The command where an event loop takes no signals and the signals of Unix are missing, as on Windows."""


def test_a_system_without_the_signals_of_unix(tmp_path: Path) -> None:
    store = prepared(tmp_path, 36)
    with simulator(*SLOW) as server:
        arguments = [sys.executable, "-c", WINDOWS, *command(server)]
        with Started(arguments, cwd=tmp_path, env=environment()) as process:
            process.until(lambda: count(store) > CONCURRENCY, "the first rows")
            process.signal(signal.SIGINT)
            ended = process.ended()
        assert_clean(ended)
        assert ended.code == 130, ended
        assert "stopped by Ctrl-C" in ended.out
        assert server.sent() == count(store)
        with Started([*arguments, "--quiet"], cwd=tmp_path, env=environment()) as process:
            assert process.ended().code == 0


def test_a_signal_ends_the_wait_for_a_retry(tmp_path: Path) -> None:
    store = prepared(tmp_path, 20)
    with simulator(*QUICK, "--rpm", "5") as server, runner(*command(server), cwd=tmp_path) as process:
        process.until(lambda: server.stats()["refused"] and count(store) == 5, "a rate limit")
        process.signal(signal.SIGINT)
        # the server asks for a wait of 12 s and more; a hang would be a minute
        ended = process.ended()
        assert_clean(ended)
        assert ended.code == 130, ended
        assert count(store) == 5
        assert count(store, "attempts") == server.sent()


def test_killed_again_and_again_with_faults(tmp_path: Path) -> None:
    number, kills = 400, 0
    store = prepared(tmp_path, number)
    faults = [f"--fault={name}=0.05" for name in ("truncate", "disconnect", "malformed", "error_event", "500")]
    with simulator("--first-token-s", "0.02", "--chunk-s", "0.002", "--tokens", "10", *faults) as server:
        for goal in (1, 50, 100, 160, 230, 300, 370):
            again = ("resume",) if kills % 2 else command(server, "--attempts", "10")
            with runner(*again, cwd=tmp_path) as process:
                process.until(lambda goal=goal: count(store) >= goal, f"{goal} rows")
                process.killed()
            kills += 1
        ended = run(*command(server), cwd=tmp_path)
        assert ended.code == 0, ended
        assert_each_row_once(store, number)
        retries = count(store, "attempts", "error_code IS NOT NULL")
        assert count(store, "attempts") == number + retries
        lost = server.sent() - number - retries
        assert 0 <= lost <= kills * CONCURRENCY, (server.stats(), lost)


MOMENTS = {
    "at once": None,
    "imports begin": "msgspec",
    "imports go on": "aiohttp",
    "the loop": "uvloop",
    "the store": None,
    "the run": None,
}
"""Points of the start, and the extension module whose loading shows some of them."""


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_signal_during_the_start_is_quiet(tmp_path: Path, moment: str) -> None:
    store = prepared(tmp_path, 5)
    with simulator(*QUICK) as server:
        with runner(*command(server), cwd=tmp_path, fresh=True) as process:
            wait_for(moment, store, process)
            process.signal(signal.SIGINT)
            ended = process.ended()
        if moment == "at once":
            # the interpreter itself is not ready for it yet; what is ours must be
            assert "/runner/" not in ended.err
        else:
            assert_clean(ended)
            assert "KeyboardInterrupt" not in ended.err
        # before Python listens to it, the signal just ends the process; after the last answer there is nothing to end
        unready = "Could not import runpy" in ended.err or "Fatal Python error: init_" in ended.err
        early = (1,) if moment == "at once" and unready else ()
        assert ended.code in (130, -signal.SIGINT, 0, *early), ended
        again = run(*command(server), cwd=tmp_path)
        assert again.code == 0, again
        assert server.sent() == 5
    assert_each_row_once(store, 5)


def wait_for(moment: str, store: Path, process: Started) -> None:
    module = MOMENTS[moment]
    if module is not None:
        until(lambda: module in Path(f"/proc/{process.pid}/maps").read_text(), moment)
    elif moment == "the store":
        until(store.exists, moment)
    elif moment == "the run":
        until(lambda: rows(store, "SELECT 1 FROM runs WHERE pid = ?", process.pid), moment)


def test_a_signal_during_our_own_first_imports_is_quiet(tmp_path: Path) -> None:
    # found before the real one, as ``python -m`` looks into its working folder first
    (tmp_path / "click.py").write_text("import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n")
    with runner("list", cwd=tmp_path, fresh=True) as process:
        ended = process.ended()
    assert_clean(ended)
    assert ended.code in (130, -signal.SIGINT), ended


IN_A_FINALIZER = """
import os, signal, time

class Finalized:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        # it is raised here, at the latest
        time.sleep(60)

Finalized()
time.sleep(60)
"""


def test_a_signal_that_python_would_drop_is_not_lost(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text(IN_A_FINALIZER)
    with runner("list", cwd=tmp_path, fresh=True) as process:
        ended = process.ended()
    assert_clean(ended)
    assert (ended.code, ended.err) == (130, ""), ended


# a terminal


class Terminal:
    """A pty; what a process writes to it is kept."""

    def __init__(self, columns: int) -> None:
        self._master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self._said = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go()
        self.close()

    def let_go(self) -> None:
        """Close our copy of the process's end, so that its exit is seen."""
        if self.slave >= 0:
            os.close(self.slave)
            self.slave = -1

    def close(self) -> None:
        """Close the terminal, as when its window is closed."""
        if self._master >= 0:
            os.close(self._master)
            self._master = -1

    def said(self) -> str:
        """Everything written so far."""
        while select.select([self._master], [], [], 0)[0]:
            try:
                block = os.read(self._master, 1 << 16)
            except OSError:
                # the other end is closed
                break
            self._said += block
        return self._said.decode()

    def press(self, keys: bytes) -> None:
        os.write(self._master, keys)


def in_terminal(folder: Path, terminal: Terminal, *arguments: str) -> Started:
    process = runner(*arguments, cwd=folder, env={"TERM": "xterm"}, terminal=terminal.slave)
    terminal.let_go()
    return process


@pytest.mark.parametrize("columns", [100, 20])
def test_a_terminal_shows_a_bar(tmp_path: Path, columns: int) -> None:
    store = prepared(tmp_path, 30)
    with simulator(*SLOW) as server, Terminal(columns) as terminal, in_terminal(tmp_path, terminal, *command(server)) as process:
        until(lambda: terminal.said() and not process.alive, "the end")
        said = terminal.said()
        assert process.ended().code == 0, said
    assert_each_row_once(store, 30)
    assert "Traceback" not in said
    assert "run 1 finished" in said
    # colours, the rest of a line, the lines above, and what is below: nothing else moves or switches anything
    assert not re.search(r"\x1b(?!\[(?:0m|3[123]m|K|2A|J))", said), said
    plain = re.sub(r"\x1b\[\w+", "", said)
    drawn = [part for part in re.split(r"[\r\n]+", plain) if re.match(r" *\d+%| *\d+ of +\d+ open", part)]
    assert drawn, said
    assert all(len(part) < columns for part in drawn), drawn
    if columns == 100:
        assert any("open" in part for part in drawn), drawn
        assert any("[" in part and "left" in part for part in drawn), drawn


def test_ctrl_c_in_a_terminal(tmp_path: Path) -> None:
    store = prepared(tmp_path, 36)
    with simulator(*SLOW) as server:
        with Terminal(80) as terminal, in_terminal(tmp_path, terminal, *command(server)) as process:
            until(lambda: terminal.said() and count(store) > CONCURRENCY, "the first rows")
            terminal.press(b"\x03")
            until(lambda: terminal.said() and not process.alive, "the end")
            assert process.ended().code == 130
            assert "stopped by Ctrl-C; waiting up to 30 s for " in terminal.said()
            assert "runner resume 1" in terminal.said()
        assert server.sent() == count(store)


@pytest.mark.parametrize("options", [(), ("--json",), ("--quiet",)], ids=lambda value: " ".join(value) or "bar")
def test_a_closed_terminal_is_as_good_as_a_signal(tmp_path: Path, options: tuple[str, ...]) -> None:
    store = prepared(tmp_path, 36)
    with simulator(*SLOW) as server:
        with Terminal(80) as terminal, in_terminal(tmp_path, terminal, *command(server, *options)) as process:
            until(lambda: (terminal.said() or options) and count(store) > CONCURRENCY, "the first rows")
            terminal.close()
            assert process.ended().code == 143
        assert server.sent() == count(store) == count(store, "attempts")
        assert run(*command(server), cwd=tmp_path).code == 0
        assert server.sent() == 36
    assert_each_row_once(store, 36)
