"""The sentences of a session, of ``runner errors`` and of ``runner check``: numbers agree with nouns, counts with each other."""

import re
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from runner import api
from runner.cli import ending, errors, output
from runner.event_types import INPUT_CHANGED, Quantiles, Started, Summary
from runner.model import Run
from runner.progress import words
from runner.session.mending import Found
from runner.session.ways import Ways
from runner.store.causes import Cause, CauseReader
from runner.store.selection import Cut

NOTHING = Quantiles(p50=None, p95=None)


def started(rows: int, restored: int, failed: int) -> Started:
    return Started(run=1, input="p.jsonl", rows=rows, restored=restored, restored_failed=failed, notes=())


def ended(**more: Any) -> str:
    fields: dict[str, Any] = {
        "run": 1,
        "finished": True,
        "rows": 9,
        "done": 9,
        "elapsed_s": 65.0,
        "done_now": 2,
        "skipped": 7,
        **dict.fromkeys(("failed", "broken", "failed_now", "kept", "attempts_now", "missing", "changed"), 0),
        **dict.fromkeys(("input_tokens", "output_tokens", "stop_reason")),
        **dict.fromkeys(("time_to_first_token", "duration"), NOTHING),
    }
    return ending.summary(Summary(**{**fields, **more}), "runner.db")


def a_run(**more: Any) -> Run:
    fields: dict[str, Any] = {"id": 1, "created_at": 1e9, "finished_at": None, "settings": {}, "input": __file__, "active": False}
    return Run(**{**fields, "rows": 9, "done": 8, "failed": 0, "broken": 0, **more})


def test_the_list_counts_rows_that_have_left_the_file() -> None:
    line = output.listing([a_run(rows=2, done=4, failed=1)], as_json=False).splitlines()[1]
    assert line.split()[2:5] == ["4", "1", "5"]


def test_a_long_path_in_a_list_shows_its_end_on_a_terminal() -> None:
    run = a_run(input=f"/{'folder/' * 20}reviews.csv", settings={"model": "m"})
    head, line = output.listing([run], as_json=False, columns=99).splitlines()
    assert len(line) == 99
    assert line.endswith("/reviews.csv")
    assert "…" in line
    assert head.endswith("input")
    assert run.input in output.listing([run], as_json=False)


@pytest.mark.parametrize(
    ("rows", "restored", "failed", "said"),
    [
        (1, 0, 0, "run 1: p.jsonl, 1 row"),
        (2000, 0, 0, "run 1: p.jsonl, 2,000 rows"),
        (2000, 1999, 0, "run 1: p.jsonl, 2,000 rows, 1,999 already done"),
        (30, 12, 2, "run 1: p.jsonl, 30 rows, 10 already done, 2 already failed"),
    ],
)
def test_the_headline_says_what_earlier_sessions_finished(rows: int, restored: int, failed: int, said: str) -> None:
    assert words.headline(started(rows, restored, failed)) == said


@pytest.mark.parametrize(
    ("fields", "headline"),
    [
        ({}, "run 1 finished: 9 done, 0 failed of 9 rows in 1:05"),
        ({"done": 8, "failed": 1}, "run 1 finished: 8 done, 1 failed of 9 rows in 1:05"),
        (
            {"finished": False, "done": 4, "failed": 1, "left": 4},
            "run 1 not finished: 4 done, 1 failed, 4 left of 9 rows in 1:05",
        ),
        ({"finished": False, "done": 3, "left": 6, "limit": 3}, "run 1: 3 of 9 done, as asked by --limit; 6 left; in 1:05"),
        (
            {"finished": False, "done": 2, "failed": 1, "left": 6, "limit": 3},
            "run 1: 2 done, 1 failed, 6 left of 9 rows, as asked by --limit; in 1:05",
        ),
        # stopped before it had done what --limit asked for
        (
            {"finished": False, "done": 2, "left": 7, "limit": 3, "stop_reason": "stopped by Ctrl-C"},
            "run 1 not finished: 2 done, 0 failed, 7 left of 9 rows in 1:05",
        ),
        # rows that are no longer in the file are in the store, but not among the rows
        ({"done": 11, "failed": 2, "missing": 4}, "run 1 finished: 11 done, 2 failed of 13 rows in 1:05"),
    ],
)
def test_done_failed_and_left_are_all_rows(fields: dict[str, Any], headline: str) -> None:
    first = ended(**fields).split("\n")[0]
    assert first == headline
    numbers = [int(number) for number in re.findall(r"(\d+) (?:of \d+ )?(?:done|failed|left)", first)]
    assert sum(numbers) == 9 + fields.get("missing", 0)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"skipped": 7, "attempts_now": 2}, "7 rows were already done"),
        ({"skipped": 1, "attempts_now": 2}, "1 row was already done"),
        (
            {"skipped": 7, "skipped_failed": 1, "attempts_now": 2, "done": 8, "failed": 1, "causes": {"cut": 1}},
            "7 rows were already done or failed",
        ),
        # a retry that was stopped before it had sent all that had failed
        ({"skipped": 7, "attempts_now": 2, "done": 8, "failed": 1, "causes": {"cut": 1}}, "7 rows were already done"),
        ({"attempts_now": 130, "done_now": 65}, "speed         1.0 rows/s, 2.0 requests/s"),
        ({"input_tokens": 1200}, "tokens        1,200 in, unknown out"),
        ({"missing": 1}, "1 row is no longer in the file; its result is kept"),
        ({"missing": 2}, "2 rows are no longer in the file; their results are kept"),
        ({"missing": 1, "chosen": True}, "1 row is not among the chosen rows; its result is kept"),
        ({"missing": 2, "chosen": True}, "2 rows are not among the chosen rows; their results are kept"),
        ({"changed": 1}, "1 finished row has changed since; its old result is kept, and --accept-changes sends it again"),
        ({"changed": 2}, "2 finished rows have changed since; their old results are kept, and --accept-changes sends them again"),
        ({"kept": 1}, "1 answered row failed when sent again; its old answer is kept; `runner status 1` counts the causes"),
        ({"kept": 2}, "2 answered rows failed when sent again; their old answers are kept; `runner status 1` counts the causes"),
        ({"failed": 2, "causes": {"cut": 2}}, "2 rows failed (2 cut): `runner errors 1` shows why"),
        (
            {"failed": 9, "causes": {"a": 1, "b": 2, "c": 3, "d": 3}},
            "9 rows failed (3 c, 3 d, 2 b, ...): `runner errors 1` shows why",
        ),
        ({"failed": 1, "broken": 1, "causes": {"bad_row": 1}}, "1 row failed (1 bad_row): `runner errors 1` shows why"),
    ],
)
def test_a_summary_has_a_line_for_everything_odd(fields: dict[str, Any], line: str) -> None:
    assert f"  {line}" in ended(**{"skipped": 0, **fields}).split("\n")


