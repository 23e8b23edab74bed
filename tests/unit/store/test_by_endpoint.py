"""What each of several endpoints has done, from attempts that are known one by one."""

from pathlib import Path

from reported import BEGIN, stored

from runner.model import Attempt, Completion, Entry, Outcome
from runner.store import by_endpoint

TIMES = {"one": [4.0], "two": [9.0, 3.0], "three": [5.0, 1.0, 2.0], "five": [0.5, 0.1, 0.4, 0.2, 0.3]}


def attempt(key: str, name: str, seconds: float, code: str | None = None) -> Attempt:
    return Attempt(
        key=key, number=1, started_at=BEGIN, duration_s=seconds, status=200, endpoint=name, error_code=code, error=code
    )


def test_a_median_is_that_of_the_answers_of_its_endpoint_by_nearest_rank(tmp_path: Path) -> None:
    saved: list[Entry] = []
    for name, times in TIMES.items():
        # what fails at once, or after long, is no answer
        saved += [attempt(f"{name} {seconds}", name, seconds, "server_error") for seconds in (0.01, 60.0, 61.0)]
        saved.append(attempt(f"{name} cancelled", name, 0.02, "cancelled"))
        saved += [
            Outcome(
                key=f"{name} {seconds}", position=1, metadata={}, fingerprint=0, attempts=1, status="done",
                completion=Completion(text="Hi", finish_reason="stop"), attempt=attempt(f"{name} {seconds}", name, seconds),
            )
            for seconds in times
        ]  # fmt: skip
    saved += [attempt("none", "none", 1.0, "server_error")]
    found = by_endpoint.read(stored(tmp_path / "runner.db", saved), 1)
    assert [(one.endpoint, one.answers, one.p50_s) for one in found] == [
        ("five", 5, 0.3),
        ("three", 3, 2.0),
        ("two", 2, 3.0),
        ("one", 1, 4.0),
        ("none", 0, None),
    ]
    assert [(one.attempts, one.failed_attempts) for one in found] == [(9, 3), (7, 3), (6, 3), (5, 3), (1, 1)]
