"""The sentences of a session, of ``runner errors`` and of ``runner check``: numbers agree with nouns, counts with each other."""

from pathlib import Path
from typing import Any

import pytest

from runner import api
from runner.cli import output
from runner.events import Quantiles, Started, Stopping, Summary
from runner.model import Run
from runner.store.reader import ErrorGroup

NOTHING = Quantiles(p50=None, p95=None)


def started(rows: int, restored: int) -> Started:
    return Started(run=1, input="p.jsonl", rows=rows, restored=restored, notes=())


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
    return output.summary(Summary(**{**fields, **more}), "runner.db")


def a_run(**more: Any) -> Run:
    fields: dict[str, Any] = {"id": 1, "created_at": 1e9, "finished_at": None, "settings": {}, "input": "p", "active": False}
    return Run(**{**fields, "rows": 9, "done": 8, "failed": 0, "broken": 0, **more})


@pytest.mark.parametrize(
    ("rows", "restored", "words"),
    [
        (1, 0, "run 1: p.jsonl, 1 row"),
        (2000, 0, "run 1: p.jsonl, 2,000 rows"),
        (2000, 1999, "run 1: p.jsonl, 2,000 rows, 1,999 done or failed before"),
        (3, 3, "run 1: p.jsonl, 3 rows, 3 done or failed before"),
    ],
)
def test_the_headline_says_what_earlier_sessions_finished(rows: int, restored: int, words: str) -> None:
    assert output.headline(started(rows, restored)) == words


@pytest.mark.parametrize(
    ("reason", "in_flight", "words"),
    [
        ("stopped by Ctrl-C", 8, "stopped by Ctrl-C; waiting up to 10 s for 8 open requests; Ctrl-C to drop them"),
        ("stopped by SIGTERM", 1, "stopped by SIGTERM; waiting up to 10 s for 1 open request; Ctrl-C to drop it"),
        ("no money. Pay.", 8, "stopping: no money. Pay; waiting up to 10 s for 8 open requests; Ctrl-C to drop them"),
        ("no money. Pay.", 0, "stopping: no money. Pay."),
        ("\x1b[2J", 0, r"stopping: \x1b[2J"),
    ],
)
def test_a_stop_has_one_reason_and_says_what_is_waited_for(reason: str, in_flight: int, words: str) -> None:
    assert output.stopping(Stopping(reason=reason, in_flight=in_flight, grace_s=10.0)) == words


@pytest.mark.parametrize(
    ("fields", "counts"),
    [
        ({}, "2 done, 0 failed, 7 already done of 9 rows in 1:05"),
        # the failed row is one of this session
        ({"done": 8, "failed": 1, "done_now": 1, "failed_now": 1}, "1 done, 1 failed, 7 already done of 9 rows in 1:05"),
        # the failed row is one of an earlier session
        ({"done": 8, "failed": 1}, "2 done, 0 failed, 7 already done or failed of 9 rows in 1:05"),
        # a changed row failed and keeps its answer, another row failed earlier
        (
            {"done": 8, "failed": 1, "done_now": 1, "failed_now": 1, "kept": 1},
            "1 done, 1 failed, 7 already done or failed of 9 rows in 1:05",
        ),
    ],
)
def test_rows_that_failed_earlier_are_not_called_done(fields: dict[str, int], counts: str) -> None:
    assert ended(**fields).split("\n")[0] == f"run 1 finished: {counts}"


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"missing": 1}, "1 row is no longer in the file; its result is kept"),
        ({"missing": 2}, "2 rows are no longer in the file; their results are kept"),
        ({"changed": 1}, "1 finished row has changed since; its old result is kept, and --accept-changes sends it again"),
        ({"changed": 2}, "2 finished rows have changed since; their old results are kept, and --accept-changes sends them again"),
        ({"kept": 1}, "1 changed row failed when sent again; its old answer is kept; `runner status 1` counts the causes"),
        ({"kept": 2}, "2 changed rows failed when sent again; their old answers are kept; `runner status 1` counts the causes"),
        ({"failed": 2}, "2 rows failed: `runner errors 1` shows why, `runner retry 1` tries again"),
        ({"failed": 1, "broken": 1}, "1 row failed: `runner errors 1` shows why"),
    ],
)
def test_a_summary_has_a_line_for_everything_odd(fields: dict[str, int], line: str) -> None:
    assert ended(**fields).split("\n")[1:] == [f"  {line}", "next: runner export 1 -o answers.csv"]


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (None, "run 1 has no failed rows"),
        ("stopped by Ctrl-C", "no failed rows; run 1 was stopped by Ctrl-C"),
        ("no money. Pay.", "no failed rows; run 1 was stopped: no money. Pay."),
    ],
)
def test_without_failed_rows_the_reason_of_the_stop_is_shown(reason: str | None, words: str) -> None:
    assert output.errors(a_run(stop_reason=reason), [], db="runner.db", as_json=False) == words


def test_errors_of_broken_lines_say_to_fix_them() -> None:
    group = ErrorGroup(code="bad_row", count=1, example_id="a", example="line 3: no prompt")
    text = output.errors(a_run(failed=1), [group], db="runner.db", as_json=False)
    assert text.startswith("run 1: 1 failed row\n1 x bad_row\n")
    assert text.endswith("\nnext: fix those lines and run the same `runner run` command again")


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
        "1 row without an id is identical to an earlier one; each gets its own answer",
    ]
