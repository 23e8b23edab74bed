"""When a batch run is to be done: a time of day, a date, a span; and what goes with which mode."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runner.config import due
from runner.config.job import load_job, restore_job
from runner.errors import UsageError


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def at(*parts: int) -> float:
    return datetime(*parts, tzinfo=UTC).timestamp()  # type: ignore[misc, arg-type]


@pytest.mark.parametrize(
    ("by", "now", "then"),
    [
        ("07:00", at(2026, 12, 1, 4), at(2026, 12, 1, 6)),
        ("7:00", at(2026, 12, 1, 6), at(2026, 12, 2, 6)),  # it is 7:00: the next one is tomorrow
        ("23:30:30", at(2026, 12, 31, 22, 45), at(2027, 1, 1, 22, 30, 30)),  # over the end of a year
        ("07:00", at(2026, 3, 28, 20), at(2026, 3, 29, 5)),  # a night of 23 hours
        ("07:00", at(2026, 10, 24, 20), at(2026, 10, 25, 6)),  # and one of 25
        ("2026-12-02 07:00", at(2026, 12, 1), at(2026, 12, 2, 6)),
        ("2026-07-02T07:00", at(2026, 12, 1), at(2026, 7, 2, 5)),  # past, and of another season
        ("2026-12-02T07:00:00Z", at(2026, 12, 1), at(2026, 12, 2, 7)),
    ],
)
def test_an_instant(by: str, now: float, then: float) -> None:
    assert due.instant(by, now) == then
    assert due.due(by, None, now) == then


def test_a_span_begins_with_the_session() -> None:
    assert due.due(None, 90.0, 1000.0) == 1090.0
    assert due.due(None, None, 1000.0) is None


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    (tmp_path / "p.jsonl").write_text('{"prompt": "a"}\n')
    return tmp_path / "p.jsonl"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"mode": "batch", "by": "7 am"}, "by must be a time of day such as 07:00"),
        ({"mode": "batch", "by": "24:00"}, "by must be"),
        ({"mode": "batch", "by": "2026-02-30 07:00"}, "by must be"),
        ({"mode": "batch", "by": "20261202"}, "by must be"),
        ({"mode": "mixed", "by": "07:00", "within": "6h"}, "by and within exclude each other"),
        ({"by": "07:00"}, "add mode batch or mixed"),
        ({"within": "6h"}, "within (21600) says when"),
        ({"mode": "live", "within": "6h"}, "add mode batch or mixed"),
        ({"mode": "batches"}, "mode must be live or batch or mixed"),
        ({"mode": "batch", "within": "0"}, "within must be a number of seconds"),
    ],
)
def test_what_is_refused(prompts: Path, given: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError) as refused:
        load_job(prompts, given, {})
    assert words in str(refused.value)


def test_a_nearer_source_replaces_the_other_way_to_say_it(prompts: Path) -> None:
    prompts.with_suffix(".toml").write_text('mode = "mixed"\nby = "07:00"\n')
    assert load_job(prompts, {}, {}).by == "07:00"
    job = load_job(prompts, {"within": "2h"}, {})
    assert (job.by, job.within) == (None, 7200.0)
    # who wants it live on the command line need not mend the file
    job = load_job(prompts, {"mode": "live"}, {})
    assert (job.mode, job.by, job.within) == ("live", None, None)


def test_a_stored_run_keeps_its_mode_until_another_is_given(prompts: Path) -> None:
    stored = load_job(prompts, {"mode": "mixed", "by": "07:00", "model": "m"}, {}).stored()
    assert (restore_job(stored, {}, {}).mode, restore_job(stored, {}, {}).by) == ("mixed", "07:00")
    assert restore_job(stored, {"mode": "live"}, {}).by is None
    assert restore_job(stored, {"within": 60}, {}).by is None
    live = load_job(prompts, {"model": "m"}, {}).stored()
    with pytest.raises(UsageError, match="add mode batch or mixed"):
        restore_job(live, {"by": "07:00"}, {})
