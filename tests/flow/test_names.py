"""Names and tags of runs: given, changed, found again, and never those of two runs."""

import json
import signal
import sqlite3
from contextlib import ExitStack, closing

import pytest
from desk import Desk, numbered
from processes import Ended, count, rows, run, runner
from raw_server import whole

import runner as api


def asked(desk: Desk, *command: str) -> Ended:
    return run(*command, cwd=desk.folder)


def refused(desk: Desk, *command: str) -> str:
    """The sentence with which a command is refused, without the mark of who says it."""
    ended = asked(desk, *command)
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1), ended
    return ended.err.removeprefix("runner: ").rstrip()


def labels(desk: Desk) -> list[tuple[int, str | None, tuple[str, ...]]]:
    return [(one.id, one.name, one.tags) for one in api.runs(db=desk.store)]


def test_a_run_is_found_by_its_name_by_every_command(desk: Desk) -> None:
    desk.run("--name", "pilot", "--tag", "team=a")
    desk.run("--new")
    assert "run 1, pilot: finished" in desk.run(command=("status", "pilot"))
    assert "  tags          team=a\n" in desk.run(command=("status", "pilot"))
    assert "run 1 has no failed rows" in desk.run(command=("errors", "pilot"))
    assert desk.run(command=("show", "pilot", "1")).startswith("run 1, row ")
    assert "run 1: 12 of 12 rows written to a.csv" in desk.run(command=("export", "pilot", "a.csv"))
    assert "run 1: there are no failed rows to send again" in desk.run(command=("retry", "pilot"))
    assert "run 1 is finished" in desk.run(command=("resume", "pilot"))
    assert desk.run("--yes", command=("delete", "pilot", "2")) == "deleted: run 1, run 2\n"
    # the name is free again
    desk.run("--name", "pilot")
    assert labels(desk) == [(3, "pilot", ())]


def test_what_went_wrong_side_by_side_a_report_and_a_retry_by_names(desk: Desk) -> None:
    no = whole("400 Bad Request", {"error": {"message": "no"}})
    desk.asked.refused = {"prompt 1": no, "prompt 2": no}
    desk.run("--name", "pilot", code=1)
    del desk.asked.refused["prompt 1"]
    desk.run("--new", "--name", "second", code=1)
    assert asked(desk, "errors", "pilot").out.startswith("run 1: 2 failed rows of 12 ")
    assert asked(desk, "errors", "second").out.startswith("run 2: 1 failed row of 12 ")
    assert asked(desk, "compare", "pilot", "second").out.startswith("run 1 and run 2: 12 rows in both\n")
    # a name and a number lead to the same run
    assert "both are run 1" in refused(desk, "compare", "pilot", "1")
    assert asked(desk, "report", "second", "pilot").out == "the report of 2 runs is in report.html\n"
    assert asked(desk, "report", "pilot", "-o", "a.html").out == "the report of run 1 is in a.html\n"
    for command in (("errors", "pliot"), ("compare", "second", "pliot"), ("report", "pliot"), ("retry", "pliot")):
        assert refused(desk, *command).endswith("and 'pliot' is none of these; did you mean 'pilot'?")
    settings = {"db": desk.store}
    assert api.compare("pilot", "second", **settings).outcomes["failed_done"] == 1
    assert api.compare("pilot", 2, **settings).runs == (1, 2)
    assert api.report(desk.folder / "b.html", run_ids=["second", 1], **settings) == [2, 1]
    for wrong in (lambda: api.compare("pilot", "pliot", **settings), lambda: api.report("c.html", run_ids=["pliot"], **settings)):
        with pytest.raises(api.UsageError, match="did you mean 'pilot'"):
            wrong()
    # without a store, that is said of a name as of a number
    for command in (("status", "pilot"), ("compare", "pilot", "second"), ("report", "pilot"), ("retry", "pilot")):
        assert refused(desk, *command, "--db", "none.db").startswith("there is no store at ")
    with pytest.raises(api.UsageError, match="there is no store at "):
        api.compare("pilot", "second", db=desk.folder / "none.db")
    with pytest.raises(api.UsageError, match="run_ids must be a list"):
        api.report("c.html", run_ids="pilot", **settings)
    # only the run that is named is asked again
    desk.asked.refused = {}
    sent = desk.asked.total()
    assert asked(desk, "retry", "pilot", "--class", "bad_request").code == 0
    assert (desk.asked.total() - sent, api.status("pilot", **settings)[0].failed) == (2, 0)
    assert api.status("second", **settings)[0].failed == 1


