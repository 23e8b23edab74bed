"""Every "next:" line, in every state of a run: the command works as printed, does what its words say, and sends no more."""

import json
import re
import shlex
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from advised import Advised, advised
from processes import Ended, assert_clean, count, rows, run, runner, said
from raw_server import HANG, RawServer, Received, Reply, in_thread, openai_answer, whole

ROWS = 12
NO_KEY = whole("401 Unauthorized", {"error": {"message": "Incorrect API key", "type": "authentication_error"}})
NO_MONEY = whole("429 Too Many Requests", {"error": {"message": "quota", "code": "insufficient_quota"}})
NO_MODEL = whole("404 Not Found", {"error": {"message": "The model does not exist", "code": "model_not_found"}})
TROUBLE = whole("500 Internal Server Error", {"error": {"message": "oops", "type": "server_error"}})
REFUSED = whole("400 Bad Request", {"error": {"message": "not this prompt", "code": "content_policy_violation"}})


class Server(Counter[str]):
    """Answers, and counts how often it received each prompt. ``trouble`` returns what it answers instead, until it is mended."""

    def __init__(self) -> None:
        super().__init__()
        self.trouble: Callable[[str, str], Reply | None] = lambda _prompt, _model: None
        self.address = ""

    def __call__(self, request: Received) -> Reply:
        prompt, model = request.json["messages"][0]["content"], request.json["model"]
        self[prompt] += 1
        return self.trouble(prompt, model) or openai_answer(f"echo {prompt}")


class Place(NamedTuple):
    folder: Path
    server: Server
    # options of the store
    db: tuple[str, ...] = ()

    def run(self, *options: str) -> Ended:
        where = ("--base-url", self.server.address, "--concurrency", "2", "--attempts", "1")
        return run("run", "my prompts.jsonl", "--model", "m", *where, *self.db, *options, cwd=self.folder)

    def write(self, lines: list[str]) -> None:
        (self.folder / "my prompts.jsonl").write_text("".join(f"{line}\n" for line in lines))

    def follow(self, one: Advised) -> Ended:
        """Run a printed command in the same folder; it sends what it says, and nothing else."""
        before = self.server.total()
        ended = run(*one.arguments, cwd=self.folder)
        sent = self.server.total() - before
        assert sent <= one.rows, (one, sent)
        assert ended.code in (0, 1), ended
        return ended


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    server = Server()
    with in_thread(RawServer(server)) as raw:
        server.address = raw.base_url
        there = Place(tmp_path, server)
        there.write([json.dumps({"id": f"r{number}", "prompt": f"p{number}"}) for number in range(ROWS)])
        yield there


def some(reply: Reply) -> Callable[[str, str], Reply | None]:
    """Return trouble with two of the prompts."""
    return lambda prompt, _: reply if prompt in ("p1", "p3") else None


def done(place: Place) -> int:
    (folder,) = [path for path in place.folder.iterdir() if path.suffix == ".db"]
    return count(folder, "items", "status = 'done'")


def mend(place: Place) -> None:
    place.server.trouble = lambda _prompt, _model: None


@pytest.mark.parametrize("db", [(), ("--db", "my store.db")], ids=["default store", "another store"])
def test_a_finished_run_is_exported(place: Place, db: tuple[str, ...]) -> None:
    place = place._replace(db=db)
    ended = place.run()
    (one,) = advised(ended.out)
    assert (ended.code, one.arguments[0], one.words) == (0, "export", "writes 12 rows")
    assert place.follow(one).out == "run 1: 12 of 12 rows written to answers.csv\n"
    assert (place.folder / "answers.csv").exists()


def test_a_limit_that_was_asked_for_is_no_trouble(place: Place) -> None:
    ended = place.run("--limit", "5")
    assert ended.code == 0
    assert "5 of 12 done, as asked by --limit" in ended.out
    status, listing, errors = (run(command, cwd=place.folder).out for command in ("status", "list", "errors"))
    assert status.startswith("run 1: limited\n  stopped       as asked by --limit\n")
    assert " limited " in listing
    assert "was stopped" not in errors
    assert "not finished" not in ended.out
    (one,) = advised(ended.out)
    assert (one.arguments, one.rows) == (("resume", "1"), 7)
    place.follow(one)
    assert (done(place), place.server.total()) == (12, 12)


