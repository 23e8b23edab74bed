"""What is shown while a run goes on: true to a few seconds, in places that hold, with counts that agree."""

import json
import re
from pathlib import Path

import pytest
from processes import QUICK, Simulated, at, rows, run, runner, simulator, write_prompts


def test_status_is_true_to_a_few_seconds(folder: Path) -> None:
    with (
        simulator("--first-token-s", "60", "--tokens", "3") as slow,
        runner(*at(slow, "--concurrency", "2"), cwd=folder) as process,
    ):
        # nothing changes, and yet the pace is noted again and again
        noted = "SELECT json_extract(pace, '$.at') FROM runs WHERE json_extract(pace, '$.lanes[0].in_flight') = 2"
        process.until(lambda: rows(folder / "runner.db", noted), "the first note")
        ((first,),) = rows(folder / "runner.db", noted)
        process.until(lambda: rows(folder / "runner.db", noted) != [(first,)], "the next note")
        shown = run("status", cwd=folder).out
        assert re.search(r"last update   \d+ s ago", shown)
        assert "0 done, 0 failed, 10 left of 10" in shown


@pytest.mark.parametrize("options", [(), ("--limit", "7")])
def test_done_failed_and_left_are_all_rows_at_every_moment(folder: Path, server: Simulated, options: tuple[str, ...]) -> None:
    write_prompts(folder / "prompts.jsonl", range(40))
    with (folder / "prompts.jsonl").open("a") as file:
        file.write("not json\n")
    assert run(*at(server, "--limit", "5"), cwd=folder).code == 0
    ended = run(*at(server, "--json", *options), cwd=folder)
    events = [json.loads(line) for line in ended.out.splitlines()]
    progress = [event for event in events if event["event"] == "progress"]
    assert progress
    for event in progress:
        assert event["rows"] == (7 if options else 41)
        assert event["restored"] == 5
        assert event["restored"] + event["done"] + event["failed"] <= event["rows"]
    end = events[-1]
    assert end["done"] + end["failed"] + end["left"] == end["rows"] == 41
    assert (end["left"], end["limit"]) == ((34, 7) if options else (0, None))
    assert end["causes"] == ({} if options else {"bad_row": 1})


def test_a_row_larger_than_the_limit_is_named_at_the_start_and_by_check(folder: Path) -> None:
    write_prompts(folder / "prompts.jsonl", range(3))
    with (folder / "prompts.jsonl").open("a") as file:
        file.write(json.dumps({"id": "the large one", "prompt": "x" * 40_000}) + "\n")
    checked = run("check", "prompts.jsonl", "--provider", "simulator", "--tpm", "9k", cwd=folder)
    words = r"line 4 \(the large one\) has about 10,\d\d\d tokens, more than --tpm 9,000"
    assert checked.code == 0
    assert re.search(words, checked.out)
    ((line, key, tokens, kind, limit),) = json.loads(
        run("check", "prompts.jsonl", "--provider", "simulator", "--input-tpm", "9k", "--json", cwd=folder).out
    )["oversized"]
    assert (line, key, kind, limit) == (4, "the large one", "input_tpm", 9000)
    assert 10_000 < tokens < 10_100
    for options in ((), ("--tpm", "20k")):
        assert "the large one" not in run("check", "prompts.jsonl", "--provider", "simulator", *options, cwd=folder).out
    with simulator(*QUICK) as server, runner(*at(server, "--tpm", "9k"), cwd=folder) as process:
        process.until(lambda: len(rows(folder / "runner.db", "SELECT key FROM items")) == 3, "the small rows")
        assert re.search(words, process.out)
        assert server.sent() == 3
        process.killed()
