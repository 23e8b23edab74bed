"""The account of an agent's server against the books of a run: a session has used what came on top, at most, and nothing else."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from runner.config.job import load_job, restore_job
from runner.errors import UsageError
from runner.integrations import mcp_guard, mcp_steer
from runner.integrations.mcp_cap import Cap
from runner.integrations.mcp_files import Root
from runner.integrations.mcp_guard import Human
from runner.integrations.mcp_steer import Steering
from runner.integrations.mcp_tools import Tools
from runner.store import database
from runner.store.lock import RunLock

ADDED = (
    "INSERT INTO attempts (run_id, item_key, number, started_at, duration_s, sent, bytes_received, status, price_id,"
    " input_tokens, output_tokens, input_bound, output_bound) VALUES (1, 'a', 1, 1.0, 1.0, 1, 9, 200, 1, ?, ?, ?, ?)"
)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with a run whose tokens cost a dollar each."""
    database.prepare(tmp_path / "runner.db", create=True)
    with closing(sqlite3.connect(tmp_path / "runner.db")) as driver, driver:
        driver.execute(
            "INSERT INTO runs (id, created_at, input, input_relative, settings, fingerprint) VALUES (1, 1e9, 'x', 'x', '{}', 'f')"
        )
        rates = ("input", "output", "cached_input", "cache_write", "reasoning", "cache_write_1h")
        driver.execute(
            f"INSERT INTO prices (id, run_id, model, tier, {', '.join(rates)}) VALUES (1, 1, 'm', 'standard'{', 1e12' * 6})"
        )
    return tmp_path / "runner.db"


def spend(store: Path, tokens: int | None, bound: int | None = None) -> None:
    with closing(sqlite3.connect(store)) as driver, driver:
        driver.execute(ADDED, (tokens, None if tokens is None else 0, bound, None if bound is None else 0))


@pytest.fixture
def cap(store: Path) -> Cap:
    return Cap(store, 100.0)


def test_what_a_run_had_cost_before_is_not_used_again(store: Path, cap: Cap) -> None:
    spend(store, 7)
    grant, lock = cap.reserve(20.0, free=False)
    cap.begun(grant.id, 1)
    spend(store, 5)
    cap.ended(grant.id)
    os.close(lock)
    assert (cap.state().used, cap.state().left) == (5, 95)


def test_what_may_have_been_billed_counts_whole_also_of_a_session_that_was_killed(store: Path, cap: Cap) -> None:
    grant, lock = cap.reserve(20.0, free=False)
    cap.begun(grant.id, 1)
    spend(store, 5)
    spend(store, None, 4)
    os.close(lock)
    assert cap.state().used == 9


def test_only_a_session_that_goes_on_is_one_of_an_agent(store: Path, cap: Cap) -> None:
    grant, lock = cap.reserve(20.0, free=False)
    cap.begun(grant.id, 1)
    assert cap.open_on(1)
    cap.ended(grant.id)
    assert not cap.open_on(1)
    os.close(lock)


def test_the_share_of_an_earlier_session_lowers_no_later_one(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "hello"}\n')
    settings: dict[str, Any] = {"model": "m", "max_cost_session": 0.5}
    job = load_job(str(tmp_path / "rows.jsonl"), settings)
    assert mcp_guard.with_share(job, 2.0).max_cost_session == 0.5
    stored = restore_job({**job.settings(), "max_cost_session": 0.5, "input": str(job.input)}, {})
    assert mcp_guard.with_share(stored, 2.0).max_cost_session == 2.0


def test_a_call_waits_no_longer_than_the_most(store: Path, cap: Cap, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp_steer, "MOST_S", 0.0)
    steering = Steering(Tools(Root(store.parent), store, cap, Human(capped=True)))

    async def tell(*_: Any) -> None:
        pass

    async def watch() -> dict[str, Any]:
        with anyio.fail_after(60):
            return await steering.watch(1, 1e9, 100, tell)

    lock = RunLock(store, 1)
    assert lock.acquire()
    try:
        assert anyio.run(watch)["running"]
    finally:
        lock.release()


def test_names_that_are_empty_are_no_wish_for_all_that_failed() -> None:
    for classes, ids in (([""], None), ([" "], None), ([], None), (None, [])):
        with pytest.raises(UsageError, match=r"(names nothing|is an empty list); "):
            mcp_guard.which(classes, ids)
    assert mcp_guard.which(None, None).classes == ()
