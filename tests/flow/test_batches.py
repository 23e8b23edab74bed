"""Rows through batches, with the real simulator, service and store: whatever happens, nothing is bought twice or left behind."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from shutil import copy

import pytest
from batching import DIALECTS, Calls, Killed, Session, items_of, new_store, session
from simulating import quick

from runner.model import Attempt
from runner.simulator import Simulator

pytestmark = pytest.mark.anyio
BOTH = pytest.mark.parametrize("dialect", DIALECTS)
ROWS = 3


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store, to be copied."""
    return new_store(tmp_path_factory.mktemp("store"))


async def check(one: Session, server: Simulator, keys: Sequence[str]) -> None:
    """Each row is done, each answer that was bought is booked once, and nothing is left at the provider or here."""
    stored = await one.store.settled(keys)
    assert {key: found.status for key, found in stored.items()} == dict.fromkeys(keys, "done")
    counts = server.stats()
    assert counts["batch_answers"] == len(keys)
    assert {found.attempts for found in stored.values()} == {1}
    money = await one.store.money()
    assert (money.open_requests, money.perhaps) == (0, 0)
    assert await one.store.batches.batches() == []


async def killed_at(point: int, folder: Path, empty: Path, dialect: str) -> Calls:
    """Kill a session at a point, and have another one finish; return the points of the first."""
    folder.mkdir()
    copy(empty, folder)
    items, calls = items_of(ROWS), Calls(point)
    async with quick(batch_delay_s=0.01) as server:
        try:
            async with session(folder, server.url, dialect, items, kill=calls) as one:
                await one.run()
        except* Killed:
            pass
        async with session(folder, server.url, dialect, items) as one:
            left = await one.run()
            assert (left.why, one.stop.reason) == ("done", None), calls.seen[-1]
            await check(one, server, [item.key for item in items])
            assert server.stats()["batches"] == 1, calls.seen[-1]
            assert not (folder / "runner.db.batches").exists(), calls.seen[-1]
    return calls


@BOTH
async def test_a_kill_at_any_point_buys_nothing_twice_and_leaves_nothing_behind(
    dialect: str, tmp_path: Path, empty: Path
) -> None:
    whole = await killed_at(0, tmp_path / "whole", empty, dialect)
    assert Counter(whole.seen)["create"] == 1
    for point in range(1, len(whole.seen) + 1):
        await killed_at(point, tmp_path / str(point), empty, dialect)
