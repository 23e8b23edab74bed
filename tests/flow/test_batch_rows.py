"""Rows through batches, with the real simulator, service and store: whatever happens, nothing is bought twice or left behind."""

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from shutil import copy, rmtree
from typing import Any

import pytest
from batching import DIALECTS, Calls, Killed, Session, items_of, new_store, session
from msgspec import structs
from simulating import quick

from runner.batches import Remote
from runner.engine.batch.outlook import Decision
from runner.engine.batch.parts import Standing
from runner.engine.clock import Clock
from runner.engine.retry import RetryPolicy
from runner.errors import AttemptError, ProviderError, TransportError
from runner.model import Attempt, Completion, Item, Outcome, Usage
from runner.providers.batch.service import open_service
from runner.providers.batch.transport import Way
from runner.providers.dialects import openai
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


async def killed_at(point: int, folder: Path, dialect: str) -> Calls:
    """Kill a session at a point, and have another one finish; return the points of the first."""
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
    def fresh(point: int) -> Path:
        (folder := tmp_path / str(point)).mkdir()
        copy(empty, folder)
        return folder

    whole = await killed_at(0, fresh(0), dialect)
    assert Counter(whole.seen)["create"] == 1
    for point in range(1, len(whole.seen) + 1):
        await killed_at(point, fresh(point), dialect)


async def billed(one: Session) -> int:
    """Attempts that were billed, or may have been, in this session."""
    attempts = [entry if isinstance(entry, Attempt) else entry.attempt for entry in one.entries]
    return sum(attempt is not None and attempt.sent and attempt.status in (None, 200) for attempt in attempts)


@BOTH
async def test_results_that_are_odd_are_told_and_each_answer_that_was_bought_is_booked(dialect: str, tmp_path: Path) -> None:
    odd = {"batch_missing": 0.2, "batch_odd": 0.2, "batch_twice": 0.2, "batch_unasked": 0.2, "batch_shuffle": True}
    items = items_of(30)
    policy = RetryPolicy(attempts=20)
    async with quick(batch_delay_s=0.01, **odd) as server, session(tmp_path, server.url, dialect, items, policy=policy) as one:
        assert (await one.run()).why == "done"
        assert {key: found.status for key, found in one.outcomes.items()} == {item.key: "done" for item in items}
        lost = [entry for entry in one.entries if isinstance(entry, Attempt)]
        assert lost
        assert {(entry.error_code, entry.sent, entry.usage) for entry in lost} == {("batch_missing", True, None)}
        assert all(entry.input_bound for entry in lost)
        # each of them was answered at the provider, which bills that
        assert await billed(one) == len(one.entries) == server.stats()["batch_answers"] == len(items) + len(lost)
        assert any("belong to no request" in note for note in one.notes)
        assert any("got a second result, which does not count" in note for note in one.notes)


@BOTH
async def test_a_provider_that_fails_at_everything_gets_each_request_once(dialect: str, tmp_path: Path) -> None:
    bad = {"batch_404": 2, "batch_404_every": 3, "batch_503_every": 5, "batch_lost": 1, "batch_lost_uploads": 1}
    cut = {"batch_break_bytes": 700, "batch_breaks": 3, "batch_gzip": True, "batch_unlisted_s": 0.05}
    items = items_of(30)
    async with quick(batch_delay_s=0.01, **bad, **cut) as server, session(tmp_path, server.url, dialect, items) as one:
        assert (await one.run()).why == "done"
        await check(one, server, [item.key for item in items])
        assert server.stats()["batches"] == 1


@BOTH
async def test_what_expires_or_fails_is_sent_again_and_what_is_refused_fails(dialect: str, tmp_path: Path) -> None:
    items = items_of(30)
    for status, name in ((500, "retried"), (400, "refused")):
        (tmp_path / name).mkdir()
        async with (
            quick(batch_delay_s=0.01, batch_expire=0.2, batch_fail=0.2, batch_fail_status=status) as server,
            session(tmp_path / name, server.url, dialect, items) as one,
        ):
            assert (await one.run()).why == "done"
            ends = Counter((found.status, found.error_code) for found in one.outcomes.values())
            codes = {entry.error_code: entry for entry in one.entries if isinstance(entry, Attempt)}
            assert not codes["batch_expired"].sent
            if status == 500:
                assert ends == {("done", None): 30}
                assert codes["server_error"].status == 500
            else:
                assert set(ends) == {("done", None), ("failed", "bad_request")}
                assert set(codes) == {"batch_expired"}
            assert await billed(one) == server.stats()["batch_answers"] == ends["done", None]


