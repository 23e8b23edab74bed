"""The three lines of a terminal: each part has its place, nothing wraps, counts agree, and colour means nothing alone."""

import re

import pytest
from lanes import PAUSED, RETRYING, at, lane

from runner.event_types import Progress
from runner.progress import screen, words
from runner.progress.screen import Look


def places(line: str) -> list[int]:
    """Return where each word of a line ends."""
    return [match.end() for match in re.finditer(r"[a-z/]{2,}", line)]


MANY = [
    at(),
    at(lane(), rows_per_s=12.34, requests_per_s=15.1, left_s=740.0),
    at(lane(in_flight=3), done=700, failed=150, rows_per_s=999.9, requests_per_s=12_345.6, left_s=3.0, tokens_per_s=1e6),
    at(lane(waiting=PAUSED, blocked=True), retrying=RETRYING, failed=7, rows_per_s=0.04, left_s=360_000.0),
    at(lane(outage_s=5.0, waiting="server unreachable for 5 s (connect); retrying"), left_s=9.0),
]


def test_the_three_lines_of_a_calm_run() -> None:
    event = at(lane(), done=340, failed=3, rows_per_s=12.34, requests_per_s=15.1, left_s=740.0)
    assert screen.lines(event, Look(79, ascii_only=True)) == [
        " 44%  [######2       ]    440 done      3 failed    557 left     12:20 to go   ",
        "  41 of   48 open     12.3 rows/s     15.1 requests/s    1,234 tokens/s",
        "",
    ]


def test_the_last_line_tells_of_runs_that_share_the_limits() -> None:
    assert screen.lines(at(lane(shared=3)), Look(79))[2] == "limits shared by 3 runs"
    both = screen.lines(at(lane(shared=2, waiting=PAUSED, blocked=True)), Look(119))[2]
    assert both == f"{PAUSED}; limits shared by 2 runs"
    assert "limits shared by 2 runs" in words.line(at(lane(shared=2)))


@pytest.mark.parametrize("columns", [119, 79, 60, 40])
def test_every_part_has_its_place(columns: int) -> None:
    firsts, seconds = set(), set()
    for event in (*MANY, at(restored=0, done=0)):
        first, second, _ = screen.lines(event, Look(columns))
        first = re.sub(r"\[.*\]", lambda bar: " " * len(bar[0]), first)
        firsts.add((len(first), *places(first.replace("after it", "to go   "))))
        seconds.add(tuple(places(second.replace(" of ", "    "))))
    assert (len(firsts), len(seconds)) == (1, 1)


def test_where_a_price_is_known_money_comes_before_the_rates() -> None:
    event = at(lane(), rows_per_s=12.34, requests_per_s=15.1, left_s=740.0, cost=0.1234, cost_projected=4.8)
    second = screen.lines(event, Look(79))[1]
    assert second == "  41 of   48 open     12.3 rows/s  $0.12 spent, about $4.80 in all     "
    assert screen.lines(event, Look(119))[1].rstrip().endswith("15.1 requests/s    1,234 tokens/s")
    early = at(lane(), rows_per_s=12.34, left_s=740.0, cost=0.0)
    assert len(screen.lines(early, Look(79))[1]) == len(second)


@pytest.mark.parametrize("columns", range(1, 140, 3))
@pytest.mark.parametrize("rows", [3, 1_000, 10**7])
def test_nothing_wraps(columns: int, rows: int) -> None:
    for event in (*MANY, at(*(lane(f"模型-{number}", waiting=PAUSED) for number in range(4)), retrying=RETRYING, rows=rows)):
        for line in screen.lines(event, Look(columns)):
            wide = sum(2 if "\u4e00" <= character <= "\u9fff" else 1 for character in line)
            assert wide <= columns


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"restored": 0, "done": 0},
        {"restored": 30, "restored_failed": 10, "done": 5, "failed": 2},
        {"restored": 30, "restored_failed": 30, "done": 0, "failed": 0},
        # a changed row failed and keeps its answer
        {"restored": 3, "done": 5, "failed": 2, "kept": 2},
        {"rows": 112},
    ],
)
def test_done_failed_and_left_are_all_rows(fields: dict[str, int]) -> None:
    event = at(lane(), **fields)
    first = screen.lines(event, Look(79))[0].replace(",", "")
    assert sum(int(number) for number in re.findall(r"(\d+) (?:done|failed|left)", first)) == event.rows
    assert sum(event.settled_rows) == event.rows


def test_colour_is_only_added() -> None:
    event = at(lane(waiting=PAUSED), failed=2)
    plain, coloured = screen.lines(event, Look(79)), screen.lines(event, Look(79, colour=True))
    assert "\x1b" not in "".join(plain)
    assert [re.sub(r"\x1b\[\d+m", "", line) for line in coloured] == plain
    assert re.search(r"\x1b\[31m +2 failed\x1b\[0m", coloured[0])
    assert re.search(r"\x1b\[32m +112 done\x1b\[0m", coloured[0])
    assert coloured[2] == f"\x1b[33m{PAUSED}\x1b[0m"
    assert "\x1b[31m" not in screen.lines(at(lane()), Look(79, colour=True))[0]


def test_why_things_wait_and_what_is_tried_again() -> None:
    assert screen.why(at(lane())) == ""
    assert screen.why(at(lane(waiting=PAUSED), retrying=RETRYING)) == f"{PAUSED}; {RETRYING}"
    both = at(lane(waiting=PAUSED), lane("big"), lane("free", waiting="waiting for rpm"))
    assert screen.why(both) == f"gpt-5-mini: {PAUSED}; free: waiting for rpm"


def test_several_lanes_are_added_up_under_their_ceiling() -> None:
    assert screen.open_requests(at(lane(), lane("big", in_flight=2, slots=4))) == (43, 52)
    assert screen.open_requests(at(lane(slots=200, ceiling=256), lane("b", slots=200))) == (82, 256)
    assert screen.open_requests(at()) == (7, 0)


def test_foreign_words_are_shown_and_not_obeyed() -> None:
    nasty = "\x1b[2J\r\n\u202e"
    shown = "".join(
        screen.lines(at(lane(f"a{nasty}", waiting=nasty), lane(f"b{nasty}", waiting=nasty), retrying=nasty), Look(400))
    )
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202e]", shown)
    assert r"a\x1b[2J \u202e: \x1b[2J \u202e" in shown


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (at(lane(), left_s=740.0), "   12:20 to go   "),
        (at(lane()), "    -:-- to go   "),
        # nobody knows when an outage ends
        (at(lane(outage_s=4.0), left_s=740.0), "   12:20 after it"),
    ],
)
def test_the_time_left_is_said_without_pretending(event: Progress, words: str) -> None:
    assert screen.time_left(event) == words
