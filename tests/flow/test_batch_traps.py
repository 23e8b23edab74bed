"""Traps of batch APIs in which answers or money are lost, with the real simulator, service and store."""

import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from batching import DIALECTS, Calls, Fast, Killed, Session, items_of, session
from msgspec import structs
from processes import rows
from simulating import quick

from runner.engine.batch.outlook import Decision
from runner.engine.batch.parts import Standing
from runner.engine.clock import Clock
from runner.engine.retry import RetryPolicy
from runner.errors import ProviderError
from runner.model import Attempt, Params
from runner.providers.batch import download
from runner.providers.batch.service import open_service
from runner.providers.batch.transport import Way
from runner.providers.dialects import anthropic, openai
from runner.simulator import Simulator

pytestmark = pytest.mark.anyio
BOTH = pytest.mark.parametrize("dialect", DIALECTS)
HOUR, DAY = 3_600.0, 86_400.0


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSE_S", 0.0)


class Bent:
    """A service of which some calls go otherwise: ``bent`` by name, each with the call as it is before its values."""

    def __init__(self, inner: Any, bent: dict[str, Any]) -> None:
        self._inner, self._bent = inner, bent
        self.calls = Counter[str]()

    def __getattr__(self, name: str) -> Any:
        found, bent = getattr(self._inner, name), self._bent.get(name)
        if not callable(found):
            return bent or found

        def call(*values: Any) -> Any:
            self.calls[name] += 1
            return bent(found, *values) if bent is not None else found(*values)

        return call


@asynccontextmanager
async def at(
    server: Simulator,
    dialect: str,
    folder: Path,
    items: Sequence[Any],
    *,
    ahead_s: float = 0.0,
    key: str = "key-one",
    bent: dict[str, Any] | None = None,
    **more: Any,
) -> AsyncIterator[tuple[Session, Bent]]:
    """A session over rows, and its service. ahead_s: by which our clock is ahead of the provider's."""
    made = (openai if dialect == "openai" else anthropic).make(f"{server.url}/v1", key, version="1", stream=False)

    def wall() -> float:
        return time.time() + ahead_s

    fast = Fast()
    clock = Clock(monotonic=lambda: time.monotonic() + fast.ahead, sleep=fast.sleep, wall=wall)
    async with open_service(dialect, f"{server.url}/v1", key, made, Way(version="1"), clock=wall) as service:
        held = Bent(service, bent or {})
        async with session(folder, server.url, dialect, items, service=held, clock=clock, **more) as one:
            yield one, held


class Kill(Calls):
    """Kills a session behind so many of its calls after the first (``nth``: second, third) of a name."""

    def __init__(self, name: str, further: int = 0, *, nth: int = 1) -> None:
        super().__init__()
        self._name, self._further, self._nth = name, further, nth

    def step(self, name: str) -> None:
        if not self.at and name == self._name and self.seen.count(name) == self._nth - 1:
            self.at = len(self.seen) + 1 + self._further
        super().step(name)


async def killed(server: Simulator, dialect: str, folder: Path, items: Sequence[Any], kill: Kill, **more: Any) -> None:
    """Run a session until it is killed."""
    is_dead = False
    try:
        async with at(server, dialect, folder, items, kill=kill, **more) as (one, _):
            await one.run()
    except* Killed:
        is_dead = True
    assert is_dead, kill.seen


async def all_done(one: Session, server: Simulator, keys: Sequence[str], *, batches: int = 1) -> None:
    """Each row is done by its first attempt, each answer that was bought is booked, and nothing is left."""
    stored = await one.store.settled(keys)
    assert {key: (found.status, found.attempts) for key, found in stored.items()} == dict.fromkeys(keys, ("done", 1))
    counts = server.stats()
    assert (counts["batch_answers"], counts["batches"]) == (len(keys), batches)
    money = await one.store.money()
    assert (money.open_requests, money.perhaps) == (0, 0)
    assert await one.store.batches.batches() == []

    as_sent(one)


def as_sent(one: Session) -> None:
    """Outcomes are of the rows as they were sent."""
    assert one.outcomes
    assert {key: found.fingerprint for key, found in one.outcomes.items()} == {
        key: 1000 + int(key.removeprefix("row-")) for key in one.outcomes
    }