@BOTH
async def test_a_row_that_expires_in_every_batch_fails_after_as_many_as_it_has_attempts(dialect: str, tmp_path: Path) -> None:
    items = items_of(4)
    policy = RetryPolicy(attempts=3)
    async with quick(batch_delay_s=0.01, batch_expire=1.0) as server:
        async with session(tmp_path, server.url, dialect, items, policy=policy) as one:

            def stop_at_second() -> None:
                if server.stats()["batches"] == 2:
                    one.stop.request("Ctrl-C", grace_s=30.0)

            one.changed = stop_at_second
            assert (await one.run()).why == "stopped"
        # failures count over sessions
        async with session(tmp_path, server.url, dialect, items, policy=policy) as one:
            assert (await one.run()).why == "done"
            money = await one.store.money()
        assert {(found.status, found.error_code, found.attempts) for found in one.outcomes.values()} == {
            ("failed", "batch_expired", 3)
        }
        assert (len(one.outcomes), server.stats()["batches"], server.stats()["batch_answers"]) == (4, 3, 0)
        assert (money.priced, money.unpriced, money.perhaps, money.open_requests) == (0, 0, 0, 0)


@BOTH
async def test_a_batch_that_is_refused_for_some_requests_goes_without_them(dialect: str, tmp_path: Path) -> None:
    items = items_of(30)
    async with quick(batch_delay_s=0.01, batch_refuse=1) as server, session(tmp_path, server.url, dialect, items) as one:
        assert (await one.run()).why == "done"
        failed = [found for found in one.outcomes.values() if found.status == "failed"]
        # the first and the last line of a file; Anthropic names the first request
        assert sorted(found.key for found in failed) == (["row-0", "row-29"] if dialect == "openai" else ["row-0"])
        assert {(found.error_code, found.attempts) for found in failed} == {("bad_request", 1)}
        assert [found.attempt.sent for found in failed if found.attempt is not None] == [False] * len(failed)
        assert await billed(one) == server.stats()["batch_answers"] == len(items) - len(failed)
        refused, sent = await one.store.batches.batches(all_states=True)
        assert (refused.state, sent.state) == ("refused", "done")
        assert refused.error


@BOTH
@pytest.mark.parametrize(
    "limit", [{"batch_queue_tokens": 500}, {"batch_queue_tokens": 500, "batch_queue_full": "refuse"}, {"batch_lines": 20}]
)
async def test_batches_that_are_too_much_become_smaller_and_wait(dialect: str, limit: dict[str, object], tmp_path: Path) -> None:
    items = items_of(30)
    async with quick(batch_delay_s=0.02, **limit) as server, session(tmp_path, server.url, dialect, items) as one:
        assert (await one.run()).why == "done"
        await check(one, server, [item.key for item in items])
        sizes = [batch.rows for batch in await one.store.batches.batches(all_states=True) if batch.state == "done"]
        assert len(sizes) > 1
        assert sum(sizes) == len(items)


@BOTH
async def test_a_session_that_detaches_leaves_its_batches_to_the_next(dialect: str, tmp_path: Path) -> None:
    items = items_of(10)
    async with quick(batch_delay_s=0.3) as server:
        async with session(tmp_path, server.url, dialect, items) as one:
            left = await one.run(detach=True)
            assert (left.why, left.batches, left.waiting) == ("waiting", 1, 10)
            assert one.outcomes == {}
            assert [item async for item in one.source()] == []
        async with session(tmp_path, server.url, dialect, items, key="key-two") as other:
            # what another key cannot see is not sent again
            assert (await other.run()).why == "stopped"
            assert other.stop.error is not None
            assert other.stop.error.code == "batch_not_found"
            reason = other.stop.reason or ""
            ours, theirs = other.account, (await other.store.batches.batches())[0].account
            assert ours != theirs
            assert ours in reason
            assert theirs in reason
            assert "10 rows wait" in reason
        async with session(tmp_path, server.url, dialect, items) as one:
            assert (await one.run()).why == "done"
            await check(one, server, [item.key for item in items])
            assert server.stats()["batches"] == 1