def test_the_list_shows_names_and_tags_where_there_are_any(desk: Desk) -> None:
    desk.run("--new")
    assert desk.run(command=("list",)).startswith("run  state ")
    desk.run("--new", "--name", "pilot", "--tag", "team=a", "--tag", "draft")
    head, one, two, _ = desk.run(command=("list",)).split("\n")
    assert " ".join(head.split()) == "run name state done failed rows started model tags input"
    assert ("pilot" in one, "pilot" in two, "team=a, draft" in two) == (False, True, True)
    assert [line.split()[0] for line in desk.run("--tag", "team", command=("list",)).splitlines()] == ["run", "2"]
    assert desk.run("--tag", "team=b", command=("list",)) == "no run has this tag\n"
    assert desk.run("--tag", "team", "--tag", "other", command=("list",)) == "no run has these tags\n"


def test_a_name_makes_no_other_run_and_may_be_given_later(desk: Desk) -> None:
    desk.run("--limit", "3")
    assert "continuing run 1\n" in desk.run("--name", "pilot", "--tag", "a")
    assert labels(desk) == [(1, "pilot", ("a",))]
    # the same again, a finished run, another name, more tags
    for options, expected in (
        (("--name", "pilot"), ("pilot", ("a",))),
        (("--name", "second", "--tag", "b", "--tag", "a=1"), ("second", ("a=1", "b"))),
        ((), ("second", ("a=1", "b"))),
    ):
        assert "run 1 is finished" in desk.run(*options)
        assert labels(desk) == [(1, *expected)]
    assert rows(desk.store, "SELECT what, old, new FROM history WHERE what = 'name'") == [
        ("name", None, "pilot"),
        ("name", "pilot", "second"),
    ]


def test_a_name_that_is_taken_is_refused_before_anything_is_sent(desk: Desk) -> None:
    desk.run("--name", "pilot")
    sent = desk.asked.total()
    words = "run 1 has the name pilot already; choose another name, or give that run another one: `runner name 1 NAME`"
    assert refused(desk, *desk.command, "--new", "--name", "pilot") == words
    assert refused(desk, *desk.command, "--temperature", "1", "--name", "pilot") == words
    assert (desk.asked.total(), len(labels(desk))) == (sent, 1)
    desk.run("--new")
    assert refused(desk, "name", "2", "pilot") == words
    asked(desk, "name", "1", "first")
    assert asked(desk, "name", "2", "pilot").out == "run 2 is called pilot\n"


@pytest.mark.parametrize("name", ["12", "run:1", "a/b", "-x"])
def test_what_cannot_be_a_name_is_refused_by_each_way_to_give_one(desk: Desk, name: str) -> None:
    assert f"a run cannot be called '{name}'" in refused(desk, *desk.command, f"--name={name}")
    assert not desk.store.exists()
    desk.run()
    assert f"a run cannot be called '{name}'" in refused(desk, "name", "1", "--", name)
    with pytest.raises(api.UsageError, match="a run cannot be called"):
        api.run(desk.prompts, db=desk.store, model="m", base_url=desk.server.base_url, name=name)


def test_names_are_changed_and_taken_away(desk: Desk) -> None:
    desk.run("--name", "pilot")
    assert asked(desk, "name", "pilot", "second").out == "run 1 is called second\n"
    assert "no run" in refused(desk, "delete", "pilot", "--yes")
    assert asked(desk, "name", "second", "--remove").out == "run 1 has no name\n"
    assert asked(desk, "name", "prompts.jsonl", "third").out == "run 1 is called third\n"
    for wrong in (("third",), ("third", "fourth", "--remove")):
        assert asked(desk, "name", *wrong).code == 2
    assert refused(desk, "status", "thrid").endswith("and 'thrid' is none of these; did you mean 'third'?")
    assert refused(desk, "delete", "thrid") == "no run of runner.db has the name 'thrid'; did you mean 'third'?"