def keys_of(items: Sequence[Any]) -> list[str]:
    return [item.key for item in items]


def lost(one: Session) -> list[Attempt]:
    return [entry for entry in one.entries if isinstance(entry, Attempt)]


# -- results


@BOTH
async def test_fewer_results_than_the_provider_counts_are_fetched_again(dialect: str, tmp_path: Path) -> None:
    items, looks = items_of(10), []

    async def half(call: Any, source: str, path: Path) -> None:
        await call(source, path)
        looks.append(source)
        if len(looks) < 3:
            lines = path.read_bytes().splitlines(keepends=True)  # noqa: ASYNC240 - a small file
            path.write_bytes(b"".join(lines[: 3 * len(looks)]))  # noqa: ASYNC240

    async with (
        quick(batch_delay_s=0.01) as server,
        at(server, dialect, tmp_path, items, bent={"download": half}) as (one, _),
    ):
        assert (await one.run()).why == "done"
        assert len(looks) == 3
        await all_done(one, server, keys_of(items))


@BOTH
async def test_answers_that_are_counted_and_not_listed_are_waited_for_as_long_as_it_takes(dialect: str, tmp_path: Path) -> None:
    items, looks = items_of(5), []

    async def look(call: Any, remote_id: str) -> Any:
        remote = await call(remote_id)
        if remote.phase != "ended":
            return remote
        looks.append(remote)
        # more often than results of which some are missing are fetched again
        return remote if len(looks) > 8 else structs.replace(remote, results=())

    async with quick(batch_delay_s=0.01) as server:
        async with at(server, dialect, tmp_path, items, bent={"look": look}) as (one, service):
            assert (await one.run(detach=True)).why == "waiting"
            (batch,) = one.batches.open.values()
            await to_end(service, batch.remote_id)
            await one.batches.fetch()
            assert [held.state for held in one.batches.open.values()] == ["submitted"]
            (note,) = [note for note in one.notes if "does not say where they are" in note]
            assert "batch 1 has ended with 5 answers" in note
            assert "`runner batches forget b1` gives them up" in note
        # the next session waits on
        async with at(server, dialect, tmp_path, items, bent={"look": look}) as (one, _):
            assert (await one.run()).why == "done"
            assert (len(looks) > 8, server.stats()["batches"]) == (True, 1)
            await all_done(one, server, keys_of(items))


@BOTH
async def test_a_batch_whose_answers_are_not_listed_may_be_the_one_that_a_kill_has_left(dialect: str, tmp_path: Path) -> None:
    items, looks = items_of(5), []

    async def find(call: Any, *values: Any) -> Any:
        looks.append(found := await call(*values))
        return [structs.replace(remote, results=()) for remote in found] if len(looks) < 3 else found

    async with quick(batch_delay_s=0.01) as server:
        await killed(server, dialect, tmp_path, items, Kill("create"))
        with anyio.fail_after(60):
            while server.stats()["batch_answers"] < 5:  # noqa: ASYNC110 - only the count tells it
                await anyio.sleep(0.01)
        async with at(server, dialect, tmp_path, items, bent={"find": find}) as (one, _):
            assert (await one.run()).why == "done"
            await all_done(one, server, keys_of(items))


@BOTH
async def test_a_stop_during_the_last_import_leaves_no_batch_of_which_nothing_is_left(dialect: str, tmp_path: Path) -> None:
    items = items_of(5)

    def results(call: Any, path: Path) -> Any:
        lines = list(call(path))
        one.stop.request("stopped by Ctrl-C", grace_s=0.0)
        return iter(lines)

    async with (
        quick(batch_delay_s=0.01) as server,
        at(server, dialect, tmp_path, items, bent={"results": results}) as (one, _),
    ):
        await one.run()
        await all_done(one, server, keys_of(items))


