"""The commands as a user types them: real processes, real exit codes, and the server's own count of what was sent."""

import csv
import gzip
import io
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import (
    QUICK,
    Ended,
    Simulated,
    Started,
    assert_clean,
    at,
    count,
    free_port,
    piped,
    rows,
    run,
    runner,
    said,
    simulator,
    write_prompts,
)

SYNTHETIC = ("--provider", "simulator")
KEY = "sk-canary-0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module", autouse=True)
def unreached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """A run against a port where nothing listens: it takes its time to give up, and does so beside the other tests."""
    folder = tmp_path_factory.mktemp("unreached")
    write_prompts(folder / "prompts.jsonl", range(50))
    address = f"http://127.0.0.1:{free_port()}/v1"
    with runner("run", "prompts.jsonl", "--model", "m", "--base-url", address, cwd=folder) as process:
        yield process


def settled(folder: Path, run_id: int = 1) -> list[str]:
    return [key for (key,) in rows(folder / "runner.db", "SELECT key FROM items WHERE run_id = ? ORDER BY position", run_id)]


def assert_refused(ended: Ended, *words: str) -> None:
    """One sentence on standard error, exit code 2, nothing else."""
    assert ended.code == 2, ended
    assert ended.out == ""
    for word in words:
        assert word in ended.err, ended.err


def assert_one_sentence(ended: Ended) -> None:
    assert said(ended.err).startswith("runner: "), ended.err
    assert said(ended.err).count("\n") == 1, ended.err


