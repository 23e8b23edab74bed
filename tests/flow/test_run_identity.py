"""Which run a file belongs to: its rows and the settings that make answers decide, neither its path nor an address."""

import gzip
import json
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from desk import ROWS, Asked, Desk, numbered
from migrating import migrate
from processes import Ended, piped, rows, run
from raw_server import RawServer, in_thread, whole

import runner as api

FAULTY = whole("400 Bad Request", {"error": {"message": "too odd", "type": "invalid_request_error"}})
ONCE = Counter(f"prompt {one}" for one in range(ROWS))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    asked = Asked()
    folder = tmp_path / "project"
    folder.mkdir()
    with in_thread(RawServer(asked)) as server:
        desk = Desk(folder, server, asked)
        desk.write(numbered(ids=True))
        yield desk


@pytest.fixture
def moved_to(desk: Desk) -> Iterator[RawServer]:
    """The same model server under another address."""
    with in_thread(RawServer(desk.asked)) as server:
        yield server


def command(desk: Desk, name: str, *options: str, base_url: str | None = None) -> tuple[str, ...]:
    return ("run", name, "--model", "m", "--base-url", base_url or desk.server.base_url, *options)


def run_ids(desk: Desk) -> list[int]:
    return [one.id for one in api.runs(db=desk.store)]


def history(desk: Desk) -> list[tuple[Any, ...]]:
    return rows(desk.store, "SELECT run_id, what, old, new FROM history ORDER BY id")


def refused(ended: Ended) -> str:
    assert (ended.code, ended.out) == (2, ""), ended
    return ended.err


# --- the address


def test_a_server_that_moved_buys_nothing_again_and_both_ways_on_are_named(desk: Desk, moved_to: RawServer) -> None:
    desk.run("--limit", "8")
    there = command(desk, "prompts.jsonl", base_url=moved_to.base_url)
    said = refused(run(*there, cwd=desk.folder))
    way_on = f"runner resume 1 --base-url {moved_to.base_url}"
    assert f"`{way_on}`" in said
    assert "--new" in said
    assert desk.asked.total() == 8
    # what was printed works as printed, and from then on the run is there
    moved = desk.run(command=tuple(way_on.split()[1:]))
    assert f"run 1 goes on with base_url {moved_to.base_url} (before: {desk.server.base_url})" in moved
    assert desk.asked == ONCE
    assert len(moved_to.requests) == ROWS - 8
    assert history(desk) == [(1, "base_url", desk.server.base_url, moved_to.base_url)]
    assert api.runs(db=desk.store)[0].settings["base_url"] == moved_to.base_url
    assert "nothing is sent" in desk.run(command=there)
    assert "another" not in refused(run(*desk.command, cwd=desk.folder))
    assert (run_ids(desk), desk.asked) == ([1], ONCE)
    # the other way
    desk.run(command=(*there, "--new"))
    assert (run_ids(desk), desk.asked.total()) == ([1, 2], 2 * ROWS)
    # each address continues its own run
    desk.run(command=("run", "prompts.jsonl", "--model", "m", "--base-url", f"{moved_to.base_url}/"))


def test_a_finished_run_moves_too(desk: Desk, moved_to: RawServer) -> None:
    desk.run()
    there = command(desk, "prompts.jsonl", base_url=moved_to.base_url)
    refused(run(*there, cwd=desk.folder))
    desk.run(command=("resume", "1", "--base-url", moved_to.base_url))
    assert history(desk) == [(1, "base_url", desk.server.base_url, moved_to.base_url)]
    assert "nothing is sent" in desk.run(command=there)
    assert desk.asked == ONCE


def test_of_two_runs_at_two_addresses_each_address_continues_its_own(desk: Desk, moved_to: RawServer) -> None:
    there = command(desk, "prompts.jsonl", base_url=moved_to.base_url)
    desk.run()
    desk.run(command=(*there, "--new"))
    desk.write([*numbered(ids=True), {"id": "late", "prompt": "late"}])
    assert "run 1 finished" in desk.run()
    assert "run 2 finished" in desk.run(command=there)
    assert run_ids(desk) == [1, 2]