def test_rows_that_one_session_chooses_leave_the_others_to_the_run(place: Place) -> None:
    place.server.trouble = some(TROUBLE)
    place.run("--limit", "4")
    mend(place)
    ended = run("retry", "--where", "id == 'r1'", cwd=place.folder)
    assert "run 1: retrying 1 failed row: 1 server_error (r1)\n" in ended.out
    assert "3 done, 1 failed, 8 left of 12 rows, as asked by --where or --sample;" in ended.out
    ended = run("resume", "--where", "prompt in ('p5', 'p6')", cwd=place.folder)
    assert "5 done, 1 failed, 6 left of 12 rows, as asked by --where or --sample;" in ended.out
    status = run("status", cwd=place.folder).out
    assert status.startswith("run 1: limited\n  stopped       as asked by --where or --sample\n")
    assert "5 done, 1 failed, 6 left of 12\n" in status
    (one,) = [one for one in advised(ended.out) if one.arguments[0] == "resume"]
    assert one.rows == 6
    place.follow(one)
    assert (done(place), place.server.total()) == (11, 13)
    # a finished run stays finished
    ended = run("retry", "--where", "id == 'r3'", cwd=place.folder)
    assert "run 1 finished: 12 done, 0 failed of 12 rows" in ended.out


def test_a_broken_row_that_one_session_does_not_choose_stays(place: Place) -> None:
    place.write(['{"id": "r1", "prompt": "p1"}', '{"id": "r2"}'])
    place.server.trouble = some(TROUBLE)
    assert "0 done, 2 failed of 2 rows" in place.run().out
    mend(place)
    ended = run("retry", "--where", "id == 'r1'", cwd=place.folder)
    assert "run 1 finished: 1 done, 1 failed of 2 rows" in ended.out


def test_rows_that_are_not_chosen_count_as_what_they_are(place: Place) -> None:
    place.server.trouble = some(TROUBLE)
    place.run()
    ended = place.run("--where", "id == 'r2'")
    assert "run 1 finished: 10 done, 2 failed of 12 rows" in ended.out
    assert "11 rows are not among the chosen rows" in ended.out


@pytest.mark.parametrize("db", [(), ("--db", "my store.db")], ids=["default store", "another store"])
def test_failed_rows_that_may_succeed_are_retried(place: Place, db: tuple[str, ...]) -> None:
    place = place._replace(db=db)
    place.server.trouble = some(TROUBLE)
    ended = place.run()
    assert ended.code == 1
    again, export = advised(ended.out)
    assert (again.arguments[:2], again.rows) == (("retry", "1"), 2)
    assert export.words == "writes 10 done and 2 failed rows"
    place.follow(export)
    mend(place)
    place.follow(again)
    assert (done(place), place.server.total()) == (12, 14)


@pytest.mark.parametrize("retry_first", [True, False])
def test_behind_a_limit_failed_rows_are_named_and_nothing_else_is_sent(place: Place, retry_first: bool) -> None:
    place.server.trouble = some(TROUBLE)
    ended = place.run("--limit", "5")
    assert ended.code == 1
    assert "3 done, 2 failed, 7 left of 12 rows, as asked by --limit" in ended.out
    assert "2 rows failed (2 server_error)" in ended.out
    again, rest = advised(ended.out)
    assert (again.arguments, again.rows, rest.arguments, rest.rows) == (("retry", "1"), 2, ("resume", "1"), 7)
    mend(place)
    place.follow(again if retry_first else rest)
    assert done(place) == (5 if retry_first else 10)
    place.follow(rest if retry_first else again)
    assert (done(place), place.server.total()) == (12, 14)


def test_rows_that_the_model_refuses_are_shown_first(place: Place) -> None:
    place.server.trouble = some(REFUSED)
    ended = place.run()
    why, export = advised(ended.out)
    assert (why.arguments, why.rows, export.arguments[0]) == (("errors", "1"), 0, "export")
    shown = place.follow(why)
    assert "2 x content_policy" in shown.out
    mend(place)
    again, _ = advised(shown.out)
    assert (again.arguments, again.rows) == (("retry", "1"), 2)
    place.follow(again)
    assert done(place) == 12


