"""Rows that would fail again as they are: what is advised gives them more room or more time, and no other rows."""

import json
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from processes import Ended, run
from raw_server import RawServer, in_thread
from retried import Answering, Bench

FIELDS = "mood: good|bad"
CUT = [f"r{number}" for number in range(3)]


@pytest.fixture(params=["openai", "anthropic"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    asked = Answering({key: ["cut"] for key in CUT})
    with in_thread(RawServer(asked)) as server:
        yield Bench(tmp_path, server, asked, request.param, rows=3)


def begun(bench: Bench, **settings: Any) -> Ended:
    """Start a run that fails; its answers are no JSON."""
    bench.run(**{"fields": FIELDS, "repairs": 0, **settings})
    return run("status", cwd=bench.folder)


def causes(bench: Bench) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("errors", "--json", cwd=bench.folder).out)
    return found


def nexts(text: str) -> list[str]:
    """Return the commands of the last lines, without that which exports."""
    lines = [line for line in text.splitlines() if line.startswith(("next: ", "also: "))]
    return [line[6:].partition("   (")[0].rstrip() for line in lines if " export " not in line]


def sent(bench: Bench, command: str) -> list[tuple[str, Any]]:
    """Type a command; return the prompts that were sent, and the limit of each."""
    before = len(bench.asked.bodies)
    run(*shlex.split(command)[1:], cwd=bench.folder)
    found = []
    for body in bench.asked.bodies[before:]:
        content = body["messages"][-1]["content"]
        found.append((content if isinstance(content, str) else content[0]["text"], body["max_tokens"]))
    return sorted(found)


def test_answers_that_were_cut_get_twice_the_room_each_time(bench: Bench) -> None:
    told = begun(bench)
    for most in (100, 200):
        (cause,) = causes(bench)
        shown = run("errors", cwd=bench.folder).out
        command = f"runner retry 1 --class invalid_output --max-tokens {most}"
        assert (cause["count"], cause["command"]) == (3, command)
        assert f"  command   {command}\n" in shown
        assert "raise --max-tokens" in " ".join(shown.split())
        assert nexts(shown) == nexts(told.out) == [f"runner retry 1 --max-tokens {most}"]
        assert sent(bench, command) == [(one, most) for one in CUT]
        told = run("status", cwd=bench.folder)


def test_a_mix_of_causes_has_a_command_for_each(bench: Bench) -> None:
    bench.asked.kinds = {"r0": ["cut"], "r1": ["ok"], "r2": ["busy"]}
    told = begun(bench)
    found = {one["example_id"]: one for one in causes(bench)}
    assert {name: one["command"].removeprefix("runner retry 1 --class ") for name, one in found.items()} == {
        "r0": "length --max-tokens 100",
        "r1": "invalid_output --max-tokens 100",
        "r2": "server_error",
    }
    assert "also sends those that were cut" in found["r1"]["advice"]
    # one command for all rows of a class: it is said how many these are
    assert {name: one["command_rows"] for name, one in found.items()} == {"r0": 1, "r1": 2, "r2": 1}
    assert run("errors", cwd=bench.folder).out.count("(sends all 2 of this class)") == 1
    ways = ["runner retry 1 --class invalid_output --max-tokens 100", "runner retry 1 --class server_error"]
    assert sorted(nexts(told.out)) == sorted(nexts(run("errors", cwd=bench.folder).out)) == ways
    assert sent(bench, found["r0"]["command"]) == [("r0", 100)]
    assert sent(bench, ways[1]) == [("r2", 50)]


def test_the_summary_of_a_run_names_the_room(bench: Bench) -> None:
    bench.run(fields=FIELDS, repairs=0)
    ended = run("retry", "--class", "invalid_output", cwd=bench.folder)
    assert nexts(ended.out) == ["runner retry 1 --max-tokens 100"]


def test_a_limit_that_rows_set_themselves_is_raised_in_the_file(bench: Bench) -> None:
    bench.write([{"id": one, "prompt": one, "max_tokens": 7} for one in CUT])
    told = begun(bench)
    (cause,) = causes(bench)
    assert "raise it in the prompt file" in cause["advice"]
    assert cause["command"] == "runner retry 1 --class invalid_output"
    assert nexts(told.out) == ["runner errors 1"]


def test_answers_that_the_setting_finish_makes_failures_of(bench: Bench) -> None:
    reason = {"openai": "length", "anthropic": "max_tokens"}[bench.dialect]
    told = begun(bench, fields=None, finish_fail=[reason])
    (cause,) = causes(bench)
    assert cause["command"] == f"runner retry 1 --class finish_{reason} --max-tokens 100"
    assert nexts(told.out) == ["runner retry 1 --max-tokens 100"]


def test_without_a_limit_the_longest_answer_tells_it(bench: Bench) -> None:
    told = begun(bench, max_tokens=None)
    # each answer has 3 tokens
    assert causes(bench)[0]["command"] == "runner retry 1 --class invalid_output --max-tokens 6"
    assert nexts(told.out) == ["runner retry 1 --max-tokens 6"]


def test_answers_that_take_too_long_get_twice_the_time(bench: Bench) -> None:
    bench.asked.kinds = {key: ["hang"] for key in CUT}
    told = begun(bench, attempt_s=0.2)
    (cause,) = causes(bench)
    assert cause["code"] == "timeout_attempt"
    words = cause["command"].split()
    assert words[:-1] == ["runner", "retry", "1", "--class", "timeout_attempt", "--attempt-s"]
    assert float(words[-1]) >= 0.4
    assert nexts(told.out) == [f"runner retry 1 --attempt-s {words[-1]}"]


def told_and_sent(bench: Bench, command: str, told: int) -> list[tuple[str, Any]]:
    """Type a command that is said to send so many rows; return what it has sent."""
    found = sent(bench, command)
    assert len(found) == told
    return found


def test_rows_that_would_be_cut_at_their_own_limit_again_are_left_out(bench: Bench) -> None:
    bench.asked.kinds = {"r0": ["cut"], "r1": ["ok"], "r2": ["cut"]}
    bench.write([{"id": one, "prompt": one, **({} if one == "r2" else {"max_tokens": 7})} for one in CUT])
    told = begun(bench)
    shown, found = run("errors", cwd=bench.folder).out, {one["example_id"]: one for one in causes(bench)}
    command = "runner retry 1 --class invalid_output,-own_limit --max-tokens 100"
    assert nexts(told.out) == [command, "runner errors 1"]
    assert nexts(shown) == [command]
    assert "(sends 2 failed rows again)" in told.out
    assert "`runner retry" not in "".join(one["advice"] for one in found.values())
    assert {name: (one["command"], one["command_rows"]) for name, one in found.items()} == {
        "r0": ("runner retry 1 --class own_limit", 1),
        "r1": (command, 2),
        "r2": ("runner retry 1 --class length,-own_limit --max-tokens 100", 1),
    }
    for name, limit in (("r0", 7), ("r2", 100)):
        assert told_and_sent(bench, found[name]["command"], found[name]["command_rows"]) == [(name, limit)]
    again = nexts(run("status", cwd=bench.folder).out)[0]
    assert sent(bench, again) == [("r1", 7), ("r2", 200)]


def test_answers_that_were_cut_are_left_out_too_where_their_rows_set_the_limit(bench: Bench) -> None:
    bench.write([{"id": one, "prompt": one, **({"max_tokens": 5} if one != "r1" else {})} for one in CUT])
    begun(bench, fields=None)
    own, others = causes(bench)
    assert (own["count"], own["command"]) == (2, "runner retry 1 --class own_limit")
    assert own["ids"] == ["r0", "r2"]
    for most in (100, 200):
        assert others["command"] == f"runner retry 1 --class length,-own_limit --max-tokens {most}"
        assert told_and_sent(bench, others["command"], others["command_rows"]) == [("r1", most)]
        others = causes(bench)[1]


def test_no_limit_is_not_less_than_that_of_a_retry(bench: Bench) -> None:
    begun(bench, max_tokens=None)
    bench.retry(ids=["r0"], max_tokens=1)
    # each answer has 3 tokens
    assert causes(bench)[0]["command"] == "runner retry 1 --class invalid_output --max-tokens 6"
    assert nexts(run("status", cwd=bench.folder).out) == ["runner retry 1 --max-tokens 6"]


def test_the_rows_of_a_class_are_failed_ones_and_done_ones(bench: Bench) -> None:
    begun(bench, fields=None, finish_fail=["length", "max_tokens"])
    bench.retry(ids=["r0"], finish_fail="empty")
    failed, done = causes(bench)
    assert (failed["count"], failed["command_rows"], done["count"], done["command_rows"]) == (2, 2, 1, 3)
    assert "(sends all 3 of this class)" in run("errors", cwd=bench.folder).out
    assert told_and_sent(bench, done["command"], done["command_rows"]) == [(one, 100) for one in CUT]


def test_an_empty_cell_is_no_limit(bench: Bench) -> None:
    bench.prompts.unlink()
    bench.prompts = bench.folder / "p.csv"
    bench.prompts.write_text("id,prompt,max_tokens\nr0,r0,\nr1,r1,5\nr2,r2,\n")
    told = begun(bench)
    command = "runner retry 1 --class invalid_output,-own_limit --max-tokens 100"
    assert nexts(told.out) == [command, "runner errors 1"]
    assert sent(bench, command) == [("r0", 100), ("r2", 100)]


def test_fields_that_are_no_settings_are_no_limit(bench: Bench) -> None:
    bench.write([{"id": one, "prompt": one, "max_tokens": 5} for one in CUT])
    told = begun(bench, row_settings=False)
    assert nexts(told.out) == ["runner retry 1 --max-tokens 100"]
    assert sent(bench, "runner retry 1 --max-tokens 100") == [(one, 100) for one in CUT]


def test_status_and_errors_advise_the_same(bench: Bench) -> None:
    bench.asked.kinds = {key: ["busy"] for key in CUT}
    begun(bench)
    with closing(sqlite3.connect(bench.store)) as connection, connection:
        connection.execute("UPDATE items SET error_code = 'unsupported_parameter' WHERE key = 'r1'")
    ways = ["runner retry 1 --class server_error", "runner retry 1 --class unsupported_parameter --no-strict-params"]
    for name in ("status", "errors"):
        assert nexts(run(name, cwd=bench.folder).out) == ways
    assert sent(bench, ways[0]) == [("r0", 50), ("r2", 50)]
    assert sent(bench, ways[1]) == [("r1", 50)]
