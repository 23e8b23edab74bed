"""The batch APIs as a session uses them, against the simulator's: both dialects, over real sockets."""

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from simulating import quick

from runner.batches import BatchResult, BatchService, Remote
from runner.errors import AttemptError, ProviderError, TransportError
from runner.interfaces import Provider
from runner.model import Request
from runner.providers.batch import download
from runner.providers.batch.service import open_service
from runner.providers.batch.transport import Way
from runner.providers.dialects import anthropic, openai
from runner.simulator import Simulator

pytestmark = pytest.mark.anyio
BOTH = pytest.mark.parametrize("dialect", ["openai", "anthropic"])
TOKEN = "0123456789abcdef"
ROWS = 25


def provider_of(dialect: str, server: Simulator) -> Provider:
    made = openai.make if dialect == "openai" else anthropic.make
    return made(f"{server.url}/v1", "key-one", version="1", stream=False)


@asynccontextmanager
async def opened(dialect: str, server: Simulator, key: str = "key-one") -> AsyncIterator[BatchService]:
    async with open_service(dialect, f"{server.url}/v1", key, provider_of(dialect, server), Way(version="1")) as service:
        yield service


def written(folder: Path, dialect: str, server: Simulator, service: BatchService, rows: int = ROWS) -> Path:
    """A file of requests, encoded as they would be sent live."""
    provider = provider_of(dialect, server)
    path = folder / "requests.jsonl"
    with path.open("wb") as file:
        for number in range(rows):
            asked = Request(model="m", messages=[{"role": "user", "content": f"row {number}\nand a line"}])
            file.write(service.line(service.custom_id(f"row-{number}"), provider.encode(asked)))
    return path


async def made(folder: Path, dialect: str, server: Simulator, service: BatchService) -> Remote:
    path = written(folder, dialect, server, service)
    return await service.create(path, await service.upload(path, TOKEN), TOKEN)


async def ended(service: BatchService, remote: Remote) -> Remote:
    with anyio.fail_after(60):
        while remote.phase != "ended":
            await anyio.sleep(0.02)
            remote = await service.look(remote.id)
    return remote


async def fetched(folder: Path, service: BatchService, remote: Remote) -> list[BatchResult]:
    found: list[BatchResult] = []
    for number, source in enumerate(remote.results):
        path = folder / f"results-{number}.jsonl"
        await service.download(source, path)
        found += service.results(path)
        # nothing lies beside them
        assert set(os.listdir(folder)) <= {"requests.jsonl", *(f"results-{one}.jsonl" for one in range(number + 1))}  # noqa: PTH208 - an asynchronous function
    return found


@BOTH
@pytest.mark.parametrize(
    "trouble",
    [
        {},
        {"batch_break_bytes": 700, "batch_breaks": 3},
        {"batch_gzip": True},
        {"batch_utc_offset_min": -330, "batch_shuffle": True},
    ],
    ids=["plain", "breaks", "gzip", "offset"],
)
async def test_every_answer_comes_back(dialect: str, trouble: dict[str, Any], tmp_path: Path) -> None:
    async with quick(batch_delay_s=0.05, **trouble) as server, opened(dialect, server) as service:
        begun = time.time()
        first = await made(tmp_path, dialect, server, service)
        assert first.token == (TOKEN if dialect == "openai" else None)
        remote = await ended(service, first)
        assert (remote.end, remote.counts.total, remote.counts.done, remote.counts.failed) == ("completed", ROWS, ROWS, 0)
        results = await fetched(tmp_path, service, remote)
        assert sorted(one.custom_id or "" for one in results) == sorted(f"row-{number}" for number in range(ROWS))
        assert {(one.kind, one.status) for one in results} == {("answered", 200)}
        for one in results:
            decoder = provider_of(dialect, server).decoder()
            decoder.whole(one.body)
            assert decoder.completion().usage is not None
        days = 30 if dialect == "openai" else 29
        assert remote.created_at is not None
        assert remote.ended_at is not None
        assert begun - 2 < remote.created_at <= remote.ended_at < time.time() + 2
        since = remote.ended_at if dialect == "openai" else remote.created_at
        assert remote.kept_until == since + days * 86_400
        if dialect == "anthropic":
            assert remote.expires_at == pytest.approx(remote.created_at + 86_400)


@BOTH
async def test_a_lost_answer_is_found_by_who_can_see_it(dialect: str, tmp_path: Path) -> None:
    async with quick(batch_delay_s=0.05, batch_lost=1, batch_lost_uploads=1) as server, opened(dialect, server) as service:
        path = written(tmp_path, dialect, server, service)
        since, upload_id = time.time(), None
        assert await service.find_upload(TOKEN) is None
        assert list(await service.find(TOKEN, ROWS, since)) == []
        if dialect == "openai":
            with pytest.raises(TransportError) as lost:
                await service.upload(path, TOKEN)
            assert lost.value.sent
            upload_id = await service.find_upload(TOKEN)
            assert upload_id is not None
        with pytest.raises(TransportError) as lost:
            await service.create(path, upload_id, TOKEN)
        assert (lost.value.code, lost.value.sent) == ("closed", True)
        (found,) = await service.find(TOKEN, ROWS, since)
        assert list(await service.find(TOKEN, ROWS, since + 3600)) == []
        # who else has sent a batch: nothing tells it but the number of its rows, or its token
        others = ("another", ROWS) if dialect == "openai" else (TOKEN, ROWS + 1)
        assert list(await service.find(*others, since)) == []
        assert [one.id async for one in service.all(since)] == [found.id]
        remote = await ended(service, found)
        assert len(await fetched(tmp_path, service, remote)) == ROWS
        async with opened(dialect, server, "key-two") as other:
            assert other.account != service.account
            for asked in (other.look(remote.id), other.cancel(remote.id)):
                with pytest.raises(ProviderError) as unknown:
                    await asked
                assert (unknown.value.code, unknown.value.verdict) == ("batch_not_found", "retry")
            assert list(await other.find(TOKEN, ROWS, since)) == []
            assert await other.find_upload(TOKEN) is None
        if upload_id is not None:
            await service.forget(upload_id)
            await service.forget(upload_id)
            assert await service.find_upload(TOKEN) is None