@BOTH
async def test_results_that_are_not_found_for_a_moment_are_waited_for(dialect: str, tmp_path: Path) -> None:
    items, asked = items_of(5), []

    async def late(call: Any, source: str, path: Path) -> None:
        asked.append(source)
        if len(asked) < 6:
            raise ProviderError("No such file", code="batch_not_found", verdict="retry", status=404)
        await call(source, path)

    async with (
        quick(batch_delay_s=0.01) as server,
        at(server, dialect, tmp_path, items, bent={"download": late}) as (one, _),
    ):
        assert (await one.run()).why == "done"
        await all_done(one, server, keys_of(items))


async def to_end(service: Bent, remote_id: str | None) -> None:
    """Wait until a batch has ended at the provider."""
    with anyio.fail_after(60):
        while (await service.look(remote_id)).phase != "ended":  # noqa: ASYNC110 - only a look tells it
            await anyio.sleep(0.01)


async def seen_to_end(one: Session, service: Bent) -> str:
    """Detach a session, wait until its batch has ended, and have that stored; return what the provider calls the batch."""
    assert (await one.run(detach=True)).why == "waiting"
    (batch,) = one.batches.open.values()
    assert batch.remote_id is not None
    await to_end(service, batch.remote_id)
    await one.batches.fetch()
    assert [(held.state, held.kept_until is None) for held in one.batches.open.values()] == [("ended", False)]
    return str(batch.remote_id)


async def unavailable(_call: Any, _source: str, _path: Path) -> None:
    raise ProviderError("overloaded", code="server_error", verdict="retry", status=503)


async def deleted(server: Simulator, dialect: str, remote_id: str, results: Sequence[str]) -> None:
    """Delete results at the provider."""
    headers = {"authorization": "Bearer key-one", "x-api-key": "key-one", "anthropic-version": "2023-06-01"}
    paths = [f"/v1/files/{name}" for name in results] if dialect == "openai" else [f"/v1/messages/batches/{remote_id}"]
    async with httpx.AsyncClient(base_url=server.url, headers=headers, trust_env=False) as http:
        assert [(await http.delete(path)).status_code for path in paths] == [200] * len(paths)


@BOTH
async def test_results_are_warned_of_and_only_given_up_when_their_time_is_over(dialect: str, tmp_path: Path) -> None:
    items, days = items_of(5, params=Params(max_tokens=50)), 30 if dialect == "openai" else 29
    vendor = "the server" if dialect == "openai" else "Anthropic"
    async with quick(batch_delay_s=0.01) as server:
        async with at(server, dialect, tmp_path, items, bent={"download": unavailable}) as (one, service):
            remote_id = await seen_to_end(one, service)
            (batch,) = one.batches.open.values()
        # five days before the end it is said, and not earlier
        for ahead_days, said in ((days - 6, False), (days - 4, True), (days + 0.5, False)):
            async with at(server, dialect, tmp_path, items, ahead_s=ahead_days * DAY) as (one, _):
                await one.batches.recover()
                warned = [note for note in one.notes if f"{vendor} keeps the results of batch 1 for" in note]
                assert (len(warned) == 1) == said
        await deleted(server, dialect, remote_id, batch.results)
        # before that nobody takes them for gone, and nothing is sent
        for ahead_days in (days - 1.0, days + 0.5):
            async with at(server, dialect, tmp_path, items, ahead_s=ahead_days * DAY) as (one, _):
                assert (await one.run()).why == "stopped"
                assert one.stop.error is not None
                assert (one.stop.error.code, server.stats()["batches"]) == ("batch_not_found", 1)
        async with at(server, dialect, tmp_path, items, ahead_s=(days + 2) * DAY) as (one, _):
            assert (await one.run()).why == "done"
            assert any("may have been billed, and are open again" in note for note in one.notes)
            stored = await one.store.settled(keys_of(items))
            assert {(found.status, found.attempts) for found in stored.values()} == {("done", 2)}
            # the answers that nobody can have any more were paid for, and are on the books as that
            assert server.stats()["batch_answers"] == 10
            money = await one.store.money()
            assert money.perhaps is not None
            assert (money.open_requests, money.perhaps > 0) == (0, True)
        first = rows(tmp_path / "runner.db", "SELECT error_code, sent FROM attempts WHERE number = 1")
        assert first == [("batch_gone", 1)] * 5