def test_broken_lines_are_named_and_sent_once_they_are_mended(place: Place) -> None:
    good = (place.folder / "my prompts.jsonl").read_text().splitlines()
    place.write([*good[:4], "not json", *good[5:]])
    ended = place.run()
    assert "11 done, 1 failed of 12 rows" in ended.out
    why, _ = advised(ended.out)
    shown = place.follow(why)
    assert "line 5" in shown.out
    again, _ = advised(shown.out)
    # as printed it sends nothing while the line is as it was
    assert place.follow(again).code == 1
    place.write(good)
    place.follow(again)
    assert (done(place), place.server.total()) == (12, 12)


@pytest.mark.parametrize("reply", [NO_KEY, NO_MONEY], ids=["key", "money"])
def test_a_run_that_was_stopped_goes_on_once_the_cause_is_mended(place: Place, reply: Reply) -> None:
    place.server.trouble = lambda _prompt, _model: reply
    ended = run(
        "run", "my prompts.jsonl", "--model", "m", "--base-url", place.server.address, "--concurrency", "2", cwd=place.folder
    )
    assert ended.code == 3
    (one,) = advised(ended.out)
    assert (one.arguments, one.rows) == (("resume", "1"), 12)
    for command in ("status", "errors"):
        out = run(command, cwd=place.folder).out
        assert advised(out) == [one]
    mend(place)
    place.follow(one)
    assert done(place) == 12


def test_with_a_wrong_model_another_one_is_named(place: Place) -> None:
    place.server.trouble = lambda _prompt, model: None if model == "NAME" else NO_MODEL
    ended = place.run("--temperature", "0.5", "--system", "It's short", "--stop", "a", "--stop", "b")
    assert ended.code == 3
    (one,) = advised(ended.out)
    assert one.rows == 12
    assert advised(run("status", cwd=place.folder).out) == [one]
    place.follow(one)
    assert done(place) == 12
    kept = ("temperature", "system", "stop", "base_url", "attempts")
    ((settings,),) = rows(place.folder / "runner.db", "SELECT settings FROM runs")
    then = {"temperature": 0.5, "system": "It's short", "stop": ["a", "b"], "base_url": place.server.address, "attempts": 1}
    assert {name: json.loads(settings)[name] for name in kept} == then


def test_one_reason_is_printed_once_and_nothing_is_said_of_what_is_unknown(place: Place) -> None:
    place.server.trouble = lambda _prompt, _model: NO_KEY
    ended = place.run()
    assert ended.code == 3
    assert (ended.err + ended.out).count("Incorrect API key") == 1
    # but of the price, at the start
    assert ended.out.count("unknown") == ended.out.count("cost unknown: no price is known for m; state one") == 1
    assert "not measured" not in ended.out
    assert said(ended.err).startswith("runner: ")
    quiet = place.run("--quiet")
    assert (quiet.out, quiet.err.count("Incorrect API key"), quiet.code) == ("", 1, 3)
    told = place.run("--json")
    assert (told.err.count("Incorrect API key"), told.code) == (1, 3)


@pytest.mark.parametrize("how", ["signal", "deadline"])
def test_an_interrupted_run_goes_on_with_the_rows_that_are_left(place: Place, how: str) -> None:
    def hang(prompt: str, _: str) -> Reply | None:
        return Reply((HANG,)) if prompt in ("p5", "p6") else None

    place.server.trouble = hang
    options = ("--deadline", "2") if how == "deadline" else ()
    where = ("--base-url", place.server.address, "--concurrency", "2")
    with runner("run", "my prompts.jsonl", "--model", "m", *where, *options, cwd=place.folder) as process:
        # the deadline may come before them, and the run does not end without it either
        if how == "signal":
            process.until(lambda: {"p5", "p6"} <= set(place.server), "the hanging requests")
            # SIGTERM: a SIGINT is ignored where the tests run in the background
            process.signal(signal.SIGTERM)
            process.until(lambda: "Ctrl-C to drop them" in process.out, "the first signal")
            process.signal(signal.SIGTERM)
        ended = process.ended()
    assert_clean(ended)
    assert ended.code == (3 if how == "deadline" else 143)
    (one,) = advised(ended.out)
    left = ROWS - done(place)
    assert (one.arguments, one.rows) == (("resume", "1"), left)
    assert f"{done(place)} done, 0 failed, {left} left of 12 rows" in ended.out
    # status says the same of it
    (same,) = advised(run("status", cwd=place.folder).out)
    assert (same.arguments, same.rows) == (one.arguments, one.rows)
    mend(place)
    place.follow(one)
    assert done(place) == 12


