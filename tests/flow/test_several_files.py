"""Several files and patterns are one input: read in order, continued when files come and go, and found again by file and line."""

import gzip
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from desk import Asked, Desk
from processes import count, run, runner
from raw_server import HANG, RawServer, Reply, in_thread, whole

import runner as package
from runner import RunnerError, api
from runner.errors import UsageError

ASK = ("--prompt", "Say: {{ text }}")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A folder with three files of three rows each, in three formats."""
    asked = Asked()
    with in_thread(RawServer(asked)) as server:
        table(tmp_path / "a.csv", range(3))
        (tmp_path / "b.jsonl").write_text("".join(f"{json.dumps(row(number))}\n" for number in range(3, 6)))
        (tmp_path / "c.csv.gz").write_bytes(gzip.compress(table(tmp_path / "c.csv", range(6, 9)).read_bytes()))
        (tmp_path / "c.csv").unlink()
        yield Desk(tmp_path, server, asked)


NAMES = ("a.csv", "b.jsonl", "c.csv.gz")


def row(number: int) -> dict[str, str]:
    return {"id": f"r{number}", "text": f"text {number}"}


def table(path: Path, numbers: range) -> Path:
    path.write_text("id,text\n" + "".join(f"r{number},text {number}\n" for number in numbers))
    return path


def settings(desk: Desk) -> tuple[str, ...]:
    return (*ASK, "--model", "m", "--base-url", desk.server.base_url)


def start(desk: Desk, *names: str, code: int = 0) -> str:
    return desk.run(command=("run", *names, *settings(desk)), code=code)


def begin(desk: Desk, *names: str | Path) -> package.Summary:
    """Run files in this process, from the folder of the desk."""
    files = [desk.folder / name for name in names]
    base_url = desk.server.base_url
    return package.run(files, db=desk.store, model="m", base_url=base_url, prompt="Say: {{ text }}")


def once(*numbers: int) -> dict[str, int]:
    return {f"Say: text {number}": 1 for number in numbers}


def refused(desk: Desk, *arguments: str) -> str:
    ended = run(*arguments, cwd=desk.folder)
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1), ended
    assert not desk.asked
    return ended.err


def exported(desk: Desk) -> list[dict[str, Any]]:
    out = desk.folder / "out.jsonl"
    package.export(out, db=desk.store)
    return [json.loads(line) for line in out.read_text().splitlines()]


def found(desk: Desk) -> list[tuple[str, str, int]]:
    return [(one["id"], one["file"], one["line"]) for one in exported(desk)]


def test_files_of_three_formats_are_one_run_in_their_order(desk: Desk) -> None:
    said = start(desk, *NAMES)
    assert f"run 1: 3 files in {desk.folder}: a.csv, b.jsonl, c.csv.gz, 9 rows" in said
    assert desk.asked == once(*range(9))
    places = [("a.csv", 2), ("a.csv", 3), ("a.csv", 4), ("b.jsonl", 1), ("b.jsonl", 2), ("b.jsonl", 3)]
    places += [("c.csv.gz", line) for line in (2, 3, 4)]
    assert found(desk) == [(f"r{number}", *place) for number, place in enumerate(places)]
    assert [(one.file, one.line) for one in api.results(db=desk.store)] == places
    assert "nothing is sent" in start(desk, *NAMES)
    desk.run(command=("resume", "1"))
    assert desk.asked == once(*range(9))
    assert "3 files in" in desk.run(command=("list",))
    assert "3 files in" in desk.run(command=("status",))
    assert "row r4 (b.jsonl, line 2): done" in desk.run(command=("show", "b.jsonl:2"))
    assert json.loads(desk.run(command=("show", "r7", "--json")))["file"] == "c.csv.gz"
    # one of its files names the run too
    assert desk.run(command=("status", "b.jsonl")).startswith("run 1: finished")


def test_the_other_commands_take_several_files(desk: Desk) -> None:
    (desk.folder / "b.jsonl").write_text("{broken\n")
    ended = run("check", *NAMES, *settings(desk), "--json", cwd=desk.folder)
    report = json.loads(ended.out)
    assert (ended.code, report["rows"], report["broken_rows"]) == (1, 7, 1)
    assert report["broken"][0][1].startswith("b.jsonl, line 1: ")
    ended = run("run", *NAMES, *settings(desk), "--dry-run", "9", "--json", cwd=desk.folder)
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert [(line["file"], line["line"]) for line in lines[2:5]] == [("a.csv", 4), ("b.jsonl", 1), ("c.csv.gz", 2)]
    (desk.folder / "job.toml").write_text('input = ["a.csv", "*.csv.gz"]\nmodel = "m"\nprompt = "Say: {{ text }}"\n')
    assert "6 rows" in desk.run(command=("run", "job.toml", "--base-url", desk.server.base_url, "-o", "all.csv"))
    assert (desk.folder / "all.csv").read_text().splitlines()[0].endswith(',"file"')
    assert desk.run(command=("status", "job.toml")).startswith("run 1: finished")
    assert desk.asked == once(0, 1, 2, 6, 7, 8)


def test_a_pattern_is_read_in_natural_order_and_takes_in_what_is_added(desk: Desk) -> None:
    (desk.folder / "deep" / "er").mkdir(parents=True)
    for number in (10, 2, 1):
        table(desk.folder / "deep" / f"part-{number}.csv", range(100 + number, 101 + number))
    table(desk.folder / "deep" / "er" / "part-3.csv", range(103, 104))
    table(desk.folder / "deep" / ".hidden.csv", range(3))
    assert "deep/part-*.csv, 3 rows" in start(desk, "deep/part-*.csv")
    assert [place for _, *place in found(desk)] == [["part-1.csv", 2], ["part-2.csv", 2], ["part-10.csv", 2]]
    table(desk.folder / "deep" / "part-3.csv", range(104, 105))
    assert "continuing" not in desk.run(command=("resume", "1"))
    assert desk.asked == once(101, 102, 104, 110)
    start(desk, "deep/**/*.csv")
    assert desk.asked == once(101, 102, 103, 104, 110)
    assert [name for _, name, _ in found(desk)] == ["er/part-3.csv", *(f"part-{number}.csv" for number in (1, 2, 3, 10))]
    assert desk.run(command=("status", "deep/**/*.csv")).startswith("run 1: finished")


def test_files_that_are_added_moved_edited_and_taken_away_are_paid_for_once(desk: Desk) -> None:
    assert begin(desk, "a.csv").rows == 3
    # at the end, before, between
    assert begin(desk, "a.csv", "b.jsonl").done_now == 3
    table(desk.folder / "0.csv", range(20, 22))
    assert begin(desk, "0.csv", "a.csv", "b.jsonl").done_now == 2
    assert begin(desk, "b.jsonl", "c.csv.gz", "a.csv", "0.csv").done_now == 3
    order = ["r3", "r4", "r5", "r6", "r7", "r8", "r0", "r1", "r2", "r20", "r21"]
    assert [one for one, _, _ in found(desk)] == order
    # a grown one, and an edited one in the middle
    with (desk.folder / "0.csv").open("a") as file:
        file.write("r22,text 22\n")
    table(desk.folder / "a.csv", range(1, 3))
    ended = begin(desk, "b.jsonl", "c.csv.gz", "a.csv", "0.csv")
    assert (ended.run, ended.done_now, ended.missing) == (1, 1, 1)
    # one that is gone leaves its rows where they were
    ended = begin(desk, "b.jsonl", "0.csv")
    assert (ended.run, ended.done_now, ended.rows, ended.missing) == (1, 0, 6, 6)
    assert {(name, one) for one, name, _ in found(desk)} >= {
        ("c.csv.gz", "r6"),
        ("0.csv", "r20"),
        ("b.jsonl", "r3"),
        ("a.csv", "r1"),
    }
    assert desk.asked == once(*range(9), 20, 21, 22)


def test_rows_that_go_over_into_another_file_are_found_there(desk: Desk) -> None:
    begin(desk, "a.csv", "b.jsonl")
    table(desk.folder / "new.csv", range(2, 5))
    table(desk.folder / "a.csv", range(2))
    assert begin(desk, "a.csv", "new.csv").done_now == 0
    # r5 is in no file any more
    expected = [("r0", "a.csv", 2), ("r1", "a.csv", 3), ("r2", "new.csv", 2), ("r3", "new.csv", 3), ("r4", "new.csv", 4)]
    assert found(desk) == [*expected, ("r5", "b.jsonl", 3)]
    (desk.folder / "b.jsonl").unlink()
    (desk.folder / "a.csv").rename(desk.folder / "moved.csv")
    (desk.folder / "new.csv").rename(desk.folder / "moved2.csv")
    assert begin(desk, "moved.csv", "moved2.csv").run == 1
    assert desk.asked == once(*range(6))


def test_a_folder_that_moved_with_its_store_continues(desk: Desk) -> None:
    start(desk, "a.csv", "b*")
    other = desk.folder.with_name("other")
    desk.folder.rename(other)
    desk.folder = other
    table(other / "b2.csv", range(30, 31))
    assert "1 done" not in desk.run(command=("resume", "1"))
    assert "nothing is sent" in start(desk, "a.csv", "b*")
    assert desk.asked == once(*range(6), 30)


def test_a_finished_run_of_which_one_file_has_gone_goes_on_where_all_are_again(desk: Desk) -> None:
    desk.asked.refused["Say: text 4"] = whole("400 Bad Request", {"error": {"message": "odd", "type": "invalid_request_error"}})
    names = ("a.csv", "b.jsonl")
    start(desk, *names, code=1)
    other = desk.folder / "other"
    other.mkdir()
    for name in names:
        (other / name).write_bytes((desk.folder / name).read_bytes())
    moved = tuple(f"other/{name}" for name in names)
    assert "and resume and retry still do" in start(desk, *moved, code=1)
    (desk.folder / "b.jsonl").unlink()
    assert "it continues with" in start(desk, *moved, code=1)
    desk.asked.refused.clear()
    assert "6 done, 0 failed" in desk.run(command=("retry", "1"))
    assert desk.asked == {**once(*range(6)), "Say: text 4": 2}


def test_other_files_are_another_run(desk: Desk) -> None:
    begin(desk, "a.csv", "b.jsonl")
    table(desk.folder / "x.csv", range(40, 42))
    assert begin(desk, "x.csv", "c.csv.gz").run == 2
    # the same bytes, divided among files in another way, are not taken for the same rows
    (desk.folder / "one.jsonl").write_text('{"id": 1, "text": "x"}\n')
    (desk.folder / "two.jsonl").write_text('{"id": 2, "text": "y"}\n')
    assert begin(desk, "one.jsonl", "two.jsonl").run == 3
    whole = (desk.folder / "one.jsonl").read_text() + (desk.folder / "two.jsonl").read_text()
    (desk.folder / "whole.jsonl").write_text(whole)
    assert begin(desk, "whole.jsonl").run == 4


def test_a_run_that_is_killed_between_its_files_pays_for_no_answer_twice(desk: Desk) -> None:
    desk.asked.refused = {"Say: text 5": Reply((HANG,))}
    with runner("run", *NAMES, *settings(desk), "--concurrency", "1", cwd=desk.folder) as process:
        process.until(lambda: desk.store.exists() and count(desk.store) == 5 and desk.asked["Say: text 5"], "five answers")
        process.signal(signal.SIGKILL)
        process.ended()
    desk.asked.refused = {}
    # a file comes before the others while the run is dead
    table(desk.folder / "0.csv", range(20, 21))
    said = start(desk, "0.csv", *NAMES)
    assert "continuing run 1\n" in said
    assert desk.asked == {**once(*range(9), 20), "Say: text 5": 2}
    assert [name for _, name, _ in found(desk)] == ["0.csv", *(name for name in NAMES for _ in range(3))]


def test_ours_are_left_out_of_a_pattern_and_said(desk: Desk) -> None:
    start(desk, "*.csv", "b.jsonl")
    assert len(exported(desk)) == 6
    # the second time the export and the store are there
    said = desk.run(command=("run", "*", *settings(desk), "-o", "out.jsonl"))
    assert "left out, as files of runner's own: out.jsonl (an export), runner.db (a store)" in said
    assert "runner.db-run1.lock (a store)" in said
    assert desk.asked == once(*range(9))
    assert len(exported(desk)) == 9
    os.link(desk.folder / "a.csv", desk.folder / "d.csv")
    (desk.folder / "e.csv").symlink_to("a.csv")
    (desk.folder / "d.csv").unlink()
    assert "e.csv is left out: it is the same file as" in start(desk, "*.csv")


def test_job_files_and_exports_of_earlier_versions_are_ours_too(desk: Desk) -> None:
    (desk.folder / "a.toml").write_text("# written by runner init\nmodel = 'x'\n")
    # of the first version, which had neither prompt nor line
    columns = (
        "id,t,text,status,finish_reason,error_code,error,served_model,input_tokens,output_tokens,cached_tokens,reasoning_tokens"
    )
    times = "attempts,time_to_first_token_s,duration_s"
    (desk.folder / "old.csv").write_text(f"{columns},{times}\nold,text 0,echo,done,stop,,,m,1,0.1,0.1,7,3,,\n")
    assert "matches nothing but files of runner's own: a.toml (a job file)" in refused(desk, "run", "a.t*", *settings(desk))
    said = desk.run(command=("run", "*", *settings(desk)))
    assert "left out, as files of runner's own: a.toml (a job file), old.csv (an export)" in said
    assert desk.asked == once(*range(9))
    # a file that is named is read whatever it holds
    assert "4 done, 0 failed of 4 rows" in desk.run(
        command=("run", "a.c*", "old.csv", *settings(desk), "--new", "--prompt", "{{ t | default(text) }}")
    )


def test_what_is_no_input_of_several_is_one_sentence(desk: Desk) -> None:
    (desk.folder / "folder").mkdir()
    (desk.folder / "job.toml").write_text('input = "a.csv"\n')
    (desk.folder / "list.toml").write_text('input = ["a.csv", "gone.csv"]\n')
    (desk.folder / "b.toml").write_text("model = 'x'\n")
    table(desk.folder / "twin.csv", range(2, 4))
    more = settings(desk)
    for names, words in {
        ("a.csv", "gone.csv"): "there is no file gone.csv",
        ("a.csv", "folder"): "folder is a folder; name its files",
        ("a.csv", "-"): "standard input (-) cannot be one of several",
        ("a.csv", "run:1"): "run:1 cannot be one of several",
        ("a.csv", "job.toml"): "job.toml is a job file, which stands alone",
        ("a.csv", "a.csv"): "are the same file; name it once",
        ("a.csv", "b.jsonl"): "b.toml holds the settings of b.jsonl alone",
        ("x*.csv",): "no file matches",
        ("a.csv", "x*.csv"): "no file matches",
        ("list.toml",): "there is no file gone.csv (input in list.toml)",
        ("a.csv", "twin.csv"): "duplicate id 'r2' in a.csv, line 4 and twin.csv, line 2",
        ("a.csv", "/dev/null"): "/dev/null is a pipe or a device",
        ("a.csv", ""): "the name of the prompt file is empty",
    }.items():
        assert words in refused(desk, "run", *names, *more), names
    assert "a.csv is one of the prompt files" in refused(desk, "run", "a.csv", "c.csv.gz", *more, "-o", "a.csv")
    assert "a.csv is one of the prompt files" in refused(desk, "run", "*.csv", *more, "-o", "a.csv")
    assert not desk.store.exists()


def test_a_prompt_file_of_a_run_over_several_is_not_overwritten(desk: Desk) -> None:
    begin(desk, "a.csv", "b.jsonl")
    with pytest.raises(UsageError, match=r"b.jsonl is a prompt file of run 1"):
        package.export(desk.folder / "b.jsonl", db=desk.store)
    (desk.folder / "b.jsonl").unlink()
    ended = run("resume", "1", cwd=desk.folder)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "there is no file" in ended.err


def test_the_rows_may_differ_and_a_row_is_broken_where_it_is(desk: Desk) -> None:
    (desk.folder / "b.jsonl").write_text('{"id": "x", "other": 1}\n')
    (desk.folder / "empty.csv").write_text("")
    ended = run("run", "a.csv", "b.jsonl", "empty.csv", *settings(desk), cwd=desk.folder)
    assert ended.code == 1
    assert [one["error"] for one in exported(desk)][3].startswith("b.jsonl, line 1: ")
    assert "b.jsonl, line 1" in desk.run(command=("errors",))
    # a table without the column of the id is named
    with pytest.raises(RunnerError, match=r"b.jsonl has no field 'text' for the id"):
        package.run(
            [desk.folder / "a.csv", desk.folder / "b.jsonl"], db=desk.store, prompt="{{ text }}", id_column="text", model="m"
        )


def test_python_takes_a_pattern_or_a_list_of_paths(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk.folder)
    how: dict[str, Any] = {"db": desk.store, "model": "m", "base_url": desk.server.base_url, "prompt": "Say: {{ text }}"}
    assert package.run("*.csv*", **how).rows == 6
    assert package.run([Path("a.csv"), Path("c.csv.gz")], **how).run == 1
    assert package.check([Path("a.csv"), Path("b.jsonl")], prompt="{{ text }}").rows == 6
    assert desk.asked == once(0, 1, 2, 6, 7, 8)
    with pytest.raises(UsageError, match=r"there is no file gone.csv"):
        package.run([Path("a.csv"), Path("gone.csv")], **how)
    # a list of texts is rows
    with pytest.raises(UsageError, match="these texts are names of files"):
        package.run(["a.csv"], **{**how, "prompt": None})
    assert package.run(["not a file"], **{**how, "prompt": None}).run == 2
    assert desk.asked["not a file"] == 1


def test_a_part_of_the_rows_of_several_files(desk: Desk) -> None:
    ended = desk.run("--where", "id in ('r1', 'r4', 'r7')", command=("run", *NAMES, *settings(desk)))
    assert "3 rows" in ended
    assert found(desk) == [("r1", "a.csv", 3), ("r4", "b.jsonl", 2), ("r7", "c.csv.gz", 3)]
    before = set(desk.asked)
    desk.run("--sample", "4", "--limit", "4", command=("run", *NAMES, *settings(desk)))
    assert len(set(desk.asked) - before) <= 4
    assert max(desk.asked.values()) == 1
