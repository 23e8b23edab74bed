"""Batches on real files: a row waits in one batch, leaves it with its result, and nothing between the two survives a kill."""

import random
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any, get_args

import pytest
from migrating import migrate
from msgspec import structs

from runner.batches import OPEN_STATES, SENT_STATES, BatchRow, BatchStore, Reask, State, StoredBatch
from runner.errors import StoreError, UsageError
from runner.model import Attempt, Completion, Outcome, Usage
from runner.money import Price, Rates
from runner.store import database, deletion, samples
from runner.store.batch_reading import read_batches
from runner.store.batches import NEXT
from runner.store.changes import Changes
from runner.store.checkpoint import RunStore
from runner.store.reader import StoreReader
from runner.store.runs import open_run
from runner.store.schema import items
from runner.store.spending import Used

pytestmark = pytest.mark.anyio

ANSWER = {"model": "m", "provider": "openai"}
PRICE = Price(
    model="m", tier="batch", rates=Rates(input=2, output=5, cached_input=1, cache_write=3, reasoning=5, cache_write_1h=7)
)
UNKNOWN = Price(model="m", tier="batch", rates=None)
BATCH = StoredBatch(
    id=0, run_id=0, token="t", state="writing", vendor="OpenAI", model="m", base_url="http://x/v1", account="f00", rows=0,
    waiting=0, bytes=900, path="/x/1.jsonl", created_at=1e9, price=PRICE,
)  # fmt: skip
WAY: tuple[State, ...] = ("written", "uploading", "uploaded", "creating", "submitted", "ended")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with run 1 in it."""
    found = tmp_path / "runner.db"
    database.prepare(found, create=True)
    open_run(found, tmp_path / "p.jsonl", ANSWER, ANSWER, new=False)
    return found


@pytest.fixture
async def store(path: Path) -> AsyncIterator[RunStore]:
    async with RunStore.own(path, 1) as owned:
        yield owned


def row(key: str, **more: Any) -> BatchRow:
    fields: dict[str, Any] = {"position": 1, "fingerprint": 7, "metadata": {"topic": key}, "number": 1, "input_bound": 10, **more}
    return BatchRow(key=key, **{"custom_id": key, "output_bound": 20, **fields})


def attempt(key: str, number: int = 1, **more: Any) -> Attempt:
    usage = Usage(input_tokens=4, output_tokens=6, reasoning_tokens=0)
    fields = {"status": 200, "usage": usage, "price": PRICE, "model": "m", **more}
    return Attempt(key=key, number=number, started_at=1e9, duration_s=60.0, **fields)


def cut(key: str, number: int = 1) -> Attempt:
    return attempt(key, number, status=None, sent=False, usage=None, error_code="batch_expired", error="expired")


def done(one: BatchRow, text: str = "yes") -> Outcome:
    return Outcome(
        key=one.key,
        position=one.position,
        status="done",
        metadata=one.metadata,
        fingerprint=one.fingerprint,
        completion=Completion(text=text, finish_reason="stop"),
        attempt=attempt(one.key, one.number),
        attempts=one.number,
    )


def failed(one: BatchRow, **more: Any) -> Outcome:
    lost = attempt(one.key, one.number, error_code="server_error", error="no")
    return structs.replace(done(one), status="failed", completion=None, error_code="server_error", attempt=lost, **more)


async def at_provider(batches: BatchStore, *rows: BatchRow, until: State = "ended", **more: Any) -> int:
    """Write a batch of rows and bring it to a state."""
    number = await batches.begin_batch(structs.replace(BATCH, **more))
    await batches.add_rows(number, rows)
    for state in WAY[: WAY.index(until) + 1]:
        await batches.change(number, state=state)
    return number


def read(path: Path, statement: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


TEXTS = "SELECT key, text, metadata, attempts FROM items ORDER BY key"
WAITING = "SELECT key FROM batch_rows WHERE released = 0 ORDER BY id"


# --- the states -------------------------------------------------------------------------------------------------------


async def test_a_batch_goes_on_only_as_drawn(store: RunStore, path: Path) -> None:
    number = await store.batches.begin_batch(BATCH)
    refused = 0
    with closing(sqlite3.connect(path)) as other:
        for before in get_args(State):
            for after in get_args(State):
                other.execute("UPDATE batches SET state = ?", (before,))
                other.commit()
                if after in NEXT[before] or after == before:
                    await store.batches.change(number, state=after)
                    assert other.execute("SELECT state FROM batches").fetchone() == (after,)
                    continue
                with pytest.raises(StoreError, match=f"batch 1 of run 1 is {before}, and cannot be {after} next"):
                    await store.batches.change(number, state=after)
                assert other.execute("SELECT state FROM batches").fetchone() == (before,)
                refused += 1
    assert refused > 80
    assert set(NEXT) == set(get_args(State))
    assert all(NEXT[state] for state in OPEN_STATES)


async def test_what_is_known_of_a_batch_is_read_as_it_was_written(store: RunStore, path: Path) -> None:
    number = await at_provider(store.batches, row("a"), row("b", output_bound=None), until="submitted")
    known = {
        "remote_id": "batch_1",
        "submitted_at": 2e9,
        "kept_until": 3e9,
        "results": ("out", "err"),
        "error": "odd",
        "word": "w",
    }
    await store.batches.change(number, **known, done=1, end="expired", price=UNKNOWN)
    (one,) = await store.batches.batches()
    told = {name: getattr(one, name) for name in (*known, "done", "end", "price", "rows", "waiting", "input_bound")}
    assert told == {
        **known,
        "done": 1,
        "end": "expired",
        "price": UNKNOWN,
        "rows": 2,
        "waiting": 2,
        "input_bound": 20,
    }
    # one of them has no limit
    assert one.output_bound is None
    with StoreReader(path) as reader:
        assert read_batches(reader.fetch) == read_batches(reader.fetch, 1) == [one]
        assert read_batches(reader.fetch, 2) == []
    with pytest.raises(TypeError, match="rows"):
        await store.batches.change(number, rows=3)
    with pytest.raises(StoreError, match="run 1 has no batch 9"):
        await store.batches.change(9, word="w")


async def test_a_batch_is_done_when_all_its_rows_have_a_result_and_drops_none_before(store: RunStore) -> None:
    number = await at_provider(store.batches, row("a"), row("b"))
    with pytest.raises(StoreError, match="not done: 2 of its rows have no result"):
        await store.batches.change(number, state="done")
    await store.batches.settle(number, [done(row("a")), cut("b")], ["a", "b"])
    await store.batches.change(number, state="done")
    assert await store.batches.batches() == []
    assert [one.state for one in await store.batches.batches(all_states=True)] == ["done"]
    assert (store.waits, await store.settled(["z"])) == (False, {})


async def test_only_what_is_not_made_is_dropped_and_only_what_may_be_billed_given_up(store: RunStore, path: Path) -> None:
    number = await at_provider(store.batches, row("a"), until="creating")
    with pytest.raises(StoreError, match="is creating, so it is kept"):
        await store.batches.drop_batch(number)
    with pytest.raises(StoreError, match="is creating, so no rows are added"):
        await store.batches.add_rows(number, [row("b")])
    early = await at_provider(store.batches, row("c"), until="uploaded")
    with pytest.raises(StoreError, match="is uploaded: there is nothing at the provider"):
        await store.batches.give_up(early, "lost")
    await store.batches.drop_batch(early)
    assert read(path, WAITING) == [("a",)]
    # refused: nothing was billed, and the row is open
    await store.batches.change(number, state="refused", error="no such model")
    assert (read(path, WAITING), read(path, "SELECT * FROM attempts")) == ([], [])
    assert await store.settled(["a", "c"]) == {}


# --- kills ------------------------------------------------------------------------------------------------------------


async def test_a_kill_before_any_statement_leaves_each_row_waiting_or_with_its_result(
    store: RunStore, path: Path, tmp_path: Path
) -> None:
    """What a kill leaves is what is on the disk then: the store and its log are copied before each statement is executed."""
    images: list[Path] = []

    def copied(_: str) -> None:
        images.append(tmp_path / f"killed-{len(images)}" / path.name)
        images[-1].parent.mkdir()
        # by another process: this one would lose its locks on the file when it closes it
        subprocess.run(["cp", path, f"{path}-wal", images[-1].parent], check=True, timeout=60)

    batches, rows = store.batches, [row(key) for key in "abc"]
    await store.batches.look()
    await store._writer.in_one_turn(lambda driver: driver.set_trace_callback(copied))
    number = await at_provider(batches, *rows)
    before = len(images)
    found = await batches.rows_of(number, ["a", "b"])
    await batches.settle(number, [done(found["a"]), cut("b")], ["a", "b"], [Reask(key="b", messages=["again"], repairs=1)])
    settled = len(images)
    await batches.give_up(number, "lost")
    await store._writer.in_one_turn(lambda driver: driver.set_trace_callback(None))
    seen = set()
    for place, image in enumerate(images):
        waiting = [key for (key,) in read(image, WAITING)]
        results = [key for (key,) in read(image, "SELECT item_key FROM attempts ORDER BY item_key")]
        assert sorted(waiting + results) in ([], ["a", "b", "c"])
        assert (["a"] if "a" in results else []) == [key for (key,) in read(image, "SELECT key FROM items")]
        assert (["b"] if "b" in results else []) == [key for (key,) in read(image, "SELECT key FROM reasks")]
        assert read(image, "SELECT coalesce(sum(waiting), 0), coalesce(sum(left_input), 0) FROM batches") == [
            (len(waiting), 10 * len(waiting))
        ]
        seen.add((place >= before, place >= settled, "".join(waiting)))
    # not yet begun, written, settled, given up
    assert seen == {(False, False, ""), (False, False, "abc"), (True, False, "abc"), (True, True, "c"), (True, True, "")}


async def test_what_could_not_be_settled_is_settled_by_the_same_call_and_once(store: RunStore, path: Path) -> None:
    number = await at_provider(store.batches, row("a"), row("b"))
    found = await store.batches.rows_of(number, ["a", "b"])
    results = [done(found["a"]), cut("b")]
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TRIGGER t BEFORE DELETE ON batch_rows BEGIN SELECT RAISE(ABORT, 'on fire'); END")
        with pytest.raises(StoreError, match="on fire"):
            await store.batches.settle(number, results, ["a", "b"])
        other.execute("DROP TRIGGER t")
    assert (read(path, TEXTS), read(path, WAITING)) == ([], [("a",), ("b",)])
    for _ in range(3):
        # the second finds all of it stored, as after a commit of which nobody has heard
        await store.batches.settle(number, results, ["a", "b"])
    assert read(path, TEXTS) == [("a", "yes", '{"topic":"a"}', 1)]
    assert read(path, "SELECT item_key, error_code FROM attempts ORDER BY id") == [("a", None), ("b", "batch_expired")]
    (one,) = await store.batches.batches()
    assert (one.waiting, one.rows) == (0, 2)


async def test_a_second_result_of_a_row_changes_nothing_and_the_rest_of_its_lines_is_written(store: RunStore, path: Path) -> None:
    number = await at_provider(store.batches, row("a"), row("b"))
    await store.batches.settle(number, [done(row("a"))], ["a"])
    assert set(await store.batches.rows_of(number, ["a", "b", "never asked"])) == {"b"}
    await store.batches.settle(number, [done(row("a"), "other"), done(row("b"))], ["a", "b"])
    assert [(key, text) for key, text, *_ in read(path, TEXTS)] == [("a", "yes"), ("b", "yes")]
    assert read(path, "SELECT count(*) FROM attempts") == [(2,)]


async def test_what_is_settled_is_not_found_again_by_what_was_read_before(store: RunStore, path: Path) -> None:
    number = await at_provider(store.batches, *map(row, "abc"))
    found = await store.batches.rows_of(number, ["a"])
    for _ in range(2):
        await store.batches.settle(number, [done(found["a"])], ["a"])
    # "b" was read ahead, and not asked for
    await store.batches.settle(number, [done(row("b"))], ["a", "b"])
    assert set(await store.batches.rows_of(number, ["a", "b", "c"])) == {"c"}
    await store.batches.settle(number, [done(row("c"))], ["c"])
    assert read(path, "SELECT item_key FROM attempts ORDER BY id") == [("a",), ("b",), ("c",)]


async def test_rows_that_somebody_else_has_settled_since_they_were_found_are_not_settled(store: RunStore, path: Path) -> None:
    number = await at_provider(store.batches, row("a"), row("b"))
    found = await store.batches.rows_of(number, ["a", "b"])
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("DELETE FROM batch_rows WHERE key = 'a'")
    with pytest.raises(StoreError, match="settled by somebody else"):
        await store.batches.settle(number, [done(found["a"]), done(found["b"])], ["a", "b"])
    assert (read(path, TEXTS), read(path, "SELECT count(*) FROM attempts")) == ([], [(0,)])
    # it is looked up anew, and the other one is written
    await store.batches.settle(number, [done(found["a"]), done(found["b"])], ["a", "b"])
    assert [key for key, *_ in read(path, TEXTS)] == ["b"]


async def test_nothing_is_settled_before_a_save_of_which_nothing_is_known(store: RunStore, path: Path) -> None:
    number = await at_provider(store.batches, row("a"))
    live = [done(row("live"))]
    await store.save([done(row("before"))])
    known = store._last_attempt
    await store.save(live)
    # the state after a save that was cancelled during its commit
    store._unsure, store._last_attempt = True, known
    with pytest.raises(StoreError, match="could not be saved"):
        await store.batches.settle(number, [done(row("a"))], ["a"])
    await store.save(live)
    await store.batches.settle(number, [done(row("a"))], ["a"])
    assert [key for key, *_ in read(path, TEXTS)] == ["a", "before", "live"]
    assert read(path, "SELECT count(*) FROM attempts") == [(3,)]


# --- rows -------------------------------------------------------------------------------------------------------------


async def test_a_row_waits_in_one_batch_of_its_run_at_most(store: RunStore, path: Path) -> None:
    batches = store.batches
    number = await at_provider(batches, row("a"), row("b"))
    other = await batches.begin_batch(BATCH)
    for rows, key in (([row("c"), row("b")], "b"), ([row("d"), row("d")], "d")):
        with pytest.raises(StoreError, match=f"the row '{key}' of run 1 waits in a batch already"):
            await batches.add_rows(other, rows)
    assert read(path, "SELECT id, rows, waiting FROM batches") == [(number, 2, 2), (other, 0, 0)]
    await batches.settle(number, [cut("b")], ["b"])
    await batches.add_rows(other, [row("b", number=2)])
    # another run of the store has rows of its own
    open_run(path, path.parent / "q.jsonl", ANSWER, ANSWER, new=True)
    async with RunStore.own(path, 2) as second:
        assert second.waits is False
        await at_provider(second.batches, row("b"))
        assert (await second.settled(["a", "b"])).keys() == {"b"}


async def test_rows_that_wait_are_known_as_such_also_by_the_next_session(path: Path) -> None:
    async with RunStore.own(path, 1) as store:
        await store.save([done(row("old")), attempt("a", 2, error_code="cut", error="cut!")])
        assert store.waits is False
        await at_provider(store.batches, row("a", number=3), row("old", number=2, answered=True), until="written")
        first = await store.settled(["a", "old", "z"])
        assert (await store.counts()).waiting == 2
    async with RunStore.own(path, 1) as store:
        assert await store.settled(["a", "old", "z"]) == first
        assert {key: (one.status, one.waiting, one.attempts) for key, one in first.items()} == {
            "a": (None, True, 3),
            "old": ("done", True, 2),
        }


@pytest.mark.parametrize("named", [lambda key: key, lambda key: f"hash-of-{key}"], ids=["by key", "by hash"])
async def test_rows_are_found_in_any_order_and_between_those_of_another_batch(
    store: RunStore, path: Path, named: Callable[[str], str]
) -> None:
    keys = [f"{number:03}" for number in range(120)]
    one, two = await store.batches.begin_batch(BATCH), await store.batches.begin_batch(BATCH)
    for first in range(0, 120, 10):
        rows = [row(key, custom_id=named(key), position=int(key) + 1) for key in keys[first : first + 10]]
        await store.batches.add_rows(one if first % 20 else two, rows)
    mixed = {one: keys[10:20] + keys[30:40] + keys[50:60], two: keys[:10] + keys[20:30] + keys[40:50]}
    for number, its in mixed.items():
        chosen = random.Random(3).sample(its, 30) if number == one else its
        for first in range(0, 30, 15):
            ids = [named(key) for key in chosen[first : first + 15]]
            found = await store.batches.rows_of(number, [*ids, "nobody", named(keys[119]) if number == two else named(keys[0])])
            assert set(found) == set(ids)
            assert {found[name].position for name in ids} == {int(key) + 1 for key in chosen[first : first + 15]}
            # a kill before: what was found is looked up again
            await store.batches.settle(number, [done(found[name]) for name in ids], ids)
    assert [key for key, *_ in read(path, TEXTS)] == keys[:60]
    assert {text for _, _, text, _ in read(path, TEXTS)} == {f'{{"topic":"{key}"}}' for key in keys[:60]}
    assert [one.waiting for one in await store.batches.batches()] == [30, 30]
    left = await store.batches.rows_left(one, limit=7)
    assert [one.key for one in left] == keys[70:77]
    assert dict(left[0].metadata) == {"topic": "070"}


async def test_an_answer_stays_unless_its_row_has_changed_or_a_retry_asks(store: RunStore, path: Path) -> None:
    store.replaces = True
    kept, changed, again = row("kept"), row("changed"), row("again")
    await store.save([done(one, "first") for one in (kept, changed, again)])
    retry = await store.choose(items.c.key == "again", None, {})
    assert retry.count == 1
    store.marks = True
    await store.take_up()
    rows = [structs.replace(one, number=2, answered=True) for one in (kept, structs.replace(changed, fingerprint=8), again)]
    number = await at_provider(store.batches, *rows)
    await store.batches.settle(number, [done(one, "second") for one in rows], [one.custom_id for one in rows])
    assert [(key, text) for key, text, *_ in read(path, TEXTS)] == [("again", "second"), ("changed", "second"), ("kept", "first")]
    assert sorted(read(path, "SELECT item_key, text FROM replaced")) == [("again", "first"), ("changed", "first")]
    assert read(path, "SELECT item_key, outcome FROM retried") == [("again", "done")]
    # all three were paid for
    assert read(path, "SELECT count(*) FROM attempts") == [(6,)]


async def test_the_attempts_of_a_batch_have_the_settings_of_the_session_that_sent_it(path: Path) -> None:
    async with RunStore.own(path, 1, changes=Changes(variant={**ANSWER, "temperature": 1.0})) as store:
        number, sent = await at_provider(store.batches, row("a")), store.variant
    async with RunStore.own(path, 1) as store:
        assert (store.variant, sent) == (None, 1)
        await store.batches.settle(number, [done(row("a"))], ["a"])
    assert read(path, "SELECT variant_id FROM attempts") == [(1,)]


async def test_rows_are_asked_again_with_their_messages_until_they_have_an_outcome(store: RunStore) -> None:
    number = await at_provider(store.batches, row("a", fingerprint=70), row("b"))
    asked = [Reask(key=key, messages=[{"role": "user", "content": key}], repairs=1) for key in "ab"]
    bad = [attempt(key, error_code="invalid_answer", error="no JSON") for key in "ab"]
    assert await store.batches.reasks(["a"]) == {}
    await store.batches.settle(number, bad, ["a", "b"], asked)
    assert await store.batches.reasks(["a", "z"]) == {"a": structs.replace(asked[0], fingerprint=70)}
    second = await at_provider(store.batches, row("a", number=2, repairs=1))
    newer = structs.replace(asked[0], repairs=2)
    await store.batches.settle(second, [structs.replace(bad[0], number=2)], ["a"], [newer])
    assert (await store.batches.reasks(["a"]))["a"].repairs == 2
    # an outcome that a live request brings counts too
    await store.save([done(row("a", number=3))])
    assert set(await store.batches.reasks(["a", "b"])) == {"b"}


# --- rows that wait no longer -----------------------------------------------------------------------------------------


async def test_a_released_row_goes_elsewhere_and_its_late_result_is_on_the_books(store: RunStore, path: Path) -> None:
    number = await at_provider(store.batches, *map(row, "abc"), until="submitted")
    await store.batches.rows_of(number, ["a"])
    assert await store.batches.release(number) == 3
    assert {key: (one.waiting, one.attempts) for key, one in (await store.settled(["a", "b"])).items()} == {
        "a": (False, 1),
        "b": (False, 1),
    }
    await store.save([done(row("a", number=2), "live")])
    await store.batches.change(number, state="ended")
    # it may wait in the next batch meanwhile
    again = await at_provider(store.batches, row("c", number=2), until="submitted")
    found = await store.batches.rows_of(number, ["a", "b"])
    assert {key: one.released for key, one in found.items()} == {"a": True, "b": True}
    await store.batches.settle(number, [done(found["a"], "late"), done(found["b"], "late")], ["a", "b"])
    assert [(key, text, attempts) for key, text, _, attempts in read(path, TEXTS)] == [("a", "live", 2), ("b", "late", 1)]
    assert sorted(read(path, "SELECT item_key, number FROM attempts")) == [("a", 1), ("a", 2), ("b", 1)]
    assert [(one.id, one.waiting, one.released) for one in await store.batches.batches()] == [(number, 0, 1), (again, 1, 0)]
    assert (await store.settled(["c"]))["c"].waiting is True
    with pytest.raises(StoreError, match="not done: 1 of"):
        await store.batches.change(number, state="done")
    assert [one.key for one in await store.batches.rows_left(number)] == ["c"]


async def test_a_batch_that_is_gone_has_attempts_that_may_have_been_billed(store: RunStore, path: Path) -> None:
    await store.save([done(row("b"))])
    number = await at_provider(store.batches, row("a"), row("b", number=2, answered=True), until="submitted")
    await store.batches.change(number, submitted_at=5e8)
    assert await store.batches.give_up(number, "the provider no longer has batch_1") == 2
    columns = "item_key, number, started_at, sent, status, error_code, error, tier, input_bound, output_bound, input_tokens"
    lost = (5e8, 1, None, "batch_gone", "the provider no longer has batch_1", "batch", 10, 20, None)
    assert read(path, f"SELECT {columns} FROM attempts WHERE error_code IS NOT NULL") == [("a", 1, *lost), ("b", 2, *lost)]
    # the answer of before stays, and the next attempt has the next number
    assert [(key, text, attempts) for key, text, _, attempts in read(path, TEXTS)] == [("b", "yes", 2)]
    found = await store.settled(["a", "b"])
    assert {key: (one.status, one.waiting, one.attempts) for key, one in found.items()} == {
        "a": (None, False, 1),
        "b": ("done", False, 2),
    }
    money = await store.money()
    assert (money.perhaps, money.open_requests) == (2 * (10 * 3 + 20 * 5), 0)
    with pytest.raises(StoreError, match="is gone: there is nothing"):
        await store.batches.give_up(number, "again")


# --- money ------------------------------------------------------------------------------------------------------------

MOST = 10 * 3 + 20 * 5
"""The most that a row can cost."""
KNOWN = 4 * 2 + 6 * 5
"""What an answer costs."""


async def test_what_waits_at_a_provider_counts_until_it_is_settled(store: RunStore, path: Path) -> None:
    number = await at_provider(store.batches, *map(row, "abc"), until="written")
    assert await store.used() == Used()
    for state in ("uploading", "uploaded", "creating", "submitted", "cancelling", "ended"):
        await store.batches.change(number, state=state)
        money = await store.money()
        assert (await store.used(), money.perhaps, money.held, money.open_requests) == (
            Used(3 * MOST, 90, 0),
            3 * MOST,
            3 * MOST,
            3,
        )
    await store.batches.release(number)
    await store.batches.settle(number, [done(row("a")), failed(row("b"))], ["a", "b"])
    assert await store.used() == Used(MOST + 2 * KNOWN, 30 + 20, 0)
    money = await store.money()
    assert (money.spent, money.failed, money.perhaps, money.open_requests) == (2 * KNOWN, KNOWN, MOST, 1)
    with StoreReader(path) as reader:
        assert reader.money(1) == money
        told = reader.totals(1)
        assert (told.open_requests, told.cost_open_requests, told.killed_requests) == (1, MOST / 1e12, 0)
    query = "SELECT attempts, perhaps_billed, round(1e12 * cost_perhaps), unpriced FROM spend WHERE cause = 'batch'"
    assert read(path, query) == [(1, 1, MOST, 0)]
    assert samples.so_far(path, 1, ["c", "a"]).money.perhaps == samples.so_far(path, 1).money.perhaps == MOST
    assert samples.so_far(path, 1, ["a"]).money.perhaps == 0
    await store.batches.settle(number, [cut("c")], ["c"])
    assert await store.used() == Used(2 * KNOWN, 20, 0)
    assert read(path, query) == []


async def test_a_batch_without_limits_or_price_says_so_and_is_priced_when_that_is_known(path: Path) -> None:
    async with RunStore.own(path, 1) as store:
        await at_provider(store.batches, row("a"), row("b", output_bound=None), until="submitted", price=UNKNOWN)
    async with RunStore.own(path, 1) as store:
        assert (await store.money()).unpriced == 2
        await store.price_again(lambda one: structs.replace(PRICE, tier=one.asked_tier or ""), lambda *_: None)
        money = await store.money()
        assert (money.unpriced, money.perhaps, money.held, money.open_requests) == (0, None, None, 2)
        assert (await store.batches.batches())[0].price == PRICE
        assert await store.used() == Used(2 * 30 + 100, 40, 1)
        # the session does not begin
        await store.take_back(created=False)
    assert read(path, "SELECT p.input FROM batches b JOIN prices p ON p.id = b.price_id") == [(None,)]


async def test_the_requests_of_a_batch_are_no_requests_that_a_kill_has_ended(path: Path) -> None:
    async with RunStore.own(path, 1) as store:
        await at_provider(store.batches, row("a"), until="submitted")
    async with RunStore.own(path, 1) as store:
        assert (await store.settled(["a"]))["a"].waiting
        assert read(path, "SELECT * FROM attempts") == []
        assert (await store.money()).open_requests == 1


# --- runs that are deleted, and stores of before ----------------------------------------------------------------------


@pytest.mark.parametrize("until", ["written", "submitted"])
async def test_a_run_is_deleted_with_its_batches_unless_rows_wait_at_a_provider(path: Path, until: State) -> None:
    async with RunStore.own(path, 1) as store:
        number = await at_provider(store.batches, row("a"), row("b"), until=until)
        earlier = await at_provider(store.batches, row("c"))
        await store.batches.settle(earlier, [cut("c")], ["c"], [Reask(key="c", messages=[], repairs=1)])
    if until in SENT_STATES:
        with pytest.raises(
            UsageError, match=r"2 rows of run 1 wait .* `runner batches forget b1 --yes --db .* Nothing was deleted"
        ):
            deletion.delete(path, [1])
        assert len(read(path, "SELECT id FROM batches")) == 2
        async with RunStore.own(path, 1) as store:
            await store.batches.give_up(number, "forgotten")
    deletion.delete(path, [1])
    for table in ("batches", "batch_rows", "reasks", "attempts", "runs"):
        assert read(path, f"SELECT count(*) FROM {table}") == [(0,)]


async def test_a_store_of_before_gets_the_tables_and_keeps_what_it_has(path: Path) -> None:
    async with RunStore.own(path, 1) as store:
        await store.save([done(row("a"))])
    query = "SELECT cause, attempts, round(1e12 * cost) FROM spend"
    before = read(path, TEXTS), read(path, query)
    migrate(path, "0016")
    assert (read(path, TEXTS), read(path, query)) == before
    assert read(path, "SELECT name FROM sqlite_master WHERE name LIKE '%batch%' OR name = 'reasks'") == []
    database.prepare(path, create=False)
    async with RunStore.own(path, 1) as store:
        assert store.waits is False
        await at_provider(store.batches, row("b"))
        assert (await store.settled(["a", "b"]))["b"].waiting
    assert (read(path, TEXTS), len(read(path, query))) == (before[0], 2)
    migrate(path, "0016")
    assert read(path, query) == before[1]
