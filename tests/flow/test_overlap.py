"""A changed copy beside its original is a new run. Which of its rows are answered already is said before they are sent again."""

import json
import re
from pathlib import Path

import pytest
from desk import ROWS, Desk, numbered
from processes import assert_clean, piped, run
from raw_server import RawServer, in_thread, whole

from runner.inputs import scan
from runner.session import opening, overlap
from runner.session.identity import Given
from runner.store import runs

REFUSED = whole("400 Bad Request", {"error": {"message": "too odd", "type": "invalid_request_error"}})
SAID = "already answered in run"


def write_copy(desk: Desk, change: str) -> Path:
    """Write a changed copy beside the prompt file."""
    original, copy = desk.prompts.read_bytes(), desk.folder / "copy.jsonl"
    lines = numbered(ids="no ids" not in change)
    if "edited" in change:
        lines[3]["prompt"] = "another prompt"
    if "turned" in change:
        lines.reverse()
    if "grown" in change:
        lines.append({"id": "late", "prompt": "late"})
    desk.write(lines[: 4 if "part" in change else None])
    desk.prompts.rename(copy)
    desk.prompts.write_bytes(original)
    return copy


def run_copy(desk: Desk, *options: str, base_url: str | None = None) -> str:
    """Run the copy without the answers of others, and return the sentence about its answered rows; empty if there is none."""
    address = base_url or desk.server.base_url
    said = desk.run(command=("run", "copy.jsonl", "--model", "m", "--base-url", address, "--no-reuse", *options))
    return "".join(line for line in said.splitlines() if SAID in line)


def advised(said: str) -> tuple[str, ...]:
    """Return the command in a sentence."""
    command = re.search("`runner ([^`]*)`", said)
    assert command, said
    return tuple(command[1].split())


@pytest.mark.parametrize(
    ("change", "of", "others"),
    [
        ("turned and grown", "12 of the 13 rows", 1),
        ("grown", "12 of the 13 rows", 1),
        ("edited", "11 of the 12 rows", 1),
        ("edited, no ids", "11 of the 12 rows", 1),
        ("turned, edited and grown", "11 of the 13 rows", 2),
    ],
)
def test_a_changed_copy_names_what_is_answered_and_how_to_send_only_the_others(
    desk: Desk, change: str, of: str, others: int
) -> None:
    desk.write(numbered(ids="no ids" not in change))
    desk.run()
    copy = write_copy(desk, change)
    said = run_copy(desk)
    assert said.startswith(f"{of} of {copy} are {SAID} 1, and this new run sends them again"), said
    assert f"make the changes in {desk.prompts} and use" in said
    spent = desk.asked.total()
    # the advice holds even now that the new run has the same content
    desk.prompts.write_bytes(copy.read_bytes())
    desk.run(command=advised(said))
    assert desk.asked.total() == spent + others


def test_where_the_original_is_gone_its_place_is_named(desk: Desk) -> None:
    desk.run()
    copy = desk.prompts.rename(desk.folder / "copy.jsonl")
    mixed = [*numbered(ids=True)[:2], *({"id": f"new-{one}", "prompt": f"new {one}"} for one in range(ROWS))]
    desk.write(mixed)
    desk.prompts.rename(copy)
    said = run_copy(desk)
    assert said.startswith(f"2 of the {ROWS + 2} rows of {copy}"), said
    assert f"save the file as {desk.prompts} and use" in said
    spent = desk.asked.total()
    desk.prompts.write_bytes(copy.read_bytes())
    desk.run(command=advised(said))
    assert desk.asked.total() == spent + ROWS


@pytest.mark.parametrize(
    ("options", "begin"),
    [((), "all 4 rows of"), (("--limit", "3"), "the first 3 rows of"), (("--limit", "1"), "the first row of")],
)
def test_where_every_row_is_answered_the_way_to_the_answers_is_named(desk: Desk, options: tuple[str, ...], begin: str) -> None:
    desk.run()
    write_copy(desk, "part")
    said = run_copy(desk, *options)
    assert said.startswith(begin), said
    assert advised(said) == ("export", "1", "-o", "answers.csv")
    assert_clean(run(*advised(said), cwd=desk.folder))