def events(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


# a run from its start to its end


def test_a_prompt_file_runs_as_it_is(folder: Path) -> None:
    ended = run("run", "prompts.jsonl", *SYNTHETIC, cwd=folder)
    assert ended.code == 0, ended
    assert "answers are synthetic" in ended.out.splitlines()[0]
    assert "run 1 finished: 10 done, 0 failed" in ended.out
    assert settled(folder) == [f"row-{number}" for number in range(10)]
    again = run("run", "prompts.jsonl", *SYNTHETIC, cwd=folder)
    assert again.code == 0
    assert "nothing is sent" in again.out
    assert count(folder / "runner.db", "attempts") == 10


def test_the_job_file_of_the_same_name_brings_the_settings(folder: Path) -> None:
    (folder / "prompts.toml").write_text('input = "prompts.jsonl"\nprovider = "simulator"\n[params]\nmax_tokens = 3\n')
    for name in ("prompts.jsonl", "prompts.toml"):
        ended = run("run", name, cwd=folder)
        assert ended.code == 0, ended
    assert "nothing is sent" in ended.out
    assert rows(folder / "runner.db", "SELECT DISTINCT finish_reason FROM items") == [("length",)]


def test_what_is_finished_is_not_sent_again(folder: Path, server: Simulated) -> None:
    before = server.sent()
    assert run(*at(server), cwd=folder).code == 0
    assert server.sent() == before + 10
    assert run(*at(server), cwd=folder).code == 0
    assert server.sent() == before + 10
    write_prompts(folder / "prompts.jsonl", range(14))
    ended = run(*at(server), cwd=folder)
    assert ended.code == 0
    assert "14 done, 0 failed of 14 rows" in ended.out
    assert "10 rows were already done" in ended.out
    assert server.sent() == before + 14


def test_behind_a_limit_another_run_does_not_say_that_it_sends_all(folder: Path, server: Simulated) -> None:
    assert run(*at(server), cwd=folder).code == 0
    ended = run(*at(server, "--temperature", "0.5", "--limit", "3"), cwd=folder)
    assert "so this starts a new run; rows are sent again" in ended.out
    assert len(settled(folder, 2)) == 3


def test_other_settings_are_another_run_and_it_is_said(folder: Path, server: Simulated) -> None:
    assert run(*at(server), cwd=folder).code == 0
    before = server.sent()
    ended = run(*at(server, "--temperature", "0.5"), cwd=folder)
    assert ended.code == 0
    assert "temperature (unset -> 0.5) changed since run 1, so this starts a new run; all rows are sent again" in ended.out
    assert server.sent() == before + 10
    assert settled(folder, 2) == settled(folder, 1)
    # what changes no answer changes no run
    ended = run(*at(server, "--concurrency", "3"), cwd=folder)
    assert "nothing is sent" in ended.out
    assert server.sent() == before + 10


def test_new_sends_all_again(folder: Path, server: Simulated) -> None:
    assert run(*at(server), cwd=folder).code == 0
    before = server.sent()
    ended = run(*at(server, "--new"), cwd=folder)
    assert ended.code == 0
    assert "run 2 finished" in ended.out
    assert server.sent() == before + 10


def test_a_limit_then_the_rest(folder: Path, server: Simulated) -> None:
    before = server.sent()
    ended = run(*at(server, "--limit", "4"), cwd=folder)
    assert ended.code == 0, ended
    assert settled(folder) == [f"row-{number}" for number in range(4)]
    assert server.sent() == before + 4
    ended = run(*at(server), cwd=folder)
    assert ended.code == 0, ended
    assert settled(folder) == [f"row-{number}" for number in range(10)]
    assert server.sent() == before + 10
    # a limit that the file does not reach is no reason to send anything
    assert "nothing is sent" in run(*at(server, "--limit", "4"), cwd=folder).out
    assert server.sent() == before + 10


# broken input


def break_lines(folder: Path) -> None:
    lines = (folder / "prompts.jsonl").read_text(encoding="utf-8").splitlines()
    lines[2] = '{"id": "torn", "prompt": "half'
    lines[6] = '{"id": "empty-handed"}'
    (folder / "prompts.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_broken_lines_become_error_rows(folder: Path, server: Simulated) -> None:
    break_lines(folder)
    before = server.sent()
    ended = run(*at(server), cwd=folder)
    assert ended.code == 1, ended
    assert "8 done, 2 failed" in ended.out
    assert server.sent() == before + 8
    broken = rows(folder / "runner.db", "SELECT position, error_code, error FROM items WHERE status = 'failed' ORDER BY position")
    assert [(position, code) for position, code, _ in broken] == [(3, "bad_row"), (7, "bad_row")]
    assert "line 3" in broken[0][2]
    assert "line 7" in broken[1][2]
    told = run("errors", cwd=folder)
    assert told.code == 0
    assert "2 x bad_row" in told.out
    # corrected lines are taken by the same command
    write_prompts(folder / "prompts.jsonl", range(10))
    ended = run(*at(server), cwd=folder)
    assert ended.code == 0, ended
    assert server.sent() == before + 10
    assert settled(folder) == [f"row-{number}" for number in range(10)]


def test_strict_refuses_broken_lines_before_anything_is_sent(folder: Path, server: Simulated) -> None:
    break_lines(folder)
    before = server.sent()
    ended = run(*at(server, "--strict"), cwd=folder)
    assert_refused(ended, "2 broken rows", "line 3", "line 7")
    assert_one_sentence(ended)
    assert server.sent() == before
    assert not count(folder / "runner.db", "items")


def test_ids_that_stand_twice_are_refused(folder: Path, server: Simulated) -> None:
    with (folder / "prompts.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"id": "row-4", "prompt": "another"}\n')
    before = server.sent()
    ended = run(*at(server), cwd=folder)
    assert_refused(ended, "duplicate id 'row-4' on lines 5 and 11")
    assert_one_sentence(ended)
    assert server.sent() == before


@pytest.mark.parametrize("content", [b"", b"\n \n\n", gzip.compress(b"")], ids=["empty", "blank lines", "gzip"])
def test_a_file_without_rows_is_refused(folder: Path, server: Simulated, content: bytes) -> None:
    name = "prompts.jsonl.gz" if content[:2] == b"\x1f\x8b" else "prompts.jsonl"
    (folder / name).write_bytes(content)
    command = [name if word == "prompts.jsonl" else word for word in at(server)]
    ended = run(*command, cwd=folder)
    assert_refused(ended, f"{name} has no rows, so there is nothing to send")
    assert_one_sentence(ended)
    assert not (folder / "runner.db").exists()
    checked = run("check", name, "--model", "m", cwd=folder)
    assert checked.code == 2
    assert f"`runner run` would refuse to start: {name} has no rows" in checked.out


def test_standard_input_without_rows_is_refused(folder: Path, server: Simulated) -> None:
    ended = piped("run", "-", *at(server)[2:], given=b"", cwd=folder)
    assert_refused(ended, "standard input has no rows, so there is nothing to send")
    assert_one_sentence(ended)
    assert [path.name for path in folder.iterdir()] == ["prompts.jsonl"]


# what is refused before anything is sent


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "absent.jsonl", *SYNTHETIC), ("absent.jsonl",)),
        (("run", "absent.toml"), ("absent.toml",)),
        (("run", ".", *SYNTHETIC), ("folder",)),
        (("run", "prompts.jsonl"), ("model",)),
        (("run", "prompts.jsonl", "--model", "m"), ("OPENAI_API_KEY is not set",)),
        (("run", "prompts.jsonl", "--model", "m", "--provider", "anthropic"), ("ANTHROPIC_API_KEY is not set",)),
        (("run", "prompts.jsonl", "--model", "m", "--provider", "opena"), ("opena", "openai")),
        (("run", "prompts.jsonl", *SYNTHETIC, "--concurrency", "0"), ("concurrency", "1 or more")),
        (("run", "prompts.jsonl", "--model", "m", "--base-url", "host/v1"), ("base_url", "https://")),
        (("run", "prompts.jsonl", "--model", "m", "--base-url", "http://u:p@localhost/v1"), ("user name",)),
        (
            ("run", "prompts.jsonl", "--model", "m", "--base-url", "http://ex ample/v1"),
            ("'http://ex ample/v1'", "--base-url", "whitespace"),
        ),
        (("check", "prompts.jsonl", "--model", "m", "--base-url", "http:///v1"), ("has no host", "https://host/v1")),
        (("run", "prompts.jsonl", "--model", "m", "--base-url", "http://host:80a/v1"), ("port", "1 to 65535")),
        (("check", "absent.jsonl", *SYNTHETIC), ("absent.jsonl",)),
        (("simulate", "--fault", "trunkate=0.1"), ("did you mean 'truncate'",)),
        (("simulate", "--key-env", "NO_SUCH_KEY"), ("NO_SUCH_KEY is not set",)),
    ],
    ids=lambda value: " ".join(value)[:60],
)
def test_refused_in_one_sentence(folder: Path, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    ended = run(*arguments, cwd=folder)
    assert_refused(ended, *words)
    assert_one_sentence(ended)
    assert not (folder / "runner.db").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "prompts.jsonl", "--modle", "m"), ("--modle", "--model")),
        (("rnu", "prompts.jsonl"), ("rnu",)),
        (("run",), ("FILE",)),
        (("run", "prompts.jsonl", *SYNTHETIC, "--concurrency", "many"), ("--concurrency", "many")),
        (("export",), ("--output",)),
    ],
    ids=lambda value: " ".join(value)[:60],
)
def test_refused_with_a_hint_at_the_usage(folder: Path, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    assert_refused(run(*arguments, cwd=folder), *words)


def test_an_unknown_key_of_a_job_file_is_refused_with_the_nearest(folder: Path) -> None:
    (folder / "prompts.toml").write_text('provider = "simulator"\nconcurency = 3\n')
    ended = run("run", "prompts.jsonl", cwd=folder)
    assert_refused(ended, "concurency", "did you mean 'concurrency'")
    assert_one_sentence(ended)


@pytest.mark.parametrize("command", ["list", "status", "errors", "resume", "retry", "export"])
def test_without_a_store_there_is_nothing_to_do(folder: Path, command: str) -> None:
    ended = run(command, *(["-o", "a.csv"] if command == "export" else []), cwd=folder)
    assert ended.code in (2, 4), ended
    assert_one_sentence(ended)
    assert sorted(path.name for path in folder.iterdir()) == ["prompts.jsonl"]


def test_a_store_that_is_none_is_refused(folder: Path, server: Simulated) -> None:
    (folder / "runner.db").write_text("these are my notes, do not touch\n" * 100)
    before = server.sent()
    for arguments in (at(server), ("list",), ("status",)):
        ended = run(*arguments, cwd=folder)
        assert ended.code == 4, ended
        assert_one_sentence(ended)
        assert "runner.db" in ended.err
    assert server.sent() == before
    assert (folder / "runner.db").read_text().startswith("these are my notes")


# settings


def test_options_win_over_variables_and_these_over_the_file(folder: Path) -> None:
    (folder / "prompts.toml").write_text('provider = "simulator"\nmodel = "file"\nconcurrency = 2\n[params]\nseed = 1\n')
    given = {"RUNNER_MODEL": "variable", "RUNNER_CONCURRENCY": "3", "RUNNER_MAX_TOKENS": "70", "RUNNER_STOP": '["a", "b"]'}
    ended = run("run", "prompts.jsonl", "--model", "option", "--show-config", "--json", cwd=folder, env=given)
    assert ended.code == 0, ended
    shown = json.loads(ended.out)["settings"]
    assert shown["model"] == {"value": "option", "source": "option --model"}
    assert shown["concurrency"] == {"value": 3, "source": "environment RUNNER_CONCURRENCY"}
    assert shown["params.max_tokens"]["value"] == 70
    assert shown["params.stop"]["value"] == ["a", "b"]
    assert shown["params.seed"]["value"] == 1
    assert shown["params.seed"]["source"].endswith("prompts.toml")
    assert shown["rpm"] == {"value": None, "source": "not set"}
    words = run("run", "prompts.jsonl", "--show-config", cwd=folder, env=given)
    assert words.code == 0
    assert "environment RUNNER_MODEL" in words.out
    assert not (folder / "runner.db").exists()


def test_a_variable_that_makes_no_sense_is_named(folder: Path) -> None:
    ended = run("run", "prompts.jsonl", *SYNTHETIC, cwd=folder, env={"RUNNER_CONCURRENCY": "many"})
    assert_refused(ended, "RUNNER_CONCURRENCY", "many")
    assert_one_sentence(ended)


def test_the_store_may_be_named_by_option_or_variable(folder: Path, server: Simulated) -> None:
    assert run(*at(server, "--db", "one.db", "--limit", "1"), cwd=folder).code == 0
    assert run(*at(server, "--limit", "2"), cwd=folder, env={"RUNNER_DB": "two.db"}).code == 0
    assert (count(folder / "one.db"), count(folder / "two.db")) == (1, 2)
    assert not (folder / "runner.db").exists()
    assert "1 done" in run("status", cwd=folder, env={"RUNNER_DB": "one.db"}).out


def test_show_config_never_shows_a_key(folder: Path) -> None:
    ended = run("run", "prompts.jsonl", "--model", "m", "--show-config", cwd=folder, env={"OPENAI_API_KEY": KEY})
    assert ended.code == 0
    assert "set in OPENAI_API_KEY" in ended.out
    assert KEY not in ended.out


# what is printed


def test_json_is_all_that_json_prints(folder: Path, server: Simulated) -> None:
    ended = run(*at(server, "--json"), cwd=folder)
    assert ended.code == 0
    told = events(ended.out)
    assert told[0]["event"] == "started"
    assert told[-1]["event"] == "finished"
    assert told[-1]["done"] == 10
    items = [event for event in told if event["event"] == "item"]
    assert sorted(event["id"] for event in items) == sorted(f"row-{number}" for number in range(10))
    assert {event["status"] for event in items} == {"done"}
    assert ended.err == ""


def test_quiet_is_quiet(folder: Path, server: Simulated) -> None:
    for arguments in (at(server, "--quiet"), at(server, "-q"), ("export", "-q", "-o", "a.csv")):
        assert run(*arguments, cwd=folder) == (0, "", "")
    break_lines(folder)
    assert run(*at(server, "-q", "--new"), cwd=folder) == (1, "", "")


def test_the_commands_that_look(folder: Path, server: Simulated) -> None:
    break_lines(folder)
    found = run("check", "prompts.jsonl", *SYNTHETIC, cwd=folder)
    settings = found.out.partition("settings:\n")[2]
    # a screen has 24 lines: what nobody has set is left out, but for who answers
    assert len(settings.splitlines()) < 8
    assert ("  model  " in settings, "first_byte_s" in settings, "--show-config shows them" in settings) == (True, False, True)
    assert found.code == 1
    assert "10 rows, 2 broken" in found.out
    assert run(*at(server), cwd=folder).code == 1
    before = server.sent()
    listed = run("list", cwd=folder)
    assert listed.code == 0
    assert "finished" in listed.out.splitlines()[1]
    assert [one["id"] for one in json.loads(run("list", "--json", cwd=folder).out)] == [1]
    shown = run("status", cwd=folder)
    assert shown.code == 0
    assert "8 done, 2 failed" in shown.out
    books = json.loads(run("status", "1", "--json", cwd=folder).out)
    assert books["run"]["done"] == 8
    assert books["books"]["attempts"] == 8
    causes = json.loads(run("errors", "--json", cwd=folder).out)
    assert [(cause["code"], cause["count"]) for cause in causes] == [("bad_row", 2)]
    assert run("status", "7", cwd=folder).code == 2
    assert server.sent() == before


def test_check_tells_what_would_be_refused(folder: Path) -> None:
    with (folder / "prompts.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"id": "row-4", "prompt": "another"}\n')
    twice = run("check", "prompts.jsonl", *SYNTHETIC, "--json", cwd=folder)
    assert twice.code == 2
    assert json.loads(twice.out)["duplicates"] == {"row-4": [5, 11]}
    write_prompts(folder / "prompts.jsonl", range(10))
    keyless = run("check", "prompts.jsonl", "--model", "m", cwd=folder)
    # nothing is wrong with the file and the settings
    assert keyless.code == 0
    assert "warning: `runner run` needs one thing more: OPENAI_API_KEY is not set" in keyless.out
    told = json.loads(run("check", "prompts.jsonl", "--model", "m", "--json", cwd=folder).out)
    assert (told["refusal"], "OPENAI_API_KEY" in told["missing"]) == (None, True)
    wrong = run("check", "prompts.jsonl", "--model", "m", cwd=folder, env={"OPENAI_API_KEY": "a key\x07"})
    assert wrong.code == 2
    assert "`runner run` would refuse to start" in wrong.out
    assert sorted(path.name for path in folder.iterdir()) == ["prompts.jsonl"]


def test_an_export_goes_to_standard_output_too(folder: Path, server: Simulated) -> None:
    assert run(*at(server), cwd=folder).code == 0
    table = list(csv.DictReader(io.StringIO(run("export", "-o", "-", cwd=folder).out)))
    assert [row["id"] for row in table] == settled(folder)
    lines = [json.loads(line) for line in run("export", "-o", "-", "--format", "jsonl", cwd=folder).out.splitlines()]
    assert [row["text"] for row in lines] == [row["text"] for row in table]
    assert run("export", "-o", "a.xls", cwd=folder).code == 2
    assert run("export", "-o", "absent/a.csv", cwd=folder).code == 2
    assert run("export", "-o", "/dev/full", "--format", "csv", cwd=folder).code == 4
    assert sorted(path.name for path in folder.glob("*.csv")) == []


# what goes wrong on the way


def test_failed_rows_get_another_chance(folder: Path) -> None:
    write_prompts(folder / "prompts.jsonl", range(40))
    with simulator(*QUICK, "--fault", "500=0.4") as server:
        ended = run(*at(server, "--attempts", "1"), cwd=folder)
        assert ended.code == 1, ended
        failed = count(folder / "runner.db", "items", "status = 'failed'")
        assert 0 < failed < 40
        assert f"{failed} x server_error" in run("errors", cwd=folder).out
        # not by itself
        assert run(*at(server, "--attempts", "1"), cwd=folder).code == 1
        assert server.sent() == 40
        sent = 40
        while failed:
            ended = run("retry", cwd=folder)
            sent += failed
            assert server.sent() == sent
            left = count(folder / "runner.db", "items", "status = 'failed'")
            assert ended.code == (1 if left else 0)
            failed = left
    assert count(folder / "runner.db", "attempts") == sent
    assert settled(folder) == [f"row-{number}" for number in range(40)]
    assert rows(folder / "runner.db", "SELECT sum(attempts) FROM items") == [(sent,)]


def test_a_second_process_is_refused_while_the_first_works(folder: Path) -> None:
    with simulator("--first-token-s", "600") as server:
        with runner(*at(server), cwd=folder) as first:
            first.until(lambda: server.sent() == 8, "the requests of the first")
            for arguments in (at(server), ("resume",)):
                second = run(*arguments, cwd=folder)
                assert second.code == 4, second
                assert_one_sentence(second)
                assert f"process {first.pid} " in second.err
            assert "running" in run("list", cwd=folder).out
            assert run("export", "-o", "-", cwd=folder).code == 0
            assert server.sent() == 8
            first.killed()
        assert "interrupted" in run("list", cwd=folder).out
        # the dead hold nothing
        with runner("resume", cwd=folder) as third:
            third.until(lambda: server.sent() == 16, "the requests of the third")


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_a_wrong_key_ends_the_run_at_once(folder: Path, dialect: str) -> None:
    write_prompts(folder / "prompts.jsonl", range(200))
    command = ("run", "prompts.jsonl", "--provider", dialect, "--model", "m", "--concurrency", "8", "--api-key-env", "MY_KEY")
    with simulator(*QUICK, "--key-env", "SERVER_KEY", env={"SERVER_KEY": "sk-the-right-one"}) as server:
        command += ("--base-url", server.base_url(dialect))
        ended = run(*command, cwd=folder, env={"MY_KEY": KEY})
        assert ended.code == 3, ended
        assert_one_sentence(ended)
        assert "key" in ended.err
        assert 1 <= server.sent() <= 8
        assert not count(folder / "runner.db")
        for path in folder.iterdir():
            assert KEY.encode() not in path.read_bytes()
        assert KEY not in ended.out + ended.err
        ended = run(*command, cwd=folder, env={"MY_KEY": "sk-the-right-one"})
        assert ended.code == 0, ended
        assert settled(folder) == [f"row-{number}" for number in range(200)]


def test_a_wrong_address_ends_the_run_at_once(folder: Path, server: Simulated) -> None:
    before = server.sent()
    ended = run("run", "prompts.jsonl", "--model", "m", "--base-url", f"{server.anthropic}/v2", cwd=folder)
    assert ended.code == 3, ended
    assert_one_sentence(ended)
    assert "base_url" in ended.err
    assert server.sent() == before
    assert not count(folder / "runner.db")


def unread(*arguments: str, folder: Path) -> Ended:
    """Run it with a standard output that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        with runner(*arguments, cwd=folder, stdout=writing) as process:
            return process.ended()
    finally:
        os.close(writing)


@pytest.mark.parametrize("arguments", [("list",), ("export", "-o", "-"), ("--help",)], ids=" ".join)
def test_a_reader_that_has_gone_is_no_error(folder: Path, server: Simulated, arguments: tuple[str, ...]) -> None:
    run(*at(server), cwd=folder)
    ended = unread(*arguments, folder=folder)
    assert ended.err == ""
    # killed by SIGPIPE, or as the shell has it for that; 1 would say that rows have failed
    assert ended.code in (-signal.SIGPIPE, 141)


@pytest.mark.parametrize("options", [(), ("--json",)], ids=["text", "json"])
def test_a_run_whose_reader_has_gone_goes_on(folder: Path, server: Simulated, options: tuple[str, ...]) -> None:
    ended = unread(*at(server, *options), folder=folder)
    assert_clean(ended)
    assert ended.code in (0, 141), ended
    assert settled(folder) == [f"row-{number}" for number in range(10)]


@pytest.mark.parametrize("arguments", [("list",), ("export", "-o", "-")], ids=" ".join)
def test_a_full_disk_behind_standard_output_is_told_in_one_sentence(
    folder: Path, server: Simulated, arguments: tuple[str, ...]
) -> None:
    run(*at(server), cwd=folder)
    with Path("/dev/full").open("wb") as full, runner(*arguments, cwd=folder, stdout=full.fileno()) as process:
        ended = process.ended()
    assert_clean(ended)
    assert_one_sentence(ended)
    assert ended.code == 4, ended


@pytest.mark.parametrize("options", [(), ("--json",)], ids=["text", "json"])
def test_a_run_whose_output_cannot_be_written_does_its_work_and_says_so(
    folder: Path, server: Simulated, options: tuple[str, ...]
) -> None:
    with Path("/dev/full").open("wb") as full, runner(*at(server, *options), cwd=folder, stdout=full.fileno()) as process:
        ended = process.ended()
    assert_clean(ended)
    # Python 3.14 tells of what cannot be flushed at exit, and makes the exit code 120
    assert (ended.code, ended.err.splitlines()[-1]) == (
        4,
        "runner: the output cannot be written: No space left on device; the results are in the store",
    )
    assert settled(folder) == [f"row-{number}" for number in range(10)]


def test_a_server_that_is_not_there_ends_the_run(unreached: Started) -> None:
    """The last test here: the run was begun before the first."""
    ended = unreached.ended()
    assert_clean(ended)
    assert ended.code == 3, ended
    assert "127.0.0.1" in ended.err
    assert "Check that the server is running" in ended.err