async def test_an_archived_batch_has_no_results_and_its_rows_are_perhaps_billed(tmp_path: Path) -> None:
    items, archived = items_of(5), True

    async def look(call: Any, remote_id: str) -> Any:
        remote = await call(remote_id)
        return structs.replace(remote, results=(), kept_until=0.0) if archived and remote.phase == "ended" else remote

    async with (
        quick(batch_delay_s=0.01) as server,
        at(server, "anthropic", tmp_path, items, bent={"look": look}, again=False) as (one, _),
    ):
        assert (await one.run()).why == "live"
        assert [(entry.error_code, entry.sent, entry.input_bound is not None) for entry in lost(one)] == [
            ("batch_missing", True, True)
        ] * 5
        archived = False
        one.batches._plan.again = True
        assert (await one.run()).why == "done"
        assert server.stats()["batch_answers"] == 10


@BOTH
async def test_a_batch_that_is_completed_with_errors_alone_is_read(dialect: str, tmp_path: Path) -> None:
    items = items_of(5)
    async with (
        quick(batch_delay_s=0.01, batch_fail=1.0, batch_fail_status=500) as server,
        at(server, dialect, tmp_path, items, policy=RetryPolicy(attempts=1)) as (one, _),
    ):
        assert (await one.run()).why == "done"
        assert {(found.status, found.error_code) for found in one.outcomes.values()} == {("failed", "server_error")}
        assert (len(one.outcomes), server.stats()["batches"], server.stats()["batch_answers"]) == (5, 1, 0)
        (batch,) = await one.store.batches.batches(all_states=True)
        assert (batch.state, batch.end, len(batch.results)) == ("done", "completed", 1)
        as_sent(one)


@BOTH
async def test_an_error_that_comes_after_its_row_was_sent_elsewhere_ends_no_row(dialect: str, tmp_path: Path) -> None:
    items = items_of(10)
    late = {"batch_cancel_s": 0.02, "batch_cancel_done": 1.0, "batch_fail": 0.5}
    async with (
        quick(batch_delay_s=30.0, **late) as server,
        at(server, dialect, tmp_path, items, again=False) as (one, _),
    ):
        await one.run(detach=True)
        (number,) = one.batches.open

        def until(standing: Standing) -> Decision:
            return Decision(piece_rows=9, cancel=(number,), overtake=(number,), live=standing.returned, wake_at=standing.now + 1)

        assert (await one.batches.run(one.source, until=until)).why == "live"
        await one.batches.follow()
        answered = server.stats()["batch_answers"]
        assert 0 < answered < 10
        # what it has refused is open, since it may be answered where it was sent instead
        assert [found.status for found in one.outcomes.values()] == ["done"] * answered
        assert {(entry.error_code, entry.status) for entry in lost(one)} == {("bad_request", 400)}
        assert len([item async for item in one.source()]) == 10 - answered


# -- files and queues


@pytest.mark.parametrize("behind", [0, 1, 2], ids=["uploading", "uploaded", "creating"])
async def test_an_upload_that_vanished_between_sessions_is_made_again(behind: int, tmp_path: Path) -> None:
    items = items_of(5)
    async with quick(batch_delay_s=0.01) as server:
        await killed(server, "openai", tmp_path, items, Kill("upload", behind))
        async with at(server, "openai", tmp_path, items) as (one, service):
            (batch,) = await one.store.batches.batches()
            assert batch.state == ("uploading", "uploaded", "creating")[behind]
            upload_id = batch.upload_id or await service.find_upload(batch.token)
            await service.forget(upload_id)
            service.calls.clear()
            assert (await one.run()).why == "done"
            assert service.calls["upload"] == 1
            await all_done(one, server, keys_of(items))


@BOTH
async def test_a_file_of_requests_that_is_not_whole_is_written_anew(dialect: str, tmp_path: Path) -> None:
    items = items_of(5)
    async with quick(batch_delay_s=0.01) as server:
        await killed(server, dialect, tmp_path, items, Kill("change"))
        (path,) = (tmp_path / "runner.db.batches").glob("*.jsonl")
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines[:3]))
        async with at(server, dialect, tmp_path, items) as (one, _):
            assert [batch.state for batch in await one.store.batches.batches()] == ["written"]
            assert (await one.run()).why == "done"
            await all_done(one, server, keys_of(items))


