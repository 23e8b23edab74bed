"""Lines that are too long for a terminal break between words, and nowhere else."""

import fcntl
import io
import os
import pty
import struct
import termios

import pytest

from runner.cli.commands import cli
from runner.cli.fitting import broken, fitted

LABELLED = "  cost          $0.017, $0.0036 of it on failed attempts; perhaps up to $0.00073 more, for attempts of unknown usage"


def test_words_go_on_below_the_words_that_they_began_with() -> None:
    lines = broken(LABELLED, 60).split("\n")
    assert lines[0] == "  cost          $0.017, $0.0036 of it on failed attempts;"
    assert {line[:16] for line in lines[1:]} == {" " * 16}
    assert " ".join(line.strip() for line in lines) == LABELLED.strip()
    assert max(map(len, lines)) <= 60


@pytest.mark.parametrize(
    ("line", "columns", "lines"),
    [
        ("short", 79, ["short"]),
        ("", 79, [""]),
        ("one two three", 7, ["one two", "  three"]),
        ("    deep words here", 14, ["    deep words", "    here"]),
        # a command is copied in one piece
        ("run `runner retry 1 --model another` now", 20, ["run", "  `runner retry 1 --model another`", "  now"]),
        ("next: runner resume 1 --max-cost 0.5   (sends the other 82 rows)", 30, None),
        # a word without a place to break, and one that takes two columns a character
        ("a " + "x" * 30 + " b", 10, ["a", "  " + "x" * 30, "  b"]),
        ("名前 名前 名前", 9, ["名前 名前", "  名前"]),
        ("  first token   p50 0.50 s, p95 0.73 s", 30, ["  first token   p50 0.50 s,", "                p95 0.73 s"]),
    ],
)
def test_where_lines_break(line: str, columns: int, lines: list[str] | None) -> None:
    assert broken(line, columns) == "\n".join(lines or [line])


@pytest.mark.parametrize(("columns", "breaks"), [(80, True), (200, False), (0, False), (20, False)])
def test_only_a_terminal_that_knows_its_width_breaks_lines(columns: int, breaks: bool) -> None:
    assert fitted(LABELLED, io.StringIO()) == LABELLED
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with os.fdopen(theirs, "w", encoding="utf-8") as terminal:
        assert (fitted(LABELLED, terminal) != LABELLED) is breaks
    os.close(ours)


def test_no_command_is_told_in_half_a_sentence() -> None:
    """In a terminal of 80 columns; a command with a longer first sentence needs a ``short_help``."""
    with cli.make_context("runner", [], resilient_parsing=True, terminal_width=80) as context:
        told = cli.get_help(context).partition("Commands:\n")[2].splitlines()
    assert len(told) >= len(cli.commands)
    assert [line for line in told if line.endswith("...") and not line.endswith(", ...")] == []