def test_a_run_without_an_answer_just_goes_on_at_another_address(desk: Desk, moved_to: RawServer) -> None:
    desk.server.answers = lambda _: whole("401 Unauthorized", {"error": {"message": "no such key"}})
    assert run(*desk.command, cwd=desk.folder).code == 3
    said = desk.run(command=command(desk, "prompts.jsonl", base_url=moved_to.base_url))
    assert f"run 1 continues at {moved_to.base_url} (before: {desk.server.base_url})" in said
    assert (run_ids(desk), desk.asked) == ([1], ONCE)
    assert history(desk) == [(1, "base_url", desk.server.base_url, moved_to.base_url)]


def test_a_slash_at_the_end_is_no_other_address(desk: Desk) -> None:
    desk.run()
    assert "nothing is sent" in desk.run(command=command(desk, "prompts.jsonl", base_url=f"{desk.server.base_url}/"))


def test_a_store_elsewhere_is_named_in_the_way_on(desk: Desk, moved_to: RawServer) -> None:
    store = ("--db", "another store.db")
    desk.run(*store)
    said = refused(run(*command(desk, "prompts.jsonl", *store, base_url=moved_to.base_url), cwd=desk.folder))
    assert f"--base-url {moved_to.base_url} --db '{desk.folder / 'another store.db'}'`" in said


def test_an_address_in_the_environment_moves_no_run_that_is_resumed(desk: Desk, moved_to: RawServer) -> None:
    desk.run("--limit", "8")
    ended = run("resume", cwd=desk.folder, env={"RUNNER_BASE_URL": moved_to.base_url})
    assert (ended.code, len(moved_to.requests), desk.asked) == (0, 0, ONCE), ended


# --- the path


def renamed(desk: Desk) -> str:
    desk.prompts.rename(desk.folder / "other.jsonl")
    return "other.jsonl"


def moved(desk: Desk) -> str:
    (desk.folder / "data").mkdir()
    desk.prompts.rename(desk.folder / "data" / "prompts.jsonl")
    return "data/prompts.jsonl"


def renamed_and_grown(desk: Desk) -> str:
    name = renamed(desk)
    with (desk.folder / name).open("a") as file:
        file.write('{"id": "late", "prompt": "late"}\n')
    return name


