"""What is read for the routes: what takes long is kept, and read anew behind the former answer; the index makes way for pages."""

import asyncio
import threading
from pathlib import Path

import pytest

from runner.web import indexing, reads
from runner.web.indexing import Indexing
from runner.web.reads import Reads


@pytest.mark.anyio
async def test_what_took_long_is_told_as_it_was_while_it_is_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads, "_SLOW_S", -1.0)
    monkeypatch.setattr(reads, "_AGAIN_S", 60.0)
    store, read = tmp_path / "runner.db", iter(range(9))
    store.write_text("one")
    kept = Reads(store)

    async def asked(age: float) -> int:
        if known := kept._kept.get("key"):
            known.at -= age
        return await kept.kept("key", lambda: next(read))

    assert [await asked(0), await asked(0)] == [0, 0]
    # as long as nothing is written, what was read holds
    assert [await asked(70), await asked(1000)] == [0, 0]
    assert not kept._anew
    store.write_text("another")
    # too old by far: whoever asks waits
    assert await asked(1000) == 1
    store.write_text("and another one")
    assert await asked(70) == 1
    await asyncio.gather(*kept._anew.values())
    assert not kept._anew
    assert await asked(0) == 2


@pytest.mark.anyio
async def test_a_step_of_the_index_waits_for_what_is_being_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "_GIVES_WAY_S", 60.0)
    kept, goes_on, order = Reads(tmp_path / "runner.db"), threading.Event(), list[str]()
    index = Indexing(kept)

    def page() -> None:
        assert goes_on.wait(60)
        order.append("page")

    reading = asyncio.create_task(kept.now(page))
    await asyncio.sleep(0)
    step = asyncio.create_task(index._step(lambda: order.append("step")))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not order
    goes_on.set()
    await asyncio.gather(reading, step)
    assert order == ["page", "step"]
    # who reads all the time does not stop the index
    monkeypatch.setattr(indexing, "_GIVES_WAY_S", 0.0)
    kept.quiet.clear()
    await index._step(lambda: order.append("step"))
    assert order[2:] == ["step"]