def test_tags_are_added_and_taken_away(desk: Desk) -> None:
    desk.run("--tag", "team=a")
    assert asked(desk, "tag", "1", "team=b", "draft").out == "run 1 has the tags team=b, draft\n"
    assert asked(desk, "tag", "1").out == "run 1 has the tags team=b, draft\n"
    assert refused(desk, "tag", "1", "x", "--remove", "nothing").endswith("its tags: team=b, draft")
    assert asked(desk, "tag", "1", "--remove", "team", "--remove", "draft").out == "run 1 has no tags\n"
    assert refused(desk, "tag", "1", "a b").startswith("'a b' is no tag")


def test_a_name_that_is_a_file_too(desk: Desk) -> None:
    desk.run("--name", "prompts.jsonl")
    # both lead to the same run
    assert "run 1, prompts.jsonl: finished" in desk.run(command=("status", "prompts.jsonl"))
    desk.run("--new")
    words = f"prompts.jsonl is the name of run 1, and the prompt file of run 2 of {desk.store}; name the run by its number"
    for command in (("status", "prompts.jsonl"), ("export", "prompts.jsonl", "-o", "a.csv"), ("name", "prompts.jsonl", "x")):
        assert refused(desk, *command) == words
    # a file that no run has read is in nobody's way
    asked(desk, "name", "1", "other.jsonl")
    (desk.folder / "other.jsonl").write_text('{"prompt": "a"}\n')
    assert "run 1, other.jsonl: finished" in desk.run(command=("status", "other.jsonl"))


def test_the_answers_of_a_run_by_its_name(desk: Desk) -> None:
    desk.run("--name", "pilot")
    command = ("--prompt", "Right? {{ answer }}", "--model", "m", "--base-url", desk.server.base_url)
    assert asked(desk, "check", "run:pilot", *command).code == 0
    assert asked(desk, "run", "run:pilot", *command, "-q").code == 0
    assert [one.input for one in api.runs(db=desk.store)][1] == "run:1"
    # by its number it is the same run, also once the name has gone to another one
    assert "run 2 is finished" in asked(desk, "run", "run:1", *command).out
    asked(desk, "name", "1", "first")
    assert (
        refused(desk, "run", "run:pilot", *command) == f"no run of {desk.store} has the name pilot; `runner list` shows the runs"
    )
    assert asked(desk, "try", "run:first", *command).code == 0
    (desk.folder / "judge.toml").write_text('input = "run:first"\nprompt = "Right? {{ answer }}"\nmodel = "m"\n')
    ended = asked(desk, "run", "judge.toml", "--base-url", desk.server.base_url)
    assert "run 2 is finished" in ended.out, ended
    assert "run 2: finished" in asked(desk, "status", "judge.toml").out
    # a file of that name is a file
    (desk.folder / "run:first").write_text('{"prompt": "a"}\n')
    assert json.loads(asked(desk, "check", "run:first", "--model", "m", "--json").out)["rows"] == 1


def test_python_has_the_same(desk: Desk) -> None:
    settings = {"db": desk.store, "model": "m", "base_url": desk.server.base_url}
    api.run(desk.prompts, **settings, name="pilot", tags=["team=a"])
    assert labels(desk) == [(1, "pilot", ("team=a",))]
    assert len(list(api.results("pilot", db=desk.store))) == 12
    assert api.export(desk.folder / "a.csv", run_id="pilot", db=desk.store) == 12
    assert api.status("pilot", db=desk.store)[0].id == 1
    assert api.resume("pilot", db=desk.store).finished
    assert api.retry("pilot", db=desk.store).run == 1
    assert api.name("pilot", "second", db=desk.store).name == "second"
    assert api.tag(None, ["b"], remove=["team"], db=desk.store).tags == ("b",)
    assert api.run("run:second", **settings, prompt="{{ answer }}").rows == 12
    with pytest.raises(api.UsageError, match="unknown setting 'name'"):
        api.estimate(desk.prompts, **settings, name="pilot")
    for wrong in ({"tags": "team"}, {"tags": ""}, {"tags": [1]}, {"name": 1}):
        with pytest.raises(api.UsageError):
            api.run(desk.prompts, **settings, **wrong)
    with pytest.raises(api.UsageError, match=r"no run of .* has the name 'pilot'"):
        api.results("pilot", db=desk.store)
    api.delete(["second", 2], db=desk.store)
    assert labels(desk) == []