@BOTH
@pytest.mark.parametrize("done", [0.5, 1.0], ids=["in time", "too late"])
async def test_a_cancelled_batch_still_has_answers_that_were_paid(dialect: str, done: float, tmp_path: Path) -> None:
    items = items_of(20)
    async with (
        quick(batch_delay_s=30, batch_cancel_s=0.02, batch_cancel_done=done) as server,
        session(tmp_path, server.url, dialect, items, again=False) as one,
    ):
        await one.run(detach=True)
        await one.batches.cancel(list(one.batches.open))
        assert [batch.state for batch in one.batches.open.values()] == ["cancelling"]
        await one.batches.follow()
        answered = server.stats()["batch_answers"]
        assert len(one.outcomes) == await billed(one) == answered
        assert (answered == 20) == (done == 1.0)
        codes = Counter(entry.error_code for entry in one.entries if isinstance(entry, Attempt))
        assert codes == ({"batch_cancelled": 20 - answered} if done < 1 else {})
        assert one.batches.came_open == 20 - answered == len([item async for item in one.source()])


@BOTH
async def test_rows_that_go_live_at_the_last_moment_are_booked_twice_if_their_batch_answers_too(
    dialect: str, tmp_path: Path
) -> None:
    items = items_of(10)
    async with (
        quick(batch_delay_s=30, batch_cancel_s=0.02, batch_cancel_done=1.0) as server,
        session(tmp_path, server.url, dialect, items, again=False) as one,
    ):
        await one.run(detach=True)
        (number,) = one.batches.open

        def until(standing: Standing) -> Decision:
            return Decision(piece_rows=10, cancel=(number,), overtake=(number,), live=standing.returned, wake_at=standing.now + 1)

        left = await one.batches.run(one.source, until=until)
        assert (left.why, left.returned, left.batches) == ("live", 10, 1)
        assert [item.attempts_before async for item in one.source() if isinstance(item, Item)] == [1] * 10
        live = [await done_live(one, item) for item in items[:5]]
        await one.batches.follow()
        # what the batch answers is paid for: a row without an answer gets it, the others keep theirs
        assert await billed(one) == server.stats()["batch_answers"] + len(live) == 15
        stored = await one.store.settled([item.key for item in items])
        assert {found.status for found in stored.values()} == {"done"}
        assert (await one.store.counts()).done == 10
        assert (await one.store.money()).open_requests == 0


async def done_live(one: Session, item: Item) -> Outcome:
    """Save a row as if it had been answered live."""
    attempt = Attempt(key=item.key, number=2, started_at=1.0, duration_s=1.0, status=200, model="m", usage=Usage(input_tokens=1))
    done = Completion(text="live", finish_reason="stop")
    outcome = Outcome(
        key=item.key,
        position=item.position,
        status="done",
        metadata={},
        fingerprint=item.fingerprint,
        completion=done,
        attempt=attempt,
        attempts=2,
    )
    await one.save(None, [outcome])
    return outcome


@BOTH
async def test_a_stop_leaves_what_was_sent_and_takes_back_what_was_not(dialect: str, tmp_path: Path) -> None:
    items = items_of(30)
    async with quick(batch_delay_s=0.2) as server:
        async with session(tmp_path, server.url, dialect, items, rows=10) as one:

            def stop_at(after: int) -> None:
                if server.stats()["batches"] >= after:
                    one.stop.request("Ctrl-C", grace_s=30.0)

            one.changed = lambda: stop_at(2)
            left = await one.run()
            assert (left.why, left.batches, left.waiting) == ("stopped", 2, 20)
            assert len([item async for item in one.source()]) == 10
            assert {batch.state for batch in await one.store.batches.batches()} == {"submitted"}
        async with session(tmp_path, server.url, dialect, items, rows=10) as one:
            assert (await one.run()).why == "done"
            await check(one, server, [item.key for item in items])
            assert server.stats()["batches"] == 3