@BOTH
async def test_a_cancel_keeps_what_was_answered(dialect: str, tmp_path: Path) -> None:
    async with quick(batch_delay_s=30.0, batch_cancel_done=0.4) as server, opened(dialect, server) as service:
        remote = await made(tmp_path, dialect, server, service)
        cancelled = await service.cancel(remote.id)
        assert cancelled.phase in ("cancelling", "ended")
        remote = await ended(service, cancelled)
        assert remote.end == "cancelled"
        kinds = {one.custom_id: one.kind for one in await fetched(tmp_path, service, remote)}
        assert list(kinds.values()).count("answered") == 10
        # what OpenAI never began is in no file, or cancelled; Anthropic names each
        assert set(kinds.values()) <= {"answered", "cancelled"}
        assert (await service.cancel(remote.id)).end == "cancelled"


@BOTH
async def test_what_is_not_answered_says_why(dialect: str, tmp_path: Path) -> None:
    trouble = {"batch_expire": 0.3, "batch_fail": 0.3, "batch_odd": 0.3, "batch_twice": 0.2, "batch_unasked": 0.2}
    async with quick(batch_delay_s=0.05, batch_window_s=1.0, **trouble) as server, opened(dialect, server) as service:
        remote = await ended(service, await made(tmp_path, dialect, server, service))
        assert remote.end == "expired"
        results = await fetched(tmp_path, service, remote)
        kinds = {one.kind for one in results}
        assert {"answered", "refused", "expired"} <= kinds
        refused = next(one for one in results if one.kind == "refused")
        assert refused.status == 400
        error = provider_of(dialect, server).error(refused.status, {}, refused.body)
        assert (error.code, error.verdict) == ("bad_request", "fail")
        assert {f"row-{number}" for number in range(ROWS)} <= {one.custom_id for one in results}


@BOTH
@pytest.mark.parametrize("full", ["fail", "refuse"])
async def test_no_room_at_the_provider(dialect: str, full: str, tmp_path: Path) -> None:
    async with quick(batch_queue_tokens=10, batch_queue_full=full) as server, opened(dialect, server) as service:
        if (dialect, full) == ("openai", "fail"):
            remote = await ended(service, await made(tmp_path, dialect, server, service))
            assert (remote.end, [(fault.line, fault.code) for fault in remote.faults]) == ("failed", [(None, "batch_quota")])
            return
        with pytest.raises(ProviderError) as refused:
            await made(tmp_path, dialect, server, service)
        assert (refused.value.code, refused.value.verdict, refused.value.throttled) == ("batch_quota", "retry", True)


@BOTH
async def test_too_large_a_file(dialect: str, tmp_path: Path) -> None:
    async with quick(batch_bytes=500) as server, opened(dialect, server) as service:
        with pytest.raises(ProviderError) as large:
            await made(tmp_path, dialect, server, service)
        assert (large.value.code, large.value.verdict) == ("batch_too_large", "stop")


async def test_a_file_that_is_taken_and_a_batch_that_is_not(tmp_path: Path) -> None:
    async with quick(batch_refuse=1) as server, opened("openai", server) as service:
        remote = await ended(service, await made(tmp_path, "openai", server, service))
        assert (remote.end, remote.results) == ("failed", ())
        assert remote.faults
        assert all(fault.line is not None and fault.message for fault in remote.faults)
    async with quick(batch_refuse=1) as server, opened("anthropic", server) as service:
        with pytest.raises(ProviderError) as refused:
            await made(tmp_path, "anthropic", server, service)
        assert refused.value.code == "bad_request"


@BOTH
async def test_results_that_are_gone(dialect: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSE_S", 0.01)
    async with quick(batch_delay_s=0.02, batch_404=1, batch_kept_s=0.3) as server, opened(dialect, server) as service:
        remote = await made(tmp_path, dialect, server, service)
        with pytest.raises(ProviderError) as early:
            await service.look(remote.id)
        assert (early.value.code, early.value.verdict) == ("batch_not_found", "retry")
        remote = await ended(service, remote)
        await anyio.sleep(0.5)
        for source in remote.results:
            with pytest.raises(AttemptError) as gone:
                await service.download(source, tmp_path / "gone.jsonl")
            assert gone.value.code == "batch_not_found"
        assert not (tmp_path / "gone.jsonl").exists()