def test_the_manifest_tells_them(desk: Desk) -> None:
    desk.run("--name", "pilot", "--tag", "team=a")
    asked(desk, "export", "-o", "a.csv", "--manifest")
    manifest = json.loads((desk.folder / "a.csv.manifest.json").read_text())
    assert (manifest["run"]["name"], manifest["run"]["tags"]) == ("pilot", ["team=a"])


def test_a_run_has_its_name_from_its_first_row_on_and_keeps_it_at_a_kill(desk: Desk) -> None:
    desk.asked.refused = {"new": whole("500 Internal Server Error", {"error": {"message": "busy"}}, retry_after="600")}
    desk.write([*numbered(ids=True), {"prompt": "new"}])
    with runner(*desk.command, "--name", "pilot", cwd=desk.folder) as process:
        process.until(lambda: count(desk.store, "attempts", where="error_code IS NOT NULL") == 1, "a failed attempt")
        # a run that is worked on may be renamed
        assert asked(desk, "name", "pilot", "second").code == 0
        process.killed()
    desk.asked.refused = {}
    assert desk.run(command=("resume", "second"))
    assert labels(desk) == [(1, "second", ())]


def test_ctrl_c_keeps_it_too(desk: Desk) -> None:
    desk.asked.refused = {"prompt 3": whole("500 Internal Server Error", {"error": {"message": "busy"}}, retry_after="600")}
    with runner(*desk.command, "--name", "pilot", cwd=desk.folder) as process:
        process.until(lambda: count(desk.store, "attempts", where="error_code IS NOT NULL") == 1, "a failed attempt")
        process.signal(signal.SIGINT)
        assert process.ended().code == 130
    assert labels(desk) == [(1, "pilot", ())]


def test_labels_that_somebody_has_damaged_are_none(desk: Desk) -> None:
    desk.run("--name", "pilot", "--tag", "a")
    for text in ("{", "[1]", '"a"', "[" * 5_000):
        with closing(sqlite3.connect(desk.store)) as connection, connection:
            connection.execute("UPDATE labels SET tags = ?", (text,))
        assert labels(desk) == [(1, "pilot", ())]
        assert asked(desk, "status", "pilot").code == 0


def test_of_two_new_runs_that_want_one_name_at_once_one_begins(desk: Desk) -> None:
    for name in ("a", "b", "c"):
        (desk.folder / f"{name}.jsonl").write_text(f'{{"prompt": "{name}"}}\n')
    options = (*desk.command[2:], "--name", "pilot")
    with ExitStack() as stack:
        begun = [stack.enter_context(runner("run", f"{name}.jsonl", *options, cwd=desk.folder)) for name in ("a", "b", "c")]
        ended = [process.ended() for process in begun]
    assert sorted(one.code for one in ended) == [0, 2, 2]
    assert all("has the name pilot already" in one.err for one in ended if one.code)
    # nothing is left of the others, and nothing was sent for them
    assert ([name for _, name, _ in labels(desk)], desk.asked.total()) == (["pilot"], 1)


def test_a_session_that_does_not_begin_names_nothing(desk: Desk) -> None:
    desk.run("--name", "pilot", "--limit", "3")
    desk.asked.refused = {"prompt 5": whole("500 Internal Server Error", {"error": {"message": "busy"}}, retry_after="600")}
    with runner(*desk.command, cwd=desk.folder) as process:
        process.until(lambda: count(desk.store, "attempts", where="error_code IS NOT NULL") == 1, "a failed attempt")
        # another process works on the run
        assert asked(desk, *desk.command, "--name", "other", "--tag", "x").code == 4
        process.killed()
    assert labels(desk) == [(1, "pilot", ())]