@pytest.mark.parametrize("sent", [False, True], ids=["killed before it is sent", "killed behind it"])
async def test_a_batch_of_another_store_is_not_taken_for_the_own_one(sent: bool, tmp_path: Path, empty: Path) -> None:
    """Anthropic's batches have no metadata: another store may have sent as many rows of the same keys, at the same time."""
    items, folders = items_of(ROWS), [tmp_path / "one", tmp_path / "other"]
    theirs = [
        structs.replace(item, request=structs.replace(item.request, messages=({"role": "user", "content": f"other {item.key}"},)))
        for item in items
    ]
    for folder in folders:
        folder.mkdir()
        copy(empty, folder)
    async with quick(batch_delay_s=0.01) as server:
        before = Calls()
        async with session(folders[1], server.url, "anthropic", theirs, kill=before) as one:
            await one.run()
        calls = Calls(before.seen.index("create") + sent)
        try:
            async with session(folders[0], server.url, "anthropic", items, kill=calls) as one:
                await one.run()
        except* Killed:
            pass
        async with session(folders[0], server.url, "anthropic", items) as one:
            await one.run()
            stored = await one.store.settled([item.key for item in items])
            # not even for a while: that would be an attempt of each row
            assert {(found.status, found.attempts) for found in stored.values()} == {("done", 1)}
        assert server.stats()["batches"] == 2
        # each row was asked for in each store, and nothing twice
        bill = server.invoice()
        assert (bill.requests, bill.doubled) == (2 * ROWS, 0)


@BOTH
@pytest.mark.parametrize("sent", [False, True], ids=["killed before it is sent", "killed behind it"])
async def test_requests_that_were_deleted_between_sessions_are_written_again_if_they_were_not_sent(
    dialect: str, sent: bool, tmp_path: Path
) -> None:
    items = items_of(ROWS)
    async with quick(batch_delay_s=0.01) as server:
        whole = Calls()
        (tmp_path / "whole").mkdir()
        async with session(tmp_path / "whole", server.url, dialect, items, kill=whole) as one:
            await one.run()
        try:
            # its clock was two hours fast, and is set right between the sessions
            clock, kill = Clock(wall=lambda: time.time() + 7200), Calls(whole.seen.index("create") + sent)
            async with session(tmp_path, server.url, dialect, items, kill=kill, clock=clock) as one:
                await one.run()
        except* Killed:
            pass
        rmtree(tmp_path / "runner.db.batches")
        async with session(tmp_path, server.url, dialect, items) as one:
            assert ((await one.run()).why, one.stop.reason) == ("done", None)
            assert (len(one.outcomes), server.stats()["batches"], server.stats()["batch_answers"]) == (ROWS, 2, 2 * ROWS)


class Losing:
    """A service on whose way a proxy loses the answer to the creation of a batch, which it has sent so many times."""

    def __init__(self, inner: Any, error: AttemptError, times: int) -> None:
        self._inner, self._error, self._times = inner, error, times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def create(self, *values: Any) -> Remote:
        made: Remote = await self._inner.create(*values)
        if not self._times:
            return made
        for _ in range(self._times - 1):
            await self._inner.create(*values)
        self._times = 0
        raise self._error


@pytest.mark.parametrize(
    ("error", "times"),
    [
        (TransportError("the proxy has lost the answer", code="disconnected"), 2),
        (ProviderError("it is in progress", code="conflict", verdict="retry", status=409), 1),
    ],
    ids=["no answer", "409"],
)
async def test_a_creation_whose_answer_is_lost_is_found_and_repetitions_are_cancelled(
    error: AttemptError, times: int, tmp_path: Path
) -> None:
    items = items_of(ROWS)
    async with quick(batch_delay_s=30.0) as server, AsyncExitStack() as stack:
        provider = openai.make(f"{server.url}/v1", "key-one", version="1", stream=False)
        service = await stack.enter_async_context(
            open_service("openai", f"{server.url}/v1", "key-one", provider, Way(version="1"))
        )
        async with session(tmp_path, server.url, "openai", items, service=Losing(service, error, times)) as one:
            left = await one.run(detach=True)
            assert (left.why, left.batches, server.stats()["batches"]) == ("waiting", 1, times)
            assert len([note for note in one.notes if "created more than once on the way" in note]) == times - 1
            (batch,) = one.batches.open.values()
            assert batch.remote_id is not None
            at_work = [remote.id async for remote in service.all(0.0) if remote.phase in ("waiting", "working")]
            assert at_work == [batch.remote_id]
