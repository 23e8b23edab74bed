"""--ok-failed: so many failed rows of a run count as success, in every command and from every source."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from desk import Asked, Desk, numbered
from processes import run
from raw_server import RawServer, in_thread, whole

REFUSED = whole("400 Bad Request", {"error": {"message": "not this prompt", "code": "content_policy_violation"}})


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """Twelve rows, two of which are refused."""
    asked = Asked()
    asked.refused = {"prompt 1": REFUSED, "prompt 7": REFUSED}
    with in_thread(RawServer(asked)) as server:
        there = Desk(tmp_path, server, asked)
        there.write(numbered(ids=True))
        yield there


@pytest.mark.parametrize(
    ("allowed", "code"), [("0", 1), ("1", 1), ("2", 0), ("1k", 0), ("16%", 1), ("16.7%", 0), ("100%", 0), ("0%", 1)]
)
def test_a_run_with_so_many_failed_rows_ends_well(desk: Desk, allowed: str, code: int) -> None:
    out = desk.run("--ok-failed", allowed, code=code)
    # nothing is hidden
    assert "10 done, 2 failed of 12 rows" in out
    assert "2 rows failed (2 content_policy)" in out
    # a pod that starts again ends as it did, and sends nothing
    desk.run("--ok-failed", allowed, code=code)
    assert desk.asked.total() == 12


def test_it_belongs_to_the_session_and_not_to_the_run(desk: Desk) -> None:
    desk.run(code=1)
    desk.run("--ok-failed", "2")
    desk.run("--ok-failed", "1", code=1)
    assert "run 2" not in run("list", cwd=desk.folder).out
    for command in ("retry", "resume"):
        assert run(command, "1", "--ok-failed", "2", cwd=desk.folder).code == 0
        assert run(command, "1", "--ok-failed", "1", cwd=desk.folder).code == 1


@pytest.mark.parametrize("source", ["environment", "job file"])
def test_it_comes_from_everywhere(desk: Desk, source: str) -> None:
    if source == "job file":
        (desk.folder / "prompts.toml").write_text('ok_failed = "20%"\n')
    env = {"RUNNER_OK_FAILED": "2"} if source == "environment" else {}
    assert run(*desk.command, cwd=desk.folder, env=env).code == 0
    assert run("retry", cwd=desk.folder, env=env).code == 0


def test_broken_rows_are_failed_rows(desk: Desk) -> None:
    desk.asked.refused = {}
    desk.prompts.write_text(desk.prompts.read_text() + "not json\n")
    desk.run(code=1)
    desk.run("--ok-failed", "1")


def test_a_run_that_was_stopped_is_no_success(desk: Desk) -> None:
    no_key = whole("401 Unauthorized", {"error": {"message": "no", "type": "authentication_error"}})
    desk.asked.refused = {json.loads(line)["prompt"]: no_key for line in desk.prompts.read_text().splitlines()}
    assert run(*desk.command, "--ok-failed", "100%", cwd=desk.folder).code == 3