def test_only_answers_count(desk: Desk) -> None:
    desk.asked.refused = {"prompt 2": REFUSED}
    desk.run("--limit", "5", code=1)
    write_copy(desk, "turned")
    assert run_copy(desk, "--limit", "7") == ""
    desk.run(command=("delete", "2", "--yes"))
    desk.asked.refused = {}
    assert run_copy(desk).startswith(f"4 of the {ROWS} rows of")


def test_rows_that_are_answered_at_another_address_are_named_too(desk: Desk) -> None:
    desk.run()
    copy = write_copy(desk, "turned and grown")
    with in_thread(RawServer(desk.asked)) as moved_to:
        said = run_copy(desk, base_url=moved_to.base_url)
        assert advised(said) == ("resume", "1", "--base-url", moved_to.base_url)
        spent = desk.asked.total()
        desk.prompts.write_bytes(copy.read_bytes())
        desk.run(command=advised(said))
    assert desk.asked.total() == spent + 1


@pytest.mark.parametrize(("limit", "again"), [((), 8), (("--limit", "7"), 3), (("--limit", "4"), 0)])
def test_of_rows_that_are_taken_over_no_other_run_is_advised(desk: Desk, limit: tuple[str, ...], again: int) -> None:
    desk.run()
    write_copy(desk, "part")
    with in_thread(RawServer(desk.asked)) as moved_to:
        run_copy(desk, base_url=moved_to.base_url)
        lines = [*reversed(numbered(ids=True)[:4]), *reversed(numbered(ids=True)[4:]), {"id": "late", "prompt": "late"}]
        third = desk.folder / "third.jsonl"
        third.write_text("".join(json.dumps(line) + "\n" for line in lines))
        spent = desk.asked.total()
        said = desk.run(command=("run", third.name, "--model", "m", "--base-url", moved_to.base_url, *limit)).splitlines()
    taken = [line.partition(" have the same")[0] for line in said if "taken over (" in line]
    assert taken == [f"4 of {limit[-1] if limit else 13} rows"]
    about = [line for line in said if SAID in line]
    assert len(about) == bool(again), about
    if again:
        assert about[0].startswith(f"{again} of the "), about
        # `runner resume 1` would send the rows of run 2 that run 1 lacks
        assert advised(about[0]) == ("export", "1", "-o", "answers.csv")
    assert desk.asked.total() == spent + again + (not limit)


def test_rows_of_standard_input_are_left_out_by_the_user(desk: Desk) -> None:
    lines = desk.prompts.read_bytes()
    assert_clean(piped("run", "-", *desk.command[2:], given=lines, cwd=desk.folder))
    write_copy(desk, "turned and grown")
    assert "to have only the others sent, leave them out: `runner export 1 -o answers.csv` writes their answers" in run_copy(desk)


@pytest.mark.parametrize("change", ["other prompts", "other model", "new"])
def test_nothing_is_said_where_nothing_is_bought_unawares(desk: Desk, change: str) -> None:
    desk.run()
    write_copy(desk, "turned")
    if change == "other prompts":
        copy = desk.folder / "copy.jsonl"
        copy.write_text(copy.read_text().replace("prompt ", "another "))
    options = {"other prompts": (), "other model": ("--model", "n"), "new": ("--new",)}[change]
    assert run_copy(desk, *options) == ""


def test_a_bounded_sample_is_looked_at(desk: Desk) -> None:
    many = [{"prompt": f"prompt {one}"} for one in range(1_200)]
    desk.write(many)
    desk.run("--limit", "2")
    # identical rows are told apart by their number
    desk.write([*many[:2], many[0], *many[2:]])
    desk.prompts.rename(desk.folder / "copy.jsonl")
    copy = opening.open_input(desk.folder / "copy.jsonl")
    given = Given(desk.store, copy, scan.measure(copy), desk.server.base_url)
    found = overlap.find(given, runs.known_runs(desk.store), limit=None)
    assert found is not None
    assert (found.answered, found.seen, found.longer, found.whole) == (2, 1_000, True, False)
    said = overlap.sentence("copy.jsonl", found, resume="", export="")
    assert said.startswith("2 of the first 1,000 rows of copy.jsonl are")
