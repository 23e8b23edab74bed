"""What a person or a program sees while a session goes on: lines on a real terminal, lines in a log, JSON lines."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping

import msgspec
import pytest
from lanes import PAUSED, RETRYING, at, lane

from runner.cli import output, progress
from runner.event_types import Progress, Stopping
from runner.pace import Pace
from runner.progress import words

SHOW = """
import sys, msgspec
from runner.event_types import Progress
from runner.cli.progress import choose
with choose("runner.db", quiet=False, as_json=False) as view:
    for event in msgspec.json.decode(sys.argv[1], type=list[Progress]):
        view.tell(event)
    sys.stderr.write("|end|")
sys.stderr.write("|closed|")
"""


def drawn(columns: int, *events: Progress, env: Mapping[str, str] | None = None, script: str = SHOW) -> str:
    """Return what is written to a terminal of that width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    command = [sys.executable, "-c", script, msgspec.json.encode(events).decode()]
    inherited = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    environment = {**inherited, "PYTHONIOENCODING": "utf-8", "TERM": "xterm", **(env or {})}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        read = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:
                # Linux tells the end of a terminal so
                break
            if not part:
                break
            read += part
        assert process.wait() == 0, read
    os.close(ours)
    return read.decode()


NARROWER = """
import fcntl, struct, sys, termios
""" + SHOW.replace(
    "        view.tell(event)\n",
    """        view.tell(event)
        sys.stderr.write("|narrower|")
        fcntl.ioctl(2, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 50, 0, 0))
""",
)


def test_a_terminal_that_becomes_narrower_keeps_nothing_of_the_wide_lines() -> None:
    first, second, third, _ = drawn(80, *[at(lane())] * 3, script=NARROWER).split("|narrower|")
    # the old lines, which the terminal has wrapped, are erased to the end of the screen
    assert second.startswith("\r\x1b[J")
    assert "\x1b[J" not in first + third


@pytest.mark.parametrize("columns", [20, 80, 132])
def test_a_terminal_keeps_three_lines_in_place(columns: int) -> None:
    shown = drawn(columns, at(lane(waiting=PAUSED), retrying=RETRYING), at(lane()), at(lane(), done=700))
    frames = shown.partition("|end|")[0].split("\x1b[2A\r")
    assert len(frames) == 4
    assert frames[-1] == ""
    for frame in frames[:-1]:
        lines = re.sub(r"\x1b\[(?:\d+m|K)", "", frame.replace("\r", "")).split("\n")
        assert len(lines) == 3
        assert max(map(len, lines)) < columns
    # they are gone at the end
    assert shown.endswith("|end|\r\x1b[J|closed|")


def test_colours_are_left_out_where_they_are_not_wanted() -> None:
    event = at(lane(waiting=PAUSED), failed=2)
    assert "\x1b[31m" in drawn(80, event)
    assert "\x1b[31m" not in drawn(80, event, env={"NO_COLOR": ""})
    # a terminal that cannot move its cursor gets lines as a log file does
    assert "\x1b" not in drawn(80, event, env={"TERM": "dumb"})


def test_a_terminal_that_does_not_know_its_width_is_taken_for_80_columns() -> None:
    first = re.sub(r"\x1b\[(?:\d+m|K)", "", drawn(0, at(lane()))).replace("\r", "").split("\n")[0]
    assert 60 < len(first) < 80


def test_programs_are_told_the_pace_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    event = at(lane(waiting=PAUSED, limits={"rpm": 500.0}), retrying=RETRYING)
    progress.JsonLines("runner.db").tell(event)
    told = msgspec.json.decode(capsys.readouterr().out)
    assert told["event"] == "progress"
    assert msgspec.convert(told["pace"], Pace) == event.pace


def test_a_plain_line_says_all_of_it() -> None:
    event = at(lane(waiting=PAUSED), retrying=RETRYING, failed=1, rows_per_s=1.2, requests_per_s=1.5, left_s=740.0)
    assert words.line(event) == (
        "112 done, 1 failed, 887 left of 1,000 rows; 41 of 48 open, 1.2 rows/s, 1.5 requests/s, 1,234 tokens/s; "
        f"12:20 to go; {PAUSED}; {RETRYING}"
    )
    assert "requests/s" not in words.line(at(lane(), rows_per_s=1.2, requests_per_s=1.2))
    assert "12:20 after the outage" in words.line(at(lane(outage_s=1.0), left_s=740.0))


def test_without_a_terminal_a_line_comes_when_the_last_one_is_old_and_begins_with_a_time(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_S", 0.0)
    event = at(lane(waiting=PAUSED))
    progress.Lines("runner.db").tell(event)
    (said,) = capsys.readouterr().err.splitlines()
    time, _, rest = said.partition("  ")
    assert rest == words.line(event)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S+", time)
    assert output.date(0.0).startswith("19")


def stopped(reason: str, in_flight: int, grace_s: float = 10.0, code: str | None = None) -> Stopping:
    return Stopping(reason=reason, in_flight=in_flight, grace_s=grace_s, code=code)


@pytest.mark.parametrize(
    ("event", "out", "err"),
    [
        (stopped("stopped by Ctrl-C", 8), "stopped by Ctrl-C; waiting up to 10 s for 8 open requests; Ctrl-C to drop them\n", ""),
        (stopped("stopped by SIGTERM", 1), "stopped by SIGTERM; waiting up to 10 s for 1 open request; Ctrl-C to drop it\n", ""),
        (stopped("stopped by SIGTERM", 0), "stopped by SIGTERM\n", ""),
        (stopped("stopped by Ctrl-C", 8, 0.0), "stopped by Ctrl-C\n", ""),
        (stopped("enough", 0), "stopping: enough\n", ""),
        (stopped("no money. Pay.", 8, code="billing"), "", "runner: no money. Pay.\n"),
        (stopped("\x1b[2J", 0, code="cut"), "", "runner: \\x1b[2J\n"),
    ],
)
def test_a_stop_has_one_reason_and_says_what_is_waited_for(
    event: Stopping, out: str, err: str, capsys: pytest.CaptureFixture[str]
) -> None:
    view = progress.Lines("runner.db")
    view.tell(event)
    assert tuple(capsys.readouterr()) == (out, err)
    assert view.told_why == (event.code is not None)


@pytest.mark.parametrize("lasts", [False, True])
def test_after_an_error_only_a_wait_that_lasts_is_told_and_once(
    lasts: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "WAIT_S", 0.0 if lasts else 1000.0)
    view = progress.Lines("runner.db")
    view.tell(stopped("no money. Pay.", 8, code="billing"))
    view.tell(at())
    view.tell(at())
    told = "waiting up to 10 s for 8 open requests; Ctrl-C to drop them\n" if lasts else ""
    assert tuple(capsys.readouterr()) == (told, "runner: no money. Pay.\n")