def test_three_signals_leave_no_summary_and_the_next_command(place: Place) -> None:
    place.server.trouble = lambda prompt, _: Reply((HANG,)) if prompt in ("p5", "p6") else None
    where = ("--base-url", place.server.address, "--concurrency", "2", "--db", "my store.db")
    with runner("run", "my prompts.jsonl", "--model", "m", *where, cwd=place.folder) as process:
        process.until(lambda: {"p5", "p6"} <= set(place.server), "the hanging requests")
        for _ in range(3):
            process.signal(signal.SIGTERM)
        ended = process.ended()
    assert_clean(ended)
    (one,) = advised(ended.out)
    assert one.arguments == ("resume", "1", "--db", "my store.db")
    assert ended.code in (130, 143)
    mend(place)
    assert run(*one.arguments, cwd=place.folder).code == 0
    assert done(place) == 12


def test_rows_that_have_changed_are_told_of_once(place: Place) -> None:
    place.run("--limit", "5")
    file = place.folder / "my prompts.jsonl"
    file.write_text(file.read_text().replace('"p3"', '"other"'))
    assert place.run().out.count("1 finished row has changed since") == 1


def test_a_run_that_is_going_on_is_watched_to_its_end(place: Place) -> None:
    place.server.trouble = lambda prompt, _: Reply((HANG,)) if prompt == "p9" else None
    where = ("--base-url", place.server.address, "--concurrency", "2")
    with runner("run", "my prompts.jsonl", "--model", "m", *where, cwd=place.folder) as process:
        process.until(lambda: place.server["p11"] and done(place) == 11, "all but one row")
        shown = run("status", cwd=place.folder)
        assert "11 done, 0 failed, 1 left of 12" in shown.out
        (one,) = advised(shown.out)
        assert one.arguments == ("status", "1", "--watch")
        with runner(*one.arguments, cwd=place.folder) as watching:
            watching.until(lambda: watching.out.count("running") >= 2, "two looks")
            process.signal(signal.SIGTERM)
            process.signal(signal.SIGTERM)
            watched = watching.ended()
        process.ended()
    assert watched.code == 0
    assert "last update" in watched.out
    assert advised(watched.out)[-1].arguments == ("resume", "1")


def test_status_and_errors_advise_what_works(place: Place) -> None:
    place.server.trouble = some(TROUBLE)
    place.run()
    for command in ("status", "errors"):
        out = run(command, cwd=place.folder).out
        for one in advised(out):
            assert place.follow(one).code == (0 if one.arguments[0] == "export" else 1)
    out = run("errors", cwd=place.folder).out
    assert "`runner retry 1`" in out


def _commands(out: str) -> list[list[str]]:
    """Return every whole command that is named in the sentences of an output."""
    return [shlex.split(words)[1:] for words in re.findall(r"`(runner [^`]*)`", out)]