@pytest.mark.parametrize(("dialect", "full"), [("openai", "fail"), ("openai", "refuse"), ("anthropic", "refuse")])
async def test_a_full_queue_in_the_middle_of_a_split_is_gone_on_with_by_the_next_session(
    dialect: str, full: str, tmp_path: Path
) -> None:
    items, uploads, taken = items_of(30), 0, []
    # there is room for one file of ten requests; a cancel comes too late, and so ends a batch with all its answers
    room = {"batch_queue_tokens": 700, "batch_queue_full": full}
    async with quick(batch_delay_s=100.0, batch_cancel_done=1.0, **room) as server:
        why = "waiting"
        while why == "waiting" and len(taken) < 9:
            async with at(server, dialect, tmp_path, items, rows=10) as (one, service):
                why = (await one.run(detach=True)).why
                uploads += service.calls["upload"]
                taken.append(sorted(batch.state for batch in one.batches.open.values()))
                for batch in [one for one in one.batches.open.values() if one.remote_id is not None]:
                    await service.cancel(batch.remote_id)
                    await to_end(service, batch.remote_id)
                stored = await one.store.settled(keys_of(items))
                made = await one.store.batches.batches(all_states=True)
        assert (why, len(taken) >= 4) == ("done", True)
        # what was taken waits there, what was not waits here, as a file that the provider has; OpenAI may say later that it fails
        if (dialect, full) != ("openai", "fail"):
            assert taken == [["submitted", *["uploaded"] * left] for left in (2, 1, 0)] + [[]]
        assert [batch.rows for batch in made if batch.state == "done"] == [10, 10, 10]
        assert {(found.status, found.attempts) for found in stored.values()} == {("done", 1)}
        assert (server.stats()["batch_answers"], uploads) == (30, 3)


@BOTH
@pytest.mark.parametrize("status", [408, 500, 502])
async def test_a_creation_that_came_through_although_it_was_refused_is_found(dialect: str, status: int, tmp_path: Path) -> None:
    items, refused = items_of(5), []

    async def create(call: Any, *values: Any) -> Any:
        made = await call(*values)
        if not refused:
            refused.append(made)
            raise ProviderError("the gateway has lost it", code="server_error", verdict="retry", status=status)
        return made

    async with (
        quick(batch_delay_s=0.01) as server,
        at(server, dialect, tmp_path, items, bent={"create": create}) as (one, _),
    ):
        assert (await one.run()).why == "done"
        await all_done(one, server, keys_of(items))


async def test_an_error_of_the_list_that_speaks_of_a_file_sends_none_again(tmp_path: Path) -> None:
    items, asked = items_of(5), []

    async def find(call: Any, *values: Any) -> Any:
        asked.append(values)
        if len(asked) == 1:
            raise ProviderError("no such file", code="server_error", verdict="retry", status=404)
        return await call(*values)

    async with quick(batch_delay_s=0.01) as server:
        await killed(server, "openai", tmp_path, items, Kill("create"))
        async with at(server, "openai", tmp_path, items, bent={"find": find}) as (one, service):
            assert (await one.run()).why == "done"
            assert (service.calls["upload"], service.calls["create"]) == (0, 0)
            await all_done(one, server, keys_of(items))


@pytest.mark.parametrize("again", [True, False], ids=["batch", "mixed"])
@pytest.mark.parametrize("code", ["bad_request", "batch_unsupported"])
async def test_a_list_that_is_refused_opens_no_row_that_may_be_at_the_provider(code: str, again: bool, tmp_path: Path) -> None:
    items = items_of(5)

    async def find(_: Any, *values: Any) -> Any:
        verdict = "fail" if code == "bad_request" else "stop"
        raise ProviderError("lists are not for this key", code=code, verdict=verdict, status=400)  # type: ignore[arg-type]

    async with quick(batch_delay_s=0.01) as server:
        await killed(server, "openai", tmp_path, items, Kill("create"))
        async with at(server, "openai", tmp_path, items, bent={"find": find}, again=again) as (one, _):
            assert (await one.run()).why == "stopped"
            assert [item async for item in one.source()] == []
        async with at(server, "openai", tmp_path, items) as (one, _):
            assert (await one.run()).why == "done"
            await all_done(one, server, keys_of(items))


