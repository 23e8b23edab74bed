"""What each command prints with ``--json`` fits its schema in ``docs/reference/json``, which allows no other keys."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import json_schemas
import jsonschema_rs
import pytest
from desk import Desk
from processes import Ended, count, piped, run, runner
from raw_server import DONE, USAGE, delta, finish, openai_answer, stream, whole

import runner as api
from runner.cli.commands import cli

PRICE = ("--prices", '{"m": {"input": 1, "output": 4}}')
OF_LINES = ("attach", "resume", "retry", "run")
"""Commands whose lines have one schema."""


def fits(name: str, value: Any) -> Any:
    """Return a value that has the schema of a command."""
    jsonschema_rs.validator_for(json.loads(json_schemas.text(name))).validate(value)
    return value


def told(folder: Path, *command: str, name: str | None = None, code: int = 0) -> Any:
    """Run a command with --json, and return what it printed, which has its schema."""
    ended = run(*command, "--json", cwd=folder)
    assert ended.code == code, ended
    return fits(name or command[0], json.loads(ended.out))


def events(ended: Ended, code: int = 0) -> list[dict[str, Any]]:
    """Return the lines of a session, each of which has its schema."""
    assert ended.code == code, ended
    return [fits("run", json.loads(line)) for line in ended.out.splitlines()]


def refused(folder: Path, *command: str, code: int = 2) -> dict[str, Any]:
    """Run a command that fails, and return the line that says why, which is all that it prints on standard output."""
    ended = run(*command, "--json", cwd=folder)
    assert (ended.code, ended.out.count("\n")) == (code, 1), ended
    said: dict[str, Any] = fits("error", json.loads(ended.out))
    assert (said["exit_code"], said["message"] in ended.err) == (code, True)
    return said


@pytest.fixture
def mixed(desk: Desk) -> Desk:
    """A run with a row that is refused, a broken one, and costs that are known and unknown."""
    desk.asked.refused = {"bad": whole("400 Bad Request", {"error": {"message": "no"}})}
    desk.write([{"id": "a", "prompt": "1", "n": 1}, {"id": "b", "prompt": "bad"}, {"id": "c"}])
    return desk


def test_the_files_are_those_of_the_code() -> None:
    assert {path.name for path in json_schemas.FOLDER.iterdir()} == {f"{name}.schema.json" for name in json_schemas.PAGES}
    for name in json_schemas.PAGES:
        written = (json_schemas.FOLDER / f"{name}.schema.json").read_text(encoding="utf-8")
        assert written == json_schemas.text(name), "`make pages` writes them"


def test_every_command_with_json_has_a_schema_and_all_that_print_have_json() -> None:
    having = {name for name, one in cli.commands.items() if any("--json" in option.opts for option in one.params)}
    # one prints a script for a shell, one speaks a protocol, and one prints nothing
    assert having == set(cli.commands) - {"completion", "mcp", "worker"}
    assert having - set(OF_LINES) <= set(json_schemas.PAGES)


def test_an_undocumented_key_does_not_fit() -> None:
    with pytest.raises(jsonschema_rs.ValidationError):
        fits("name", {"run": 1, "name": None, "tags": [], "more": 1})
    with pytest.raises(jsonschema_rs.ValidationError):
        fits("run", {"event": "noted", "note": "x", "more": 1})


def test_a_session_with_failures_and_what_is_told_of_it(mixed: Desk) -> None:
    folder, labels = mixed.folder, ("--name", "pilot", "--tag", "team=a")
    lines = events(run(*mixed.command, *labels, "--json", "-o", "a.csv", cwd=folder), code=1)
    assert [one["event"] for one in lines if one["event"] not in ("progress", "noted")] == [
        "started", "item", "item", "item", "finished", "exported",
    ]  # fmt: skip
    assert lines[-1]["files"] == [{"file": "a.csv", "format": "csv", "rows": 3, "manifest": None}]
    status = told(folder, "status", "pilot")
    assert (status["run"]["name"], status["run"]["tags"], status["books"]["unpriced_attempts"]) == ("pilot", ["team=a"], 1)
    assert {group["code"] for group in told(folder, "errors")} == {"bad_request", "bad_row"}
    assert told(folder, "list", "--tag", "team")[0]["id"] == 1
    assert [told(folder, "show", word)["status"] for word in ("a", "b", "c")] == ["done", "failed", "failed"]
    written = told(folder, "export", "pilot", "-o", "b.jsonl", "-o", "c.csv", "--manifest")
    assert [one["manifest"] for one in written["files"]] == ["b.jsonl.manifest.json", "c.csv.manifest.json"]
    # nothing is left to do; and a session that sends again, at a price that is known now
    assert events(run(*mixed.command, "--json", cwd=folder), code=1)[-1]["done"] == 1
    again = events(run("retry", "--json", *PRICE, cwd=folder), code=1)
    assert again[-1]["cost"] is not None


def test_rows_that_are_asked_again_and_their_answers_of_before(mixed: Desk) -> None:
    folder, answers = mixed.folder, mixed.asked.refused
    answers["1"] = stream(delta("cut"), finish("length"), USAGE, DONE)
    mixed.run(code=1)
    length = next(one for one in told(folder, "errors") if one["status"] == "done")
    assert (length["code"], length["ids"], length["share_of_failed"]) == ("length", ["a"], None)
    assert length["command"].startswith("runner retry 1 --class length")
    # a retry that is stopped leaves the row to be asked
    answers["1"] = whole("401 Unauthorized", {"error": {"message": "no key"}})
    lines = events(run("retry", "--class", "length", "--json", cwd=folder), code=3)
    assert next(one for one in lines if one["event"] == "finished")["retry_left"] == 1
    status = told(folder, "status")
    assert (status["books"]["retry_left"], status["time"]["total_s"] > 0) == (1, True)
    del answers["1"]
    again = events(run("resume", "--json", cwd=folder), code=1)
    assert next(one for one in again if one["event"] == "finished")["time"]["requests"] == 1
    row = told(folder, "show", "a")
    assert (row["text"], [(one["text"], one["finish_reason"]) for one in row["former"]]) == ("echo 1", [("cut", "length")])
    assert told(folder, "show", "b")["former"] == []


def test_errors_where_there_are_none_and_those_of_a_program(desk: Desk) -> None:
    desk.run()
    assert told(desk.folder, "errors") == []
    desk.asked.refused = {"bad": whole("400 Bad Request", {"error": {"message": "no"}})}
    with api.Session(db=desk.store, model="m", base_url=desk.server.base_url) as session:
        assert session.ask("bad").error_code == "bad_request"
    (cause,) = told(desk.folder, "errors")
    assert (cause["code"], cause["command"], cause["count"]) == ("bad_request", None, 1)


def test_two_runs_side_by_side_and_their_report(mixed: Desk) -> None:
    folder, answers = mixed.folder, mixed.asked.refused
    mixed.run("--name", "texts", code=1)
    for name, mood in (("one", "good"), ("two", "bad")):
        answers["1"] = openai_answer(f'{{"mood": "{mood}"}}')
        mixed.run("--new", "--name", name, "--fields", "mood: good|bad", code=1)
    found = told(folder, "compare", "one", "two", "-o", "pairs.csv")
    assert (found["rows"], found["same"], found["fields"]["mood"]["changed"]) == (3, 0, 1)
    assert found["examples"] == [
        {"id": "a", "answer_number": 1, "left": '{"mood": "good"}', "right": '{"mood": "bad"}', "fields": ["mood"]}
    ]
    found = told(folder, "compare", "texts", "two")
    assert (found["fields"], found["settings"]["schema"][0], found["cost"]) == ({}, None, [None, None])
    # no row in common
    (folder / "other.jsonl").write_text('{"id": "x", "prompt": "2"}\n')
    mixed.run(command=("run", "other.jsonl", *mixed.command[2:]))
    assert told(folder, "compare", "texts", "other.jsonl")["agreement"] is None
    assert told(folder, "report", "one", "two", "-o", "a.html") == {"file": "a.html", "runs": [2, 3]}
    assert (told(folder, "report", "-q"), (folder / "report.html").exists()) == ({"file": "report.html", "runs": [4]}, True)
    assert "name a file to write" in refused(folder, "report", "-o", "-")["message"]


def test_names_tags_and_the_end_of_a_run(mixed: Desk) -> None:
    mixed.run(code=1)
    folder = mixed.folder
    assert told(folder, "name", "1", "pilot") == {"run": 1, "name": "pilot", "tags": []}
    assert told(folder, "tag", "pilot", "team=a", "new") == {"run": 1, "name": "pilot", "tags": ["team=a", "new"]}
    given_back = told(folder, "vacuum")
    assert given_back["store"] == str(mixed.store)
    gone = told(folder, "delete", "pilot", "--yes", "--vacuum")
    assert (gone["deleted"], gone["notes"], gone["vacuumed"]["bytes_after"] > 0) == ([1], [], True)
    assert told(folder, "list") == []


def test_a_budget_that_is_reached_and_an_estimate(desk: Desk) -> None:
    budget = (*PRICE, "--max-tokens", "1000", "--max-cost", "0.0015", "--concurrency", "1")
    lines = events(run(*desk.command, *budget, "--json", cwd=desk.folder), code=5)
    finished = next(one for one in lines if one["event"] == "finished")
    assert finished["stop_code"] == "budget"
    status = told(desk.folder, "status")
    assert (status["run"]["stop_code"], status["run"]["settings"]["max_cost"]) == ("budget", 0.0015)
    found = told(desk.folder, "estimate", "prompts.jsonl", "--model", "m", "--max-tokens", "1000", *PRICE, "--new")
    assert found["cost"]["high"] > 0
    assert told(desk.folder, "estimate", "prompts.jsonl", "--model", "m")["cost"] is None


def test_what_is_looked_at_before_a_run(mixed: Desk) -> None:
    folder, settings = mixed.folder, ("--model", "m", "--base-url", mixed.server.base_url)
    checked = told(folder, "check", "prompts.jsonl", *settings, "--input-tpm", "1", code=1)
    assert (checked["rows"], checked["broken_rows"], len(checked["broken"])) == (3, 1, 1)
    config = told(folder, "run", "prompts.jsonl", *settings, "--show-config", name="show-config")
    assert config["settings"]["model"] == {"value": "m", "source": "option --model"}
    ended = run("run", "prompts.jsonl", *settings, "--dry-run", "3", "--json", cwd=folder)
    unsent = [fits("dry-run", json.loads(line)) for line in ended.out.splitlines()]
    assert [("fault" in one, one["line"]) for one in unsent] == [(False, 1), (False, 2), (True, 3)]
    assert told(folder, "try", "prompts.jsonl", *settings)["text"] == "echo 1"
    assert told(folder, "try", "bad", *settings, code=1)["error_code"] == "bad_request"
    mixed.asked.refused["key"] = whole("401 Unauthorized", {"error": {"message": "no key"}})
    assert told(folder, "try", "key", *settings, code=3)["error_code"] == "auth"
    begun = told(folder, "init", "prompts.jsonl", "--model", "m")
    assert (folder / begun["file"]).read_text() == begun["text"]
    assert told(folder, "init", "prompts.jsonl", "-o", "-")["file"] is None


def test_several_answers_of_several_files_one_of_them_taken_over(mixed: Desk) -> None:
    (mixed.folder / "more.jsonl").write_text('{"id": "d", "prompt": "4"}\n')
    mixed.run(code=1)
    files = ("run", "prompts.jsonl", "more.jsonl", *mixed.command[2:])
    lines = events(run(*files, "--answers", "2", "--new", "--reuse", "--json", cwd=mixed.folder), code=1)
    assert lines[-1]["reused"] == 1
    assert [one["answer_number"] for one in told(mixed.folder, "show", "a")] == [1, 2]
    assert told(mixed.folder, "list")[1]["answers"] == 2
    ended = run(*files, "--dry-run", "--json", cwd=mixed.folder)
    assert fits("dry-run", json.loads(ended.out))["file"] == "prompts.jsonl"


def test_a_run_that_is_worked_on_has_a_pace(desk: Desk) -> None:
    desk.asked.refused = {"prompt 3": whole("500 Internal Server Error", {"error": {"message": "busy"}}, retry_after="600")}
    with runner(*desk.command, "--json", cwd=desk.folder) as process:
        process.until(lambda: has_pace(desk.store), "a pace in the store")
        assert told(desk.folder, "status")["run"]["pace"]["lanes"]
        assert refused(desk.folder, "vacuum", code=4)["message"].startswith("run 1 is being worked on by another process")
        process.signal(2)
        lines = events(process.ended(), code=130)
    assert {"stopping", "finished"} <= {one["event"] for one in lines}


def test_a_sample_that_is_stopped_tells_what_its_rows_tell(desk: Desk) -> None:
    desk.asked.refused = {"prompt 3": whole("500 Internal Server Error", {"error": {"message": "busy"}}, retry_after="600")}
    command = ("estimate", *desk.command[1:], "--max-tokens", "9", *PRICE, "--sample", "12", "--json")
    with runner(*command, cwd=desk.folder) as process:
        process.until(lambda: count(desk.store, "attempts", where="error_code IS NOT NULL") == 1, "a failed attempt")
        process.signal(2)
        ended = process.ended()
    assert (ended.code, ended.err.count("\n")) == (130, 1), ended
    found = fits("estimate", json.loads(ended.out))
    assert (found["run"], found["rows"], found["rows_left"] > 0) == (1, 12, True)
    # what stops a session with a reason of its own is an error
    assert refused(desk.folder, *command[:-1], "--deadline", "0.1", code=3)["code"] == "deadline"
    desk.asked.refused = {}
    assert told(desk.folder, *command[:-1])["rows_left"] == 0


def has_pace(store: Path) -> bool:
    if not store.exists():
        return False
    with closing(sqlite3.connect(store)) as connection:
        try:
            return connection.execute("SELECT count(*) FROM runs WHERE pace LIKE '%in_flight%'").fetchone() == (1,)
        except sqlite3.Error:
            return False


def test_the_address_of_the_simulator_is_the_first_line(tmp_path: Path) -> None:
    with runner("simulate", "--port", "0", "--json", cwd=tmp_path) as process:
        process.until(lambda: "\n" in process.out, "its address")
        said = fits("simulate", json.loads(process.out.splitlines()[0]))
        assert said["pid"] == process.pid
        assert said["openai"].endswith("/v1")
        process.signal(2)
        process.ended()


def test_an_error_is_a_line_of_json_beside_the_sentence(desk: Desk) -> None:
    folder = desk.folder
    for command in (("status",), ("list",), ("run",), ("errors", "--nothing"), ("frobnicate",), ("export", "-o", "-")):
        refused(folder, *command)
    refused(folder, "run", "none.jsonl", "--model", "m")
    refused(folder, "delete", "1")
    # what looks like a key is hidden, as in the sentence
    assert "sk-abcdefghijklmnop" not in json.dumps(refused(folder, "run", "sk-abcdefghijklmnopqrstuvwx.jsonl"))
    desk.asked.refused = {"prompt 0": whole("401 Unauthorized", {"error": {"message": "no key"}})}
    desk.write([{"prompt": "prompt 0"}])
    lines = events(run(*desk.command, "--json", cwd=folder), code=3)
    assert (lines[-1]["event"], lines[-1]["code"]) == ("error", "auth")
    assert "finished" in [one["event"] for one in lines]
    # a name that is no text
    ended = piped("run", "x\udce4.jsonl", "--json", given=b"", cwd=folder)
    assert fits("error", json.loads(ended.out))["exit_code"] == 2