@pytest.mark.parametrize("db", [(), ("--db", "my store.db")], ids=["default store", "another store"])
@pytest.mark.parametrize("quiet", [False, True], ids=["shown", "quiet"])
def test_what_a_stop_advises_is_about_its_run_and_its_store(place: Place, db: tuple[str, ...], *, quiet: bool) -> None:
    run("run", "my prompts.jsonl", "--provider", "simulator", "-q", cwd=place.folder)
    place.server.trouble = lambda _prompt, _model: whole("400 Bad Request", {"error": {"message": "bad thing", "type": "bad"}})
    number = "1" if db else "2"
    place = place._replace(db=db)
    place.write([json.dumps({"id": f"other {row}", "prompt": f"other {row}"}) for row in range(30)])
    ended = place.run(*(["-q"] if quiet else []))
    assert ended.code == 3
    told = [ended.err + ended.out, *(run(command, *db, cwd=place.folder).out for command in ("status", "errors"))]
    for out in told:
        # an error names the store by its whole path
        named = _commands(out.replace(f"{place.folder}/my", "my"))
        assert ["retry", number, *db] in named
        assert all(words[1:] == [number, *db] for words in named), named
    first, rest = advised(told[1])
    assert advised(told[2]) == [first, rest]
    assert (first.arguments, rest.arguments) == (("retry", number, *db), ("resume", number, *db))
    assert "once the rows or the settings are right" in first.words
    # other settings are options of it, and no other run begins
    mend(place)
    again = run(*first.arguments, "--temperature", "1", cwd=place.folder)
    assert again.code in (0, 1)
    run(*rest.arguments, cwd=place.folder)
    store = place.folder / (db[1] if db else "runner.db")
    assert count(store, "runs") == int(number)
    assert rows(store, "SELECT DISTINCT status FROM items WHERE run_id = ?", int(number)) == [("done",)]


@pytest.mark.parametrize(
    ("variable", "db"),
    [("env.db", "runner.db"), ("env.db", "env.db"), ("env.db", None), ("", "runner.db"), ("./runner.db", None)],
)
def test_the_store_is_named_unless_every_command_here_would_use_it(place: Place, variable: str, db: str | None) -> None:
    options, env = ("--db", db) if db else (), {"RUNNER_DB": variable}
    where = ("--base-url", place.server.address)
    run("run", "my prompts.jsonl", "--model", "m", *where, "--limit", "3", *options, cwd=place.folder, env=env)
    out = run("status", *options, cwd=place.folder, env=env).out
    (one,) = advised(out)
    # it works with the variable as it was given, and in another terminal
    for again in ({"RUNNER_DB": variable}, {}):
        shown = run("status", *one.arguments[1:], cwd=place.folder, env=again).out
        assert shown.partition("next:")[0] == out.partition("next:")[0]


@pytest.mark.parametrize("limit", [True, False])
def test_without_its_prompt_file_a_run_waits_for_it(place: Place, *, limit: bool) -> None:
    place.server.trouble = some(TROUBLE)
    place.run(*(["--limit", "5"] if limit else []))
    file = place.folder / "my prompts.jsonl"
    file.rename(place.folder / "elsewhere.jsonl")
    told = [advised(run(command, cwd=place.folder).out) for command in ("status", "errors")]
    assert told[0] == told[1]
    first, export = told[0]
    assert first.words.startswith("once the prompt file is back; sends ")
    assert export.arguments[0] == "export"
    place.follow(export)
    assert run(*first.arguments, cwd=place.folder).code == 2
    (place.folder / "elsewhere.jsonl").rename(file)
    mend(place)
    assert place.follow(first).code in (0, 1)


def test_behind_a_limit_the_same_is_advised_everywhere(place: Place) -> None:
    place.server.trouble = some(TROUBLE)
    told = [place.run("--limit", "5"), *(run(command, cwd=place.folder) for command in ("status", "errors"))]
    first, *others = [[one.arguments for one in advised(ended.out)] for ended in told]
    assert first == [("retry", "1"), ("resume", "1")]
    assert others == [first, first]


def test_a_refusal_of_all_that_is_left_is_waited_for_everywhere(place: Place) -> None:
    place.server.trouble = lambda _prompt, _model: NO_MODEL if place.server.total() > 5 else None
    place.write([json.dumps({"id": f"r{row}", "prompt": f"p{row}"}) for row in range(30)])
    where = ("--base-url", place.server.address, "--patience-s", "2")
    ended = run("run", "my prompts.jsonl", "--model", "m", *where, cwd=place.folder)
    assert ended.code == 3
    (one,) = advised(ended.out)
    assert one.words.startswith("once the server accepts such rows; sends the other ")
    for command in ("status", "errors"):
        assert advised(run(command, cwd=place.folder).out) == [one]