def renamed_and_edited(desk: Desk) -> str:
    lines = numbered(ids=True)
    lines[3]["prompt"] = "edited"
    desk.prompts.unlink()
    (desk.folder / "other.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*lines[1:], {"prompt": "late"}]))
    return "other.jsonl"


def copied(desk: Desk) -> str:
    shutil.copy(desk.prompts, desk.folder / "copy.jsonl")
    return "copy.jsonl"


def compressed(desk: Desk) -> str:
    (desk.folder / "prompts.jsonl.gz").write_bytes(gzip.compress(desk.prompts.read_bytes()))
    return "prompts.jsonl.gz"


def packed_and_grown(desk: Desk) -> str:
    more = desk.prompts.read_bytes() + b'{"id": "late", "prompt": "late"}\n'
    desk.prompts.unlink()
    (desk.folder / "prompts.jsonl.gz").write_bytes(gzip.compress(more))
    return "prompts.jsonl.gz"


def job_file(desk: Desk) -> str:
    (desk.folder / "job.toml").write_text('input = "prompts.jsonl"\n')
    return "job.toml"


def linked(desk: Desk) -> str:
    (desk.folder / "link.jsonl").symlink_to("prompts.jsonl")
    return "link.jsonl"


@pytest.mark.parametrize("done_before", ["8", str(ROWS)])
@pytest.mark.parametrize(
    ("change", "new"),
    [
        (renamed, 0), (moved, 0), (renamed_and_grown, 1), (renamed_and_edited, 1),
        (copied, 0), (compressed, 0), (packed_and_grown, 1), (job_file, 0), (linked, 0),
    ],
)  # fmt: skip
def test_the_same_rows_are_the_same_run_wherever_they_are(
    desk: Desk, change: Callable[[Desk], str], new: int, done_before: str
) -> None:
    desk.run("--limit", done_before)
    name = change(desk)
    said = desk.run(command=command(desk, name))
    assert run_ids(desk) == [1]
    assert all(times == 1 for times in desk.asked.values())
    assert desk.asked.total() == ROWS + new
    told = f"run 1 read these rows from {desk.prompts}; it continues with {desk.folder / name}"
    if new == 0 and done_before == str(ROWS) and desk.prompts.exists():
        # nothing is read in this session, and a finished run keeps its file as long as that is there
        told = f"run 1 read the same rows from {desk.prompts}, and resume and retry still do"
    assert (told in said) == (change not in (job_file, linked))
    # the changed row is reported each time
    words = "1 finished row has changed since" if change is renamed_and_edited else "nothing is sent"
    assert words in desk.run(command=command(desk, name))
    # resume and retry read the file where it is now
    desk.run(command=("resume", "1"))
    assert desk.asked.total() == ROWS + new


def test_a_run_whose_file_was_renamed_when_it_was_finished_can_be_resumed(desk: Desk) -> None:
    desk.run()
    name = renamed(desk)
    desk.run(command=command(desk, name))
    assert api.runs(db=desk.store)[0].input == str(desk.folder / name)
    assert history(desk) == [(1, "input", str(desk.prompts), str(desk.folder / name))]
    desk.run(command=("retry", "1"))


def lines_with(prompt: str, ids: str = "row") -> list[dict[str, Any]]:
    return [{"id": f"{ids}-{one}", "prompt": f"{prompt} {one}"} for one in range(ROWS)]


def write(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize("old_is_gone", [True, False])
def test_another_file_with_the_same_ids_is_never_taken_for_the_run(desk: Desk, old_is_gone: bool) -> None:
    desk.run()
    write(desk.folder / "other.jsonl", lines_with("another"))
    if old_is_gone:
        desk.prompts.unlink()
    assert "continues with" not in desk.run(command=command(desk, "other.jsonl"))
    assert run_ids(desk) == [1, 2]
    assert desk.asked == ONCE + Counter(f"another {one}" for one in range(ROWS))


@pytest.mark.parametrize("part", [numbered(ids=True)[:5], [*numbered(ids=True), {"id": "late", "prompt": "late"}]])
def test_a_part_or_a_longer_copy_beside_the_file_is_another_run(desk: Desk, part: list[dict[str, Any]]) -> None:
    desk.run()
    write(desk.folder / "part.jsonl", part)
    desk.run(command=command(desk, "part.jsonl"))
    assert run_ids(desk) == [1, 2]


def test_a_link_that_is_repointed(desk: Desk) -> None:
    """As a mounted ConfigMap, or latest.jsonl."""
    link, version = desk.folder / "latest.jsonl", desk.folder / "v2.jsonl"
    link.symlink_to("prompts.jsonl")
    latest = command(desk, "latest.jsonl")
    desk.run(command=(*latest, "--limit", "8"))
    lines = numbered(ids=True)

    def repoint(lines: list[dict[str, Any]]) -> str:
        write(version, lines)
        link.unlink()
        link.symlink_to(version.name)
        return desk.run(command=latest)

    # the same rows elsewhere; and then with one more and one changed
    shutil.copy(desk.prompts, version)
    told = f"run 1 read these rows from {desk.prompts}; it continues with {version}"
    assert told in repoint(lines)
    assert (run_ids(desk), desk.asked) == ([1], ONCE)
    version = desk.folder / "v3.jsonl"
    assert "1 finished row has changed since" in repoint([*lines[:-1], {"id": "row-11", "prompt": "changed"}, {"prompt": "late"}])
    assert (run_ids(desk), desk.asked.total()) == ([1], ROWS + 1)
    # other rows under the same ids
    version = desk.folder / "v4.jsonl"
    assert f"{link} holds none of the rows of run 1, so this starts a new run" in repoint(lines_with("another"))
    assert (run_ids(desk), desk.asked.total()) == ([1, 2], 2 * ROWS + 1)
    # the file of the first rows may be gone by now, and the link leads back to them
    desk.prompts.unlink()
    version = desk.folder / "v5.jsonl"
    repoint(lines)
    assert (run_ids(desk), desk.asked.total()) == ([1, 2], 2 * ROWS + 1)


def test_a_file_that_is_overwritten_by_other_rows_is_a_new_run_and_back_again(desk: Desk) -> None:
    desk.run()
    desk.write(lines_with("another", ids="other"))
    assert f"{desk.prompts} holds none of the rows of run 1, so this starts a new run" in desk.run()
    assert run_ids(desk) == [1, 2]
    # by name it is refused: the run would mix two sets of rows
    said = refused(run("resume", "1", cwd=desk.folder))
    assert f"{desk.prompts} holds none of the rows of run 1" in said
    desk.write(numbered(ids=True))
    assert "run 1 is finished and prompts.jsonl has not changed: nothing is sent" in desk.run()
    assert desk.asked.total() == 2 * ROWS


def test_a_file_that_is_emptied_and_filled_again_is_the_same_run(desk: Desk) -> None:
    desk.run()
    desk.write([], end="")
    assert "prompts.jsonl has no rows" in refused(run(*desk.command, cwd=desk.folder))
    assert "prompts.jsonl has no rows" in refused(run("resume", "1", cwd=desk.folder))
    desk.write(numbered(ids=True))
    desk.run()
    assert (run_ids(desk), desk.asked) == ([1], ONCE)


def test_a_row_that_is_edited_under_its_id_stays_in_the_run_though_it_is_the_only_one(desk: Desk) -> None:
    desk.write([{"id": "only", "prompt": "one"}])
    desk.run()
    desk.write([{"id": "only", "prompt": "two"}])
    assert "1 finished row has changed since" in desk.run()
    assert (run_ids(desk), desk.asked) == ([1], Counter(["one"]))


def test_standard_input_with_the_rows_of_a_file_is_its_run(desk: Desk) -> None:
    desk.run("--limit", "8")
    ended = piped(*command(desk, "-"), given=desk.prompts.read_bytes(), cwd=desk.folder)
    assert ended.code == 0, ended
    assert f"run 1 read these rows from {desk.prompts}; it continues with standard input" in ended.out
    assert (run_ids(desk), desk.asked) == ([1], ONCE)
    desk.run(command=("resume", "1"))


@pytest.mark.parametrize(
    ("twin", "limit", "change", "ids"),
    [
        ("packed", ("--limit", "5"), "grown", True),
        ("packed", ("--limit", "5"), "turned and grown", False),
        ("piped", ("--limit", "5"), "turned and grown", True),
        ("copied", ("--limit", "5"), "grown", False),
        ("copied", (), "turned and grown", True),
    ],
)
def test_the_file_of_a_run_that_has_read_a_twin_since_is_still_its_file(
    desk: Desk, twin: str, limit: tuple[str, ...], change: str, ids: bool
) -> None:
    lines = numbered(ids=ids)
    desk.write(lines)
    desk.run(*limit)
    content = desk.prompts.read_bytes()
    packed, copy = desk.folder / "prompts.jsonl.gz", desk.folder / "copy.jsonl"
    packed.write_bytes(gzip.compress(content))
    copy.write_bytes(content)
    if twin == "piped":
        piped(*command(desk, "-"), given=content, cwd=desk.folder)
    else:
        desk.run(command=command(desk, {"packed": packed.name, "copied": copy.name}[twin]))
    assert desk.asked == ONCE
    late = {"prompt": "late", **({"id": "late"} if ids else {})}
    desk.write([late, *lines[::-1]] if "turned" in change else [*lines, late])
    desk.run()
    assert (run_ids(desk), desk.asked) == ([1], ONCE + Counter(["late"]))


def test_another_store_knows_nothing_of_it(desk: Desk) -> None:
    desk.run()
    desk.run("--db", "other.db")
    assert desk.asked.total() == 2 * ROWS


def test_resume_in_a_copied_folder_reads_the_copy(desk: Desk, tmp_path: Path) -> None:
    desk.run("--limit", "8")
    copy = tmp_path / "copy"
    shutil.copytree(desk.folder, copy)
    with (copy / "prompts.jsonl").open("a") as file:
        file.write('{"id": "copy", "prompt": "of the copy"}\n')
    with desk.prompts.open("a") as file:
        file.write('{"id": "original", "prompt": "of the original"}\n')
    ended = run("resume", "1", cwd=copy)
    assert ended.code == 0, ended
    assert str(copy / "prompts.jsonl") in ended.out
    assert desk.asked["of the copy"] == 1
    assert desk.asked["of the original"] == 0
    assert api.runs(db=copy / "runner.db")[0].input == str(copy / "prompts.jsonl")
    # and so does the same command
    assert "nothing is sent" in run(*desk.command, cwd=copy).out


def test_a_store_that_is_copied_to_other_prompts_does_not_take_them_for_its_own(desk: Desk, tmp_path: Path) -> None:
    desk.run()
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(desk.store, other)
    write(other / "prompts.jsonl", lines_with("another"))
    ended = run(*desk.command, cwd=other)
    assert f"{other / 'prompts.jsonl'} holds none of the rows of run 1, so this starts a new run" in ended.out
    assert desk.asked == ONCE + Counter(f"another {one}" for one in range(ROWS))


def test_a_store_that_is_copied_alone_reads_the_file_where_it_is(desk: Desk, tmp_path: Path) -> None:
    desk.run("--limit", "8")
    (tmp_path / "backup").mkdir()
    shutil.copy(desk.store, tmp_path / "backup")
    assert run("resume", "1", cwd=tmp_path / "backup").code == 0
    assert desk.asked == ONCE


def test_a_renamed_file_of_a_finished_run_is_recognised_in_a_store_that_cannot_be_written(desk: Desk) -> None:
    desk.run()
    name = renamed(desk)
    with closing(sqlite3.connect(desk.store)) as connection, connection:
        connection.execute("CREATE TRIGGER t BEFORE UPDATE ON runs BEGIN SELECT RAISE(ABORT, 'read-only'); END")
    assert "nothing is sent" in desk.run(command=command(desk, name))
    assert desk.asked == ONCE


@pytest.mark.parametrize("limit", [8, ROWS])
def test_a_run_of_a_store_that_told_runs_apart_by_address_goes_on(desk: Desk, moved_to: RawServer, limit: int) -> None:
    there = command(desk, "prompts.jsonl", base_url=moved_to.base_url)
    desk.run("--limit", str(limit))
    desk.run(command=(*there, "--new", "--limit", str(limit)))
    migrate(desk.store, "0003")
    fingerprints = [one for (one,) in rows(desk.store, "SELECT fingerprint FROM runs")]
    assert len(set(fingerprints)) == 2
    # each address its own, as before
    desk.run()
    desk.run(command=there)
    assert (run_ids(desk), desk.asked) == ([1, 2], ONCE + ONCE)
    (one,) = {one for (one,) in rows(desk.store, "SELECT fingerprint FROM runs")}
    assert one not in fingerprints


# --- --strict


@pytest.mark.parametrize("unchanged", [True, False])
def test_strict_refuses_the_same_broken_rows_again(desk: Desk, unchanged: bool) -> None:
    lines: list[dict[str, Any]] = [*numbered(ids=True), {"id": "odd"}]
    desk.write(lines)
    desk.run(code=1)
    if not unchanged:
        desk.write([*lines, {"id": "late", "prompt": "late"}])
    for _ in range(2):
        said = refused(run(*desk.command, "--strict", cwd=desk.folder))
        assert "1 broken row, and --strict was given: line 13: no prompt and no messages" in said
    assert desk.asked == ONCE