def test_nothing_is_said_of_what_is_not_known() -> None:
    lines = ended(finished=False, done=0, left=9, attempts_now=8, done_now=0, skipped=0, stop_reason="no", stop_code="auth")
    assert lines.split("\n") == [
        "run 1 not finished: 0 done, 0 failed, 9 left of 9 rows in 1:05",
        "next: runner resume 1   (once the key is right; sends 9 rows)",
    ]


def test_a_file_that_changed_is_told_and_waited_for() -> None:
    lines = ended(finished=False, done=5, left=4, stop_reason=INPUT_CHANGED).split("\n")
    assert f"  {INPUT_CHANGED}, so some rows were not seen" in lines
    assert "when nothing writes to the file any more" in lines[-1]


def causes_of(run: Run, *failed: Cause, db: str = "runner.db") -> str:
    with sa.create_engine("sqlite://").connect() as nothing:
        return errors._text(Found(run, [*failed], [], CauseReader(nothing, 1, 1, Cut()), 0, Ways(failed)), db)


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (None, "run 1 has no failed rows"),
        ("stopped by Ctrl-C", "no failed rows; run 1 was stopped by Ctrl-C"),
        ("no money. Pay.", "no failed rows; run 1 was stopped: no money. Pay."),
    ],
)
def test_without_failed_rows_the_reason_of_the_stop_is_shown(reason: str | None, words: str) -> None:
    said = causes_of(a_run(stop_reason=reason))
    assert said == f"{words}\nnext: runner resume 1   (sends the last row)"


def test_errors_of_broken_lines_say_to_fix_them() -> None:
    cause = Cause(code="bad_row", count=1, example_id="a", example="line 3: no prompt")
    run = a_run(failed=1, broken=1, finished_at=1e9, causes={"bad_row": 1})
    text = causes_of(run, cause)
    assert text.startswith("run 1: 1 failed row of 9 (11.1 %)\n1 x bad_row\n")
    assert "\nnext: runner resume 1                  (once the line is mended; sends 1 row)\n" in text


def test_errors_name_the_run_that_a_retry_is_for() -> None:
    cause = Cause(code="overloaded", count=1, example_id="a", example="busy")
    text = causes_of(a_run(failed=1, causes={"overloaded": 1}), cause, db="my runs.db")
    assert "run `runner retry 1 --db 'my runs.db'` later" in " ".join(text.split())
    assert "  command   runner retry 1 --class overloaded --db 'my runs.db'\n" in text


@pytest.mark.parametrize(
    ("run", "count", "target", "words"),
    [
        ({}, 8, "a.csv", ["run 1: 8 of 9 rows written to a.csv"]),
        ({"rows": None}, 1, "-", ["run 1: 1 of 1 row written to standard output"]),
        # rows that are no longer in the file
        ({"rows": 3}, 8, "a.csv", ["run 1: 8 of 8 rows written to a.csv"]),
    ],
)
def test_an_export_says_of_which_run_and_how_many_rows(run: dict[str, Any], count: int, target: str, words: list[str]) -> None:
    assert output.exported(a_run(**run), None, [count], [target], "runner.db") == words


def test_an_older_run_with_more_rows_is_named_with_the_command_that_exports_it() -> None:
    _, warning = output.exported(a_run(id=2, done=2), a_run(), [2], ["my answers.csv"], "x.db")
    assert warning.startswith("warning: run 1 of the same file has more finished rows (8, this one 2)")
    assert warning.endswith("`runner export 1 --db x.db -o 'my answers.csv'`")


def test_check_names_the_lines_of_duplicate_ids(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    ids = ["a", "b", "a", "b", "b", *["c"] * 12]
    path.write_text("".join(f'{{"id": "{key}", "prompt": "x"}}\n' for key in ids) + '{"prompt": "y"}\n' * 2)
    lines = output.check(api.check(path, provider="simulator"), as_json=False).split("\n")
    assert lines[:6] == [
        f"{path}: 19 rows, 0 broken",
        "3 duplicate ids; `runner run` refuses to start:",
        "  a on lines 1 and 3",
        "  b on lines 2, 4 and 5",
        "  c on lines 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, ...",
        "1 row without an id is identical to an earlier one; each gets its own answer (--dedupe sends them once)",
    ]
