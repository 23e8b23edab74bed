"""What is advised in each state of a run: one command that works, with what it costs."""

from typing import Any

import pytest

from runner.cli.advice import COLUMNS, Advice, State, advice, lines
from runner.session.ways import Way


def state(**more: Any) -> State:
    return State(**{"run": 1, "done": 10, "failed": 0, "left": 0, **more})


def said(db: str = "runner.db", **more: Any) -> list[tuple[str, str, int | None]]:
    return [tuple(one) for one in advice(state(**more), db)]  # type: ignore[misc]


EXPORT = ("runner export 1 -o answers.csv", "writes 10 rows", None)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, EXPORT),
        ({"active": True, "left": 3}, ("runner status 1 --watch", "shows how it goes on; sends nothing", None)),
        ({"left": 190}, ("runner resume 1", "sends the other 190 rows", 190)),
        ({"left": 190, "same_command": True}, ("runner resume 1", "sends the other 190 rows; or the same command again", 190)),
        ({"left": 1, "done": 0}, ("runner resume 1", "sends 1 row", 1)),
        ({"left": 9, "stop_code": "billing"}, ("runner resume 1", "once there is credit; sends the other 9 rows", 9)),
        ({"left": 9, "stop_code": "deadline"}, ("runner resume 1", "sends the other 9 rows", 9)),
        (
            {"left": 9, "stop_code": "not_found"},
            ("runner resume 1", "once the server has the model; sends the other 9 rows", 9),
        ),
        (
            {"left": 9, "done": 0, "stop_code": "not_found"},
            ("runner resume 1 --model NAME", "with the NAME of a model that the server has; sends 9 rows", 9),
        ),
        (
            {"left": 9, "done": 0, "stop_code": "not_found", "address": "http://h/v1"},
            ("runner resume 1 --base-url http://h/v1", "sends 9 rows", 9),
        ),
        (
            {"left": 9, "stop_code": "tls", "address": "'http://h/v1?a=b'"},
            ("runner resume 1 --base-url 'http://h/v1?a=b'", "sends the other 9 rows", 9),
        ),
        (
            {"left": 9, "done": 0, "stop_code": "not_found", "address": "URL"},
            ("runner resume 1", "once base_url is right; sends 9 rows", 9),
        ),
        (
            {"left": 9, "done": 0, "stop_code": "not_found", "line": 4},
            ("runner resume 1", "once line 4 names a model that the server has; sends 9 rows", 9),
        ),
        (
            {"left": 9, "input_changed": True},
            ("runner resume 1", "when nothing writes to the file any more; sends the other 9 rows", 9),
        ),
        (
            {"input_changed": True},
            ("runner resume 1", "when nothing writes to the file any more; sends what is new in it", None),
        ),
    ],
)
def test_one_state_one_command(fields: dict[str, Any], expected: tuple[str, str, int | None]) -> None:
    assert said(**fields) == [expected]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"failed": 4, "causes": {"overloaded": 4}}, ("runner retry 1", "sends 4 failed rows again", 4)),
        ({"failed": 1, "causes": {"cut": 1}}, ("runner retry 1", "sends 1 failed row again", 1)),
        # a retry sends all failed rows that are not broken
        (
            {"failed": 4, "broken": 1, "causes": {"cut": 1, "bad_row": 1, "bad_request": 2}},
            ("runner retry 1", "sends 3 failed rows again", 3),
        ),
        (
            {"failed": 2, "broken": 2, "causes": {"bad_row": 2}},
            ("runner errors 1", "names the 2 broken lines; sends nothing", None),
        ),
        (
            {"failed": 4, "causes": {"cut": 4}, "stop_code": "not_found", "address": "http://h/v1"},
            ("runner retry 1 --base-url http://h/v1", "sends 4 failed rows again", 4),
        ),
        ({"failed": 2, "causes": {"not_found": 2}}, ("runner errors 1", "shows why 2 rows failed; sends nothing", None)),
        ({"failed": 2, "causes": {"bad_request": 2}}, ("runner errors 1", "shows why 2 rows failed; sends nothing", None)),
        (
            {"failed": 2, "causes": {"bad_request": 2}, "errors_shown": True},
            ("runner retry 1", "once they are mended; sends 2 failed rows again", 2),
        ),
        (
            {"failed": 2, "broken": 2, "causes": {"bad_row": 2}, "errors_shown": True},
            ("runner resume 1", "once the lines are mended; sends 2 rows", 2),
        ),
    ],
)
def test_failed_rows_and_the_export_of_what_there_is(fields: dict[str, Any], expected: tuple[str, str, int | None]) -> None:
    failed = fields["failed"]
    words = f"writes 10 done and {failed} failed row{'' if failed == 1 else 's'}"
    assert said(**fields) == [expected, ("runner export 1 -o answers.csv", words, None)]


def test_failed_rows_that_no_command_sends_are_shown() -> None:
    ways, causes = [Way((), ("server_error",), 3)], {"server_error": 3, "invalid_output": 2}
    retry = ("runner retry 1 --class server_error", "sends 3 failed rows again", 3)
    shows = ("runner errors 1", "shows why 5 rows failed; sends nothing", None)
    assert said(failed=5, causes=causes, ways=ways)[:-1] == [retry, shows]
    assert said(failed=5, causes=causes, ways=ways, errors_shown=True)[:-1] == [retry]
    # lines that are broken are told of elsewhere
    assert said(failed=5, broken=2, causes={"server_error": 3, "bad_row": 2}, ways=ways)[1:-1] == []


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"left": 9, "stop_code": "billing"}, "once the prompt file is back; sends the other 9 rows"),
        ({"failed": 4, "causes": {"cut": 4}}, "once the prompt file is back; sends 4 failed rows again"),
        (
            {"failed": 2, "causes": {"bad_request": 2}, "errors_shown": True},
            "once the prompt file is back; once they are mended; sends 2 failed rows again",
        ),
    ],
)
def test_without_its_prompt_file_nothing_can_be_sent(fields: dict[str, Any], words: str) -> None:
    first, export = said(missing=True, **fields)
    assert first[1] == words
    assert export[0] == "runner export 1 -o answers.csv"
    assert said(missing=True) == [EXPORT]


@pytest.mark.parametrize("store", ["runner.db", "./runner.db"])
def test_the_store_of_every_command_here_is_not_named(monkeypatch: pytest.MonkeyPatch, store: str) -> None:
    monkeypatch.delenv("RUNNER_DB", raising=False)
    assert said(store) == [EXPORT]
    monkeypatch.setenv("RUNNER_DB", "other.db")
    assert said(store)[0][0] == f"runner export 1 -o answers.csv --db {store}"


def test_behind_a_limit_failed_rows_come_first() -> None:
    commands = [command for command, _, _ in said(left=5, failed=2, causes={"cut": 2}, limited=True)]
    assert commands == ["runner retry 1", "runner resume 1"]
    assert [command for command, _, _ in said(left=5, failed=2, causes={"cut": 2})] == ["runner resume 1"]


def test_the_store_is_named_as_a_shell_reads_it() -> None:
    assert [command for command, _, _ in said(db="my runs.db", left=3)] == ["runner resume 1 --db 'my runs.db'"]


def test_the_words_move_to_a_line_of_their_own_where_there_is_no_room() -> None:
    first, second = Advice("runner a", "short"), Advice("runner b", "w" * COLUMNS)
    assert lines([first, second]) == ["next: runner a   (short)", "also: runner b", f"      ({'w' * COLUMNS})"]
