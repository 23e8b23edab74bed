"""An observer is told what happens, and cannot harm the run."""

import json
import logging
import sqlite3
from pathlib import Path

import pytest

import runner
from runner.event_types import Event, Finished, Progress, Saved, Started


def prompts(folder: Path, rows: int) -> Path:
    path = folder / "p.jsonl"
    path.write_text("".join(json.dumps({"id": str(row), "prompt": f"Say {row}."}) + "\n" for row in range(rows)))
    return path


def test_events_come_in_order_and_name_every_row_once(tmp_path: Path) -> None:
    events: list[Event] = []
    runner.run(prompts(tmp_path, 30), db=tmp_path / "r.db", provider="simulator", observe=events.append)
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Finished)
    assert any(isinstance(event, Progress) for event in events)
    saved = [outcome.key for event in events if isinstance(event, Saved) for outcome in event.outcomes]
    assert sorted(saved, key=int) == [str(row) for row in range(30)]


def test_an_observer_that_fails_costs_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def observe(event: Event) -> None:
        if isinstance(event, Saved):
            raise RuntimeError("no more")

    with caplog.at_level(logging.ERROR, "runner"):
        summary = runner.run(prompts(tmp_path, 20), db=tmp_path / "r.db", provider="simulator", observe=observe)
    assert (summary.finished, summary.done) == (True, 20)
    with sqlite3.connect(tmp_path / "r.db") as store:
        assert store.execute("SELECT count(*) FROM attempts").fetchone() == (20,)
    store.close()
    assert caplog.text.count("the observer failed") == 1
