"""What a person sees while a session goes on: the plain line, the phrases that are kept, and the bar on a real terminal."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import msgspec
import pytest
from tqdm.utils import disp_len

from runner.cli import progress
from runner.events import Progress
from runner.model import LaneState, Pace

PAUSED = "paused until 12:03:10 (429, asked by the server)"
RETRYING = "3 rows on attempt 4 of 5"


def lane(model: str = "gpt-5-mini", **more: object) -> LaneState:
    return LaneState(**{"model": model, "slots": 48, "ceiling": 256, "in_flight": 41, **more})  # type: ignore[arg-type]


def at(*lanes: LaneState, retrying: str | None = None, **more: object) -> Progress:
    fields = {"rows": 1000, "restored": 100, "done": 12, "failed": 0, "in_flight": 7, "output_tokens": 12_340, "elapsed_s": 10.0}
    return Progress(**{**fields, **more}, pace=Pace(at=1e9, lanes=lanes, retrying=retrying))  # type: ignore[arg-type]


def words(event: Progress) -> str:
    return ", ".join(words for _, words in progress.phrases(event))


# --- the words --------------------------------------------------------------------------------------------------------


def test_why_things_wait_is_told_with_the_counts() -> None:
    event = at(lane(waiting=PAUSED), retrying=RETRYING)
    assert words(event) == f"12 done, 0 failed, 41 of 48 in flight, 1,234 tokens/s, {PAUSED}, {RETRYING}"
    assert progress.line(event) == f"112 of 1,000: {words(event)}, 1.2 rows/s, 12:20 left"


def test_nothing_is_said_of_a_lane_that_does_not_wait() -> None:
    assert words(at(lane())) == "12 done, 0 failed, 41 of 48 in flight, 1,234 tokens/s"


def test_several_lanes_are_added_up_and_named_where_they_wait() -> None:
    third = lane("free", in_flight=8, slots=8, ceiling=8, waiting="waiting for rpm")
    event = at(lane(waiting=PAUSED), lane("big", in_flight=2, slots=4), third)
    assert words(event) == f"12 done, 0 failed, 51 of 60 in flight, 1,234 tokens/s, gpt-5-mini: {PAUSED}, free: waiting for rpm"


def test_without_a_lane_the_number_in_flight_is_told() -> None:
    assert "7 in flight" in words(at(elapsed_s=0.0))


def test_foreign_words_are_shown_and_not_obeyed() -> None:
    nasty = "\x1b[2J\r\n\u202e"
    shown = words(at(lane(f"a{nasty}", waiting=nasty), lane(f"b{nasty}", waiting=nasty), retrying=nasty))
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202e]", shown)
    assert r"a\x1b[2J \u202e: \x1b[2J \u202e" in shown


@pytest.mark.parametrize(
    ("columns", "kept"),
    [
        (200, f"12 done, 0 failed, 41 of 48 in flight, 1,234 tokens/s, {PAUSED}, {RETRYING}"),
        (120, f"12 done, 41 of 48 in flight, 1,234 tokens/s, {PAUSED}, {RETRYING}"),
        (100, f"41 of 48 in flight, {PAUSED}, {RETRYING}"),
        (76, f"41 of 48 in flight, {PAUSED}"),
        (50, PAUSED),
        (20, "paused until 12:03:…"),
        (1, "…"),
        (0, ""),
        (-5, ""),
    ],
)
def test_what_matters_least_goes_first(columns: int, kept: str) -> None:
    ranked = progress.phrases(at(lane(waiting=PAUSED), retrying=RETRYING))
    assert progress._kept(ranked, columns) == kept


def test_failures_stay_longer_than_places_and_one_reason_longer_than_the_others() -> None:
    ranked = progress.phrases(at(lane(waiting="waiting for rpm"), lane("b", waiting="waiting for tpm"), failed=3))
    assert progress._kept(ranked, 70) == "3 failed, gpt-5-mini: waiting for rpm, b: waiting for tpm"
    assert progress._kept(ranked, 50) == "3 failed, gpt-5-mini: waiting for rpm"
    assert progress._kept(ranked, 30) == "gpt-5-mini: waiting for rpm"


def test_without_a_reason_to_wait_nothing_is_cut_in_two() -> None:
    assert progress._kept(progress.phrases(at(lane())), 10) == ""


# --- a terminal -------------------------------------------------------------------------------------------------------

SHOW = """
import sys, msgspec
from runner.events import Progress
from runner.cli.progress import Bar
with Bar("runner.db") as bar:
    for event in msgspec.json.decode(sys.argv[1], type=list[Progress]):
        bar.tell(event)
    sys.stderr.write("|end|")
"""


def frames(columns: int, *events: Progress) -> list[str]:
    """What the bar draws on a terminal of that width, one text for each time."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    command = [sys.executable, "-c", SHOW, msgspec.json.encode(events).decode()]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
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
    shown = read.decode().partition("|end|")[0]
    assert "\n" not in shown
    return [frame for frame in shown.split("\r") if frame.strip()]


@pytest.mark.parametrize("columns", [20, 40, 80, 132])
def test_the_bar_is_one_line_on_every_terminal(columns: int) -> None:
    many = tuple(lane(f"模型-{number}", waiting=PAUSED) for number in range(4))
    events = [
        at(lane(), rows=10**7, done=123_456, output_tokens=10**9),
        at(lane(waiting=PAUSED), retrying=RETRYING),
        at(*many, failed=4),
        at(),
    ]
    shown = frames(columns, *events)
    assert len(shown) == 4
    assert max(map(disp_len, shown)) < columns


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (20, " 11%, paused until…"),
        (70, f" 11% 112/1000, {PAUSED}"),
        (80, f" 11% 112/1000 [00:00<00:00], {PAUSED}"),
        (100, f" 11% 112/1000 [00:00<00:00], 41 of 48 in flight, {PAUSED}"),
    ],
)
def test_why_things_wait_is_seen_on_a_narrow_terminal(columns: int, shown: str) -> None:
    (frame,) = frames(columns, at(lane(waiting=PAUSED)))
    assert re.sub(r"\d\d:\d\d(?=[<\]])", "00:00", frame).startswith(shown)


def test_a_wide_terminal_has_a_bar_and_every_word() -> None:
    (frame,) = frames(250, at(lane(waiting=PAUSED), retrying=RETRYING))
    assert re.match(r" 11%\|█+.* *\| 112/1000 \[", frame)
    assert frame.rstrip().endswith(f"], {words(at(lane(waiting=PAUSED), retrying=RETRYING))}")


def test_a_terminal_that_does_not_know_its_width_is_taken_for_80_columns() -> None:
    (frame,) = frames(0, at(lane()))
    assert 60 < disp_len(frame) < 80


def test_programs_are_told_the_pace_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    event = at(lane(waiting=PAUSED, limits={"rpm": 500.0}), retrying=RETRYING)
    progress.JsonLines("runner.db").tell(event)
    told = msgspec.json.decode(capsys.readouterr().out)
    assert told["event"] == "progress"
    assert msgspec.convert(told["pace"], Pace) == event.pace


def test_without_a_terminal_a_line_comes_when_the_last_one_is_old(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_S", 0.0)
    event = at(lane(waiting=PAUSED))
    progress.Lines("runner.db").tell(event)
    assert capsys.readouterr().err == progress.line(event) + "\n"