async def test_of_two_batches_of_one_file_the_one_that_was_taken_is_gone_on_with(tmp_path: Path) -> None:
    items = items_of(20)
    async with quick(batch_delay_s=0.1, batch_queue_tokens=700) as server:
        # the second file was refused for the queue at first, and the kill is behind its second creation
        await killed(server, "openai", tmp_path, items, Kill("create", nth=3), rows=10)
        assert server.stats()["batches"] == 3
        async with at(server, "openai", tmp_path, items) as (one, _):
            assert (await one.run()).why == "done"
            # one more, of which nothing was answered, if the queue was still full when the third one was looked at
            await all_done(one, server, keys_of(items), batches=max(3, min(4, server.stats()["batches"])))


async def test_a_batch_that_is_known_is_not_waited_for_as_if_it_were_another_one(tmp_path: Path) -> None:
    """Anthropic's have no metadata: the first one looks like the second, whose creation a kill has prevented."""
    items = items_of(6)
    async with quick(batch_delay_s=100.0) as server:
        await killed(server, "anthropic", tmp_path, items, Kill("upload", 2, nth=2), rows=3)
        async with at(server, "anthropic", tmp_path, items, rows=3) as (one, _):
            assert (await one.run(detach=True)).why == "waiting"
            assert [batch.state for batch in one.batches.open.values()] == ["submitted", "submitted"]
            assert server.stats()["batches"] == 2


# -- accounts and clocks


@BOTH
async def test_a_session_with_another_key_submits_nothing(dialect: str, tmp_path: Path) -> None:
    items = items_of(20)
    async with quick(batch_delay_s=0.1) as server:
        async with at(server, dialect, tmp_path, items[:10]) as (one, _):
            await one.run(detach=True)
        async with at(server, dialect, tmp_path, items, key="key-two") as (one, service):
            assert (await one.run()).why == "stopped"
            assert (one.stop.reason or "").count("batch 1 (") == 1
            assert (service.calls["upload"], service.calls["create"]) == (0, 0)
            assert [batch.waiting for batch in await one.store.batches.batches()] == [10]
        # another key of the same project finds the batch, and goes on
        async with at(server, dialect, tmp_path, items, bent={"account": "0000ffff"}) as (one, _):
            assert (await one.run()).why == "done"
            await all_done(one, server, keys_of(items), batches=2)


@BOTH
async def test_what_may_have_been_created_with_another_key_is_not_created_again(dialect: str, tmp_path: Path) -> None:
    items = items_of(5)
    async with quick(batch_delay_s=0.01) as server:
        await killed(server, dialect, tmp_path, items, Kill("create"))
        async with at(server, dialect, tmp_path, items, key="key-two") as (one, _):
            assert (await one.run()).why == "stopped"
            assert "may have been created, is not known at" in (one.stop.reason or "")
        async with at(server, dialect, tmp_path, items) as (one, _):
            assert (await one.run()).why == "done"
            await all_done(one, server, keys_of(items))
        # a batch of which only the file was sent goes out with the new key, and is known as that key's
        await killed(server, dialect, tmp_path, items_of(10), Kill("upload"))
        async with at(server, dialect, tmp_path, items_of(10), key="key-two") as (one, _):
            assert (await one.run()).why == "done"
            made = await one.store.batches.batches(all_states=True)
            assert [batch.account == one.account for batch in made] == [False, True]


@BOTH
@pytest.mark.parametrize("ahead_s", [-3 * HOUR, 3 * HOUR, 25 * HOUR], ids=["behind", "ahead", "expired by it"])
async def test_a_clock_that_is_wrong_loses_nothing_and_finds_what_was_made(dialect: str, ahead_s: float, tmp_path: Path) -> None:
    items = items_of(5)
    async with quick(batch_delay_s=0.05) as server:
        await killed(server, dialect, tmp_path, items, Kill("create"), ahead_s=ahead_s)
        async with at(server, dialect, tmp_path, items, ahead_s=ahead_s) as (one, _):
            assert (await one.run()).why == "done"
            await all_done(one, server, keys_of(items))
