"""Several runs of one user at one server: they share its limits, and go on when one of them stands still, dies or leaves."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import Simulated, Started, assert_clean, at, count, rows, run, runner, simulator, until, write_prompts

from runner.workers.token_file import remove_stale

SLOTS = 6
LIMITED = ("--first-token-s", "0.2", "--chunk-s", "0", "--tokens", "5", "--max-in-flight", str(SLOTS))
LONG = 100_000
"""Rows of a run that does not come to its end."""
HERE = "limits are shared with the run of process"


@pytest.fixture
def limited() -> Iterator[Simulated]:
    with simulator(*LIMITED) as started:
        yield started


def folder_of(tmp_path: Path, name: str, count: int) -> Path:
    folder = tmp_path / name
    folder.mkdir()
    write_prompts(folder / "prompts.jsonl", range(count))
    return folder


def done(folder: Path) -> int:
    return count(folder / "runner.db", where="status = 'done'")


def runs(folder: Path) -> int:
    """Return how many runs share the limits, as another process is told."""
    found = rows(folder / "runner.db", "SELECT pace FROM runs WHERE pace IS NOT NULL")
    return max((lane["shared"] for (pace,) in found for lane in json.loads(pace)["lanes"]), default=0)


def goes_on(process: Started, folder: Path, more: int = 5) -> None:
    """Wait until a run has done some more rows."""
    before = done(folder)
    process.until(lambda: done(folder) >= before + more, "further rows")


def test_two_runs_share_the_limits_until_one_is_done(tmp_path: Path, limited: Simulated) -> None:
    first, second = folder_of(tmp_path, "first", LONG), folder_of(tmp_path, "second", 30)
    with runner(*at(limited), cwd=first) as one:
        one.until(lambda: done(first), "an answer")
        with runner(*at(limited, "--json"), cwd=second) as other:
            one.until(lambda: HERE in one.out + one.err, "the other run")
            until(lambda: runs(first) == 2, "two runs in the status")
            words = run("status", cwd=first).out
            ended = other.ended()
        assert_clean(ended)
        assert (ended.code, done(second)) == (0, 30), ended
        assert "limits shared by 2 runs" in words
        assert '"shared":2' in ended.out.replace(" ", "")
        until(lambda: runs(first) == 0, "a run that is alone again")
        one.signal(signal.SIGINT)
        assert_clean(one.ended())


def test_a_run_whose_server_of_limits_is_killed_goes_on_with_the_others(tmp_path: Path, limited: Simulated) -> None:
    folders = [folder_of(tmp_path, name, LONG) for name in ("first", "second", "third")]
    with runner(*at(limited), cwd=folders[0]) as first:
        first.until(lambda: done(folders[0]), "an answer")
        with runner(*at(limited), cwd=folders[1]) as second, runner(*at(limited), cwd=folders[2]) as third:
            until(lambda: runs(folders[1]) == 3 and runs(folders[2]) == 3, "three runs")
            first.signal(signal.SIGKILL)
            goes_on(second, folders[1])
            goes_on(third, folders[2])
            until(lambda: runs(folders[1]) == 2 and runs(folders[2]) == 2, "two runs")
            for process in (second, third):
                process.signal(signal.SIGINT)
                ended = process.ended()
                assert_clean(ended)
                assert ended.code == 130


def test_a_run_that_stands_still_with_all_slots_does_not_hold_up_the_others(tmp_path: Path, limited: Simulated) -> None:
    """The one that stands still serves in one turn, and is served in the other."""
    first, second = folder_of(tmp_path, "first", LONG), folder_of(tmp_path, "second", LONG)
    with runner(*at(limited), cwd=first) as one, runner(*at(limited), cwd=second) as other:
        until(lambda: runs(first) == 2 and runs(second) == 2, "two runs")
        for still, goes, folder in ((one, other, second), (other, one, first)):
            still.signal(signal.SIGSTOP)
            goes.until(lambda: "says nothing" in goes.out + goes.err, "the note")  # noqa: B023 - called in this turn
            goes_on(goes, folder)
            still.signal(signal.SIGCONT)
            until(lambda: runs(first) == 2 and runs(second) == 2, "two runs again")
        for process in (one, other):
            process.signal(signal.SIGINT)
            assert_clean(process.ended())


def test_a_run_that_begins_while_the_one_that_serves_stands_still_takes_over(tmp_path: Path, limited: Simulated) -> None:
    first, second = folder_of(tmp_path, "first", LONG), folder_of(tmp_path, "second", 20)
    with runner(*at(limited), cwd=first) as one:
        one.until(lambda: done(first), "an answer")
        one.signal(signal.SIGSTOP)
        ended = run(*at(limited), cwd=second)
        assert (ended.code, done(second), "says nothing" in ended.out + ended.err) == (0, 20, True), ended
        one.signal(signal.SIGCONT)
        goes_on(one, first)
        one.signal(signal.SIGINT)
        assert_clean(one.ended())


def test_a_run_that_is_to_share_nothing_shares_nothing(tmp_path: Path, limited: Simulated) -> None:
    first, second = folder_of(tmp_path, "first", LONG), folder_of(tmp_path, "second", 10)
    with runner(*at(limited), cwd=first) as one:
        one.until(lambda: done(first), "an answer")
        ended = run(*at(limited, "--no-share"), cwd=second)
        assert (ended.code, done(second)) == (0, 10), ended
        assert HERE not in one.out + one.err


def test_runs_of_other_machines_join_with_a_token(tmp_path: Path, limited: Simulated) -> None:
    first, second = folder_of(tmp_path, "first", LONG), folder_of(tmp_path, "second", 20)
    elsewhere = tmp_path / "runtime"
    elsewhere.mkdir(mode=0o700)
    key = "sk-canary-of-shared-limits-0123456789"
    with runner(*at(limited, "--serve-limits", "127.0.0.1"), cwd=first, env={"OPENAI_API_KEY": key}) as one:
        one.until(lambda: "--join" in one.out + one.err, "the address")
        words = (one.out + one.err).partition("--join ")[2].split()
        file = next(first.glob("*.token"))
        assert file.stat().st_mode & 0o777 == 0o600
        # another session of the same store removes what killed ones have left, and this is none
        remove_stale(first / file.name.rsplit(".", 2)[0])
        assert file.exists()
        env = {"XDG_RUNTIME_DIR": str(elsewhere), "OPENAI_API_KEY": key, "RUNNER_LIMITS_TOKEN": file.read_text()}
        ended = run(*at(limited, "--join", words[0], "--json"), cwd=second, env=env)
        assert (ended.code, done(second), '"shared":2' in ended.out.replace(" ", "")) == (0, 20, True), ended
        one.until(lambda: f"{HERE} " in one.out + one.err, "the other run")
        # another model is another limit
        third = folder_of(tmp_path, "third", 3)
        ended = run("run", "prompts.jsonl", "--model", "n", "--base-url", limited.openai, "--join", words[0], cwd=third, env=env)
        assert (ended.code, "no run at this address has the same" in ended.out + ended.err) == (0, True), ended
        one.signal(signal.SIGINT)
        ended = one.ended()
    assert_clean(ended)
    assert key not in ended.out + ended.err
    assert not list(first.glob("*.token"))


@pytest.mark.parametrize(
    ("options", "env", "words"),
    [
        (("--serve-limits", "0.0.0.0"), {}, "serve_limits must name one address of this machine"),
        (("--serve-limits", "127.0.0.1:x"), {}, "serve_limits must be HOST or HOST:PORT"),
        (("--join", "127.0.0.1:8410"), {}, "join needs a token: set RUNNER_LIMITS_TOKEN"),
        (("--join", "127.0.0.1"), {"RUNNER_LIMITS_TOKEN": "x"}, "join must be HOST:PORT"),
        (("--join", "127.0.0.1:8410"), {"RUNNER_LIMITS_TOKEN": "x"}, "the token of shared limits is none"),
        (("--join", "127.0.0.1:8410", "--serve-limits", "127.0.0.1"), {}, "leave out --join or --serve-limits"),
        (
            ("--base-url", "http://127.0.0.1:9/v1", "--serve-limits", "127.0.0.1"),
            {},
            "limits of several endpoints are not shared",
        ),
    ],
)
def test_what_cannot_be_shared_is_one_sentence(
    tmp_path: Path, server: Simulated, options: tuple[str, ...], env: dict[str, str], words: str
) -> None:
    folder = folder_of(tmp_path, "one", 3)
    ended = run(*at(server, *options), cwd=folder, env=env)
    assert (ended.code, words in ended.err) == (2, True), ended
    assert count(folder / "runner.db", "attempts") == 0
