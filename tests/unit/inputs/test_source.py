"""The items still to be done: settled rows are skipped, also in edited files, and identical rows are told apart."""

import json
import random
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from runner.batches import BatchRow, StoredBatch
from runner.errors import UsageError
from runner.inputs import scan, source
from runner.inputs.formats import jsonl
from runner.inputs.keys import base_key, keyed
from runner.inputs.prompts import Template
from runner.model import Attempt, Completion, Entry, Item, Outcome, Params, Row
from runner.session.opening import open_input
from runner.settled import Settled
from runner.store import database
from runner.store.checkpoint import RunStore
from runner.store.runs import open_run
from runner.store.schema import items

pytestmark = pytest.mark.anyio

TEMPLATE = Template(model="m", system=None, params=Params())


class Memory:
    """A store that is a dictionary."""

    def __init__(self) -> None:
        self.held: dict[str, Settled] = {}
        self.asked: list[str] = []
        self.moved: list[tuple[str, int]] = []

    async def settled(self, keys: Sequence[str]) -> dict[str, Settled]:
        self.asked += keys
        return {key: self.held[key] for key in keys if key in self.held}

    async def settled_between(self, first: int, last: int) -> list[tuple[int, str, int]]:
        found = []
        for key, one in self.held.items():
            wanted = one.status is not None and not (one.broken or one.again)
            if wanted and one.position is not None and one.fingerprint is not None and first <= one.position <= last:
                found.append((one.position, key, one.fingerprint))
        return sorted(found)

    async def tried(self, keys: Sequence[str]) -> dict[str, int]:
        raise AssertionError("asked for rows that are sent again only")

    async def reposition(self, moved: Sequence[tuple[str, int]]) -> None:
        self.moved += moved

    async def forget_broken(self, lines: tuple[int, int | None] | Sequence[int], keep: Sequence[str]) -> None:
        assert isinstance(lines, tuple), "the whole input is read"
        first, last = lines
        for key, one in list(self.held.items()):
            inside = one.position is not None and first <= one.position and (last is None or one.position <= last)
            if one.broken and inside and key not in keep:
                del self.held[key]

    async def save(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if isinstance(entry, Outcome):
                self.held[entry.key] = Settled(
                    status=entry.status,
                    position=entry.position,
                    fingerprint=entry.fingerprint,
                    attempts=entry.attempts,
                    broken=entry.error_code == "bad_row",
                )


def written(path: Path, rows: Iterable[Any]) -> scan.PromptFile:
    """Write a prompt file. rows: objects, or strings that are written as lines."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(line + "\n" for line in lines))
    return open_input(path)


async def to_do(
    prompts: scan.PromptFile,
    store: Memory | RunStore,
    *,
    fresh: bool = False,
    retries: bool = False,
    limit: int | None = None,
    template: Template = TEMPLATE,
) -> tuple[list[Item | Outcome], source.Counts]:
    counts = source.Counts()
    found = scan.scan(prompts)
    items = source.items(
        prompts,
        found,
        template,
        store,
        counts,
        source.Selection(fresh=fresh, retries=retries, limit=limit),
        source.SettledRows(),
    )
    return [one async for one in items], counts


def answered(one: Item | Outcome, status: str = "done") -> Outcome:
    if isinstance(one, Outcome):
        return one
    number = one.attempts_before + 1
    return Outcome(
        key=one.key,
        position=one.position,
        status="done" if status == "done" else "failed",
        metadata=one.metadata,
        fingerprint=one.fingerprint,
        completion=Completion(text="t", finish_reason="stop") if status == "done" else None,
        error_code=None if status == "done" else "server_error",
        attempt=Attempt(key=one.key, number=number, started_at=1.0, duration_s=1.0),
        attempts=number,
    )


async def answer_all(prompts: scan.PromptFile, store: Memory | RunStore) -> list[Item | Outcome]:
    todo, _ = await to_do(prompts, store)
    await store.save([answered(one) for one in todo])
    return todo


def prompts_of(todo: Iterable[Item | Outcome]) -> list[str]:
    return [str(one.request.messages[0]["content"]) for one in todo if isinstance(one, Item)]


def test_scan_counts_rows_without_blank_lines(tmp_path: Path) -> None:
    found = scan.scan(written(tmp_path / "p.jsonl", [{"prompt": "a"}, "", {"prompt": "b"}, "{broken", "  "]))
    assert (found.rows, found.identical, found.duplicates, len(found.repeated)) == (3, 0, {}, 0)


def test_scan_of_an_empty_file(tmp_path: Path) -> None:
    assert scan.scan(written(tmp_path / "p.jsonl", [])).rows == 0


def test_scan_finds_duplicate_ids_with_their_lines(tmp_path: Path) -> None:
    rows = [{"id": "a", "prompt": "1"}, {"id": "b", "prompt": "2"}, "", {"id": "a", "prompt": "3"}, {"id": 5}, {"id": "5"}]
    found = scan.scan(written(tmp_path / "p.jsonl", rows))
    assert found.duplicates == {"a": [1, 4], "5": [5, 6]}
    assert found.identical == 0


def test_scan_counts_identical_rows_beyond_the_first(tmp_path: Path) -> None:
    rows = [{"prompt": "x"}, {"prompt": "y"}, '{ "prompt" : "x" }', {"prompt": "x"}, "{oops", "{oops"]
    found = scan.scan(written(tmp_path / "p.jsonl", rows))
    assert (found.rows, found.identical, found.duplicates) == (6, 3, {})


def test_the_same_prompt_under_two_ids_or_with_other_fields_is_not_identical(tmp_path: Path) -> None:
    rows = [{"id": "1", "prompt": "x"}, {"id": "2", "prompt": "x"}, {"prompt": "x"}, {"prompt": "x", "n": 1}]
    found = scan.scan(written(tmp_path / "p.jsonl", rows))
    assert (found.identical, found.duplicates) == (0, {})


def test_duplicates_are_refused_with_lines_and_only_the_first_few(tmp_path: Path) -> None:
    rows = [{"id": f"id{n % 7}", "prompt": "x"} for n in range(35)]
    prompts = written(tmp_path / "p.jsonl", rows)
    with pytest.raises(UsageError, match="7 duplicate ids: ") as caught:
        scan.refuse_duplicates(scan.scan(prompts), prompts.path, prompts.places)
    words = str(caught.value)
    assert str(prompts.path) in words
    assert "'id0' on lines 1, 8, 15, ..." in words
    assert "'id4'" in words
    assert "'id5'" not in words
    assert "and 2 more" in words


def test_of_many_duplicates_the_first_are_kept_and_all_are_counted(tmp_path: Path) -> None:
    rows = [{"id": f"id{n % 300}", "prompt": "x"} for n in range(900)] + [{"id": "often", "prompt": "x"}] * 150
    prompts = written(tmp_path / "p.jsonl", rows)
    found = scan.scan(prompts)
    assert (found.rows, found.duplicate_ids, len(found.duplicates)) == (1050, 301, 100)
    assert found.duplicates["id99"] == [100, 400, 700]
    with pytest.raises(UsageError, match=r"301 duplicate ids: .*and 296 more"):
        scan.refuse_duplicates(found, prompts.path, prompts.places)
    found = scan.scan(written(tmp_path / "often.jsonl", rows[900:]))
    assert found.duplicates == {"often": list(range(1, 101))}


def test_two_hashes_that_only_look_alike_are_no_duplicates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "hash", lambda key: 7, raising=False)
    rows = [{"id": "a", "prompt": "1"}, {"id": "b", "prompt": "1"}, {"prompt": "1"}, {"prompt": "2"}]
    prompts = written(tmp_path / "p.jsonl", rows)
    found = scan.scan(prompts)
    assert (found.duplicate_ids, found.duplicates, found.identical) == (0, {}, 0)
    scan.refuse_duplicates(found, prompts.path, prompts.places)
    assert len({key for key, _ in keyed(prompts.read(), found.repeated)}) == 4


async def test_a_batch_is_bounded_in_bytes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand rows of a megabyte each are never in memory at once."""
    monkeypatch.setattr(source, "BATCH_BYTES", 1000)
    store = Memory()
    asked: list[int] = []
    look_up = store.settled

    async def noted(keys: Sequence[str]) -> dict[str, Settled]:
        asked.append(len(keys))
        return await look_up(keys)

    monkeypatch.setattr(store, "settled", noted)
    rows = [{"id": str(n), "prompt": "x" * 300} for n in range(10)] + [{"id": "long", "prompt": "x" * 5000}, {"prompt": "y"}]
    todo, _ = await to_do(written(tmp_path / "p.jsonl", rows), store)
    assert len(todo) == 12
    assert asked == [4, 4, 3, 1]


def test_unique_ids_are_not_refused(tmp_path: Path) -> None:
    prompts = written(tmp_path / "p.jsonl", [{"id": "a"}, {"id": "b"}, {"prompt": "x"}, {"prompt": "x"}])
    scan.refuse_duplicates(scan.scan(prompts), prompts.path, prompts.places)


@given(st.lists(st.sampled_from("abcde"), max_size=30))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_scan_agrees_with_plain_counting(tmp_path: Path, texts: list[str]) -> None:
    prompts = written(tmp_path / "p.jsonl", [{"prompt": text} for text in texts])
    found = scan.scan(prompts)
    assert (found.rows, found.identical) == (len(texts), len(texts) - len(set(texts)))
    keys = [key for key, _ in keyed(prompts.read(), found.repeated)]
    assert len(set(keys)) == len(texts)


async def test_identical_rows_get_ordinals(tmp_path: Path) -> None:
    prompts = written(tmp_path / "p.jsonl", [{"prompt": "x"}, {"prompt": "y"}, {"prompt": "x"}, {"prompt": "x"}])
    todo, _ = await to_do(prompts, Memory(), fresh=True)
    first = todo[0].key
    assert [one.key for one in todo] == [first, todo[1].key, f"{first}-2", f"{first}-3"]
    assert [one.position for one in todo] == [1, 2, 3, 4]


def test_an_id_that_looks_like_one_of_our_ordinals_is_refused_or_kept_apart(tmp_path: Path) -> None:
    """Our own exports contain such ids. Two rows with the same key would get one answer for two prompts."""
    key, _ = base_key(Row(line=1, fields={"prompt": "x"}))
    prompts = written(tmp_path / "p.jsonl", [{"prompt": "x"}, {"prompt": "x"}, {"id": f"{key}-2", "prompt": "z"}])
    found = scan.scan(prompts)
    keys = [one for one, _ in keyed(prompts.read(), found.repeated)]
    assert found.duplicates or len(set(keys)) == 3
    assert (found.duplicate_ids, found.duplicates) == (1, {f"{key}-2": [3, 1, 2]})


@pytest.mark.parametrize("ending", ["-3", "-02", "-1", "-2x", ""])
def test_an_id_that_no_identical_row_gets_stays_an_id(tmp_path: Path, ending: str) -> None:
    key, _ = base_key(Row(line=1, fields={"prompt": "x"}))
    prompts = written(tmp_path / "p.jsonl", [{"prompt": "x"}, {"id": f"{key}{ending}", "prompt": "z"}, {"prompt": "x"}])
    found = scan.scan(prompts)
    assert found.duplicates == ({} if ending else {key: [1, 2, 3]})
    assert found.identical == 1


async def test_a_fresh_run_does_not_ask_the_store(tmp_path: Path) -> None:
    store = Memory()
    todo, counts = await to_do(written(tmp_path / "p.jsonl", [{"prompt": str(n)} for n in range(600)]), store, fresh=True)
    assert prompts_of(todo) == [str(n) for n in range(600)]
    assert store.asked == []
    assert (counts.settled, counts.seen, counts.complete) == (0, 0, True)


async def test_settled_rows_are_skipped_and_counted(tmp_path: Path) -> None:
    store, prompts = Memory(), written(tmp_path / "p.jsonl", [{"prompt": str(n)} for n in range(600)])
    todo, _ = await to_do(prompts, store)
    await store.save([answered(one) for one in todo[:300]])
    again, counts = await to_do(prompts, store)
    assert again == todo[300:]
    assert (counts.settled, counts.seen, counts.changed, counts.complete) == (300, 300, 0, True)


async def test_failed_rows_come_again_only_when_asked_and_know_their_attempts(tmp_path: Path) -> None:
    store, prompts = Memory(), written(tmp_path / "p.jsonl", [{"prompt": "a"}, {"prompt": "b"}])
    todo, _ = await to_do(prompts, store)
    await store.save([answered(todo[0]), answered(todo[1], "failed")])
    assert (await to_do(prompts, store))[0] == []
    (failed,) = (key for key, one in store.held.items() if one.status == "failed")
    store.held[failed] = structs.replace(store.held[failed], again=True)
    (again,), counts = await to_do(prompts, store, retries=True)
    assert isinstance(again, Item)
    assert (prompts_of([again]), again.attempts_before) == (["b"], 1)
    assert (counts.settled, counts.seen) == (1, 2)


async def test_a_row_with_attempts_only_is_still_to_be_done(tmp_path: Path) -> None:
    store, prompts = Memory(), written(tmp_path / "p.jsonl", [{"id": "a", "prompt": "x"}])
    store.held["a"] = Settled(status=None, position=None, fingerprint=None, attempts=3)
    (one,), counts = await to_do(prompts, store)
    assert isinstance(one, Item)
    assert (one.attempts_before, counts.seen, counts.settled, store.moved) == (3, 0, 0, [])


@pytest.mark.parametrize(("limit", "complete"), [(1, False), (299, False), (300, True), (301, True), (None, True)])
async def test_limit_looks_at_the_first_rows_only(tmp_path: Path, limit: int | None, complete: bool) -> None:
    prompts = written(tmp_path / "p.jsonl", [{"prompt": str(n)} for n in range(300)])
    store = Memory()
    todo, counts = await to_do(prompts, store, limit=limit)
    assert prompts_of(todo) == [str(n) for n in range(300)][:limit]
    assert counts.complete is complete
    await store.save([answered(one) for one in todo])
    assert (await to_do(prompts, store, limit=limit))[0] == []


async def test_broken_rows_come_as_outcomes(tmp_path: Path) -> None:
    prompts = written(tmp_path / "p.jsonl", [{"prompt": "a"}, "{oops", {"id": "c", "lang": "en"}, "[1]"])
    todo, _ = await to_do(prompts, Memory())
    assert [type(one) for one in todo] == [Item, Outcome, Outcome, Outcome]
    assert [one.position for one in todo] == [1, 2, 3, 4]
    assert [one.error_code for one in todo if isinstance(one, Outcome)] == ["bad_row"] * 3


async def test_rows_that_moved_are_noted(tmp_path: Path) -> None:
    path, store = tmp_path / "p.jsonl", Memory()
    await answer_all(written(path, [{"id": name, "prompt": name} for name in "abc"]), store)
    todo, _ = await to_do(written(path, [{"id": name, "prompt": name} for name in "acb"]), store)
    assert todo == []
    assert sorted(store.moved) == [("b", 3), ("c", 2)]


async def test_changed_rows_are_counted_and_not_sent(tmp_path: Path) -> None:
    path, store = tmp_path / "p.jsonl", Memory()
    await answer_all(written(path, [{"id": name, "prompt": name} for name in "abc"]), store)
    rows = [{"id": "a", "prompt": "a"}, {"id": "b", "prompt": "B"}, {"id": "c", "prompt": "c", "note": "new"}]
    todo, counts = await to_do(written(path, rows), store)
    assert todo == []
    assert (counts.changed, counts.settled) == (1, 3)


async def test_appended_rows_are_taken(tmp_path: Path) -> None:
    path, store = tmp_path / "p.jsonl", Memory()
    await answer_all(written(path, [{"prompt": "a"}]), store)
    todo, _ = await to_do(written(path, [{"prompt": "a"}, {"prompt": "b"}, {"prompt": "a"}]), store)
    assert prompts_of(todo) == ["b", "a"]


async def test_what_is_appended_after_opening_belongs_to_the_next_session(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    prompts = written(path, [{"prompt": "a"}])
    before = scan.measure(prompts).digest
    with path.open("a") as file:
        file.write('{"prompt": "b"}\n')
    assert scan.scan(prompts).rows == 1
    assert scan.measure(prompts).digest == before != scan.measure(open_input(path)).digest
    assert prompts_of((await to_do(prompts, Memory()))[0]) == ["a"]


def test_digest_changes_with_every_byte(tmp_path: Path) -> None:
    digests = {scan.measure(written(tmp_path / "p.jsonl", lines)).digest for lines in (["{a"], ["{b"], ["{a", ""], [" {a"], [])}
    assert len(digests) == 5


def test_digest_of_a_folder_is_refused(tmp_path: Path) -> None:
    prompts = scan.PromptFile(tmp_path, 0, lambda: jsonl.read(tmp_path))
    with pytest.raises(UsageError, match="folder"):
        scan.measure(prompts)


ROWS: list[dict[str, Any]] = [
    *({"prompt": f"hash {n}"} for n in range(300)),
    *({"prompt": "the same", "lang": "en"} for _ in range(5)),
    *({"id": f"own {n}", "prompt": f"own {n}"} for n in range(300)),
]


def edits() -> dict[str, tuple[list[Any], int]]:
    """Edited files, and the number of rows in each that have no answer yet."""
    new = {"prompt": "new"}
    shuffled = random.Random(3).sample(ROWS, len(ROWS))
    return {
        "same": (ROWS, 0),
        "line on top": ([new, *ROWS], 1),
        "line in the middle": ([*ROWS[:300], new, *ROWS[300:]], 1),
        "blank lines on top": (["", "", *ROWS], 0),
        "line deleted": (ROWS[1:], 0),
        "an identical one deleted": ([*ROWS[:300], *ROWS[301:]], 0),
        "an identical one more": ([ROWS[302], *ROWS], 1),
        "shuffled": (shuffled, 0),
        "turned": (ROWS[::-1], 0),
        "shuffled, cut and added to": ([*shuffled[100:], new, {"id": "n", "prompt": "n"}], 2),
        "fields in another order": ([dict(reversed(row.items())) for row in ROWS], 0),
    }


@pytest.mark.parametrize("edit", edits())
async def test_no_unchanged_row_of_an_edited_file_comes_again(tmp_path: Path, edit: str) -> None:
    rows, unknown = edits()[edit]
    path, store_path = tmp_path / "p.jsonl", tmp_path / "runner.db"
    database.prepare(store_path, create=True)
    opened = open_run(store_path, path, {}, {}, new=False)
    async with RunStore.own(store_path, opened.id) as store:
        assert len(await answer_all(written(path, ROWS), store)) == len(ROWS)
        prompts = written(path, rows)
        todo, counts = await to_do(prompts, store)
        assert len(todo) == unknown
        assert counts.settled == scan.scan(prompts).rows - unknown
        assert counts.changed == 0
        await store.save([answered(one) for one in todo])
        assert (await to_do(prompts, store))[0] == []


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
async def test_any_edit_buys_only_the_rows_that_are_new(tmp_path: Path, data: st.DataObject) -> None:
    lines = st.lists(st.sampled_from("abcdef").map(lambda text: {"prompt": text}), max_size=12)
    first, second = data.draw(lines), data.draw(lines)
    path, store = tmp_path / "p.jsonl", Memory()
    await answer_all(written(path, first), store)
    todo, _ = await to_do(written(path, second), store)
    left = [row["prompt"] for row in second]
    for row in first:
        if row["prompt"] in left:
            left.remove(row["prompt"])
    assert sorted(prompts_of(todo)) == sorted(left)


# --- settled rows counted before the session, and the look-ups that this saves ------------------------------------------


async def a_look(
    prompts: scan.PromptFile, store: Memory | RunStore, *, retries: bool = False, accept_changes: bool = False
) -> tuple[source.SettledRows, list[Item | Outcome], source.Counts]:
    """Count the settled rows and collect the items still to be done, as a session does."""
    found, counts = scan.scan(prompts), source.Counts()
    selection = source.Selection(retries=retries, accept_changes=accept_changes)
    look = await source.find_settled(prompts, found, store, selection)
    items = source.items(prompts, found, TEMPLATE, store, counts, selection, look)
    return look, [one async for one in items], counts


@pytest.fixture
def tens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of ten rows."""
    monkeypatch.setattr(source, "BATCH", 10)


@pytest.fixture
async def real(tmp_path: Path) -> AsyncIterator[RunStore]:
    path = tmp_path / "runner.db"
    database.prepare(path, create=True)
    opened = open_run(path, tmp_path / "p.jsonl", {}, {}, new=False)
    async with RunStore.own(path, opened.id) as store:
        yield store


A_HUNDRED = [{"id": f"r{n}", "prompt": str(n)} for n in range(100)]


@pytest.mark.usefixtures("tens")
async def test_behind_settled_rows_only_what_is_new_is_looked_up(tmp_path: Path) -> None:
    path, store = tmp_path / "p.jsonl", Memory()
    await answer_all(written(path, A_HUNDRED), store)
    store.asked.clear()
    look, todo, counts = await a_look(written(path, [*A_HUNDRED, {"id": "new", "prompt": "new"}]), store)
    assert (look.settled, look.changed, len(look.untouched)) == (100, 0, 10)
    assert prompts_of(todo) == ["new"]
    assert (counts.settled, counts.seen, counts.changed, counts.complete) == (100, 100, 0, True)
    assert store.asked == ["new", "new"]


@pytest.mark.usefixtures("tens")
@pytest.mark.parametrize(
    ("edited", "to_send", "settled", "changed", "moved"),
    [
        ([*A_HUNDRED[:40], {"id": "r40", "prompt": "other"}, *A_HUNDRED[41:]], [], 100, 1, 0),
        ([*A_HUNDRED[:40], {"id": "x", "prompt": "x"}, *A_HUNDRED[40:]], ["x"], 100, 0, 60),
        ([*A_HUNDRED[:40], *A_HUNDRED[41:]], [], 99, 0, 59),
        ([*A_HUNDRED[:40], {"id": "x", "prompt": "x"}, *A_HUNDRED[41:]], ["x"], 99, 0, 0),
        ([*A_HUNDRED[:40], "", *A_HUNDRED[40:]], [], 100, 0, 60),
        ([A_HUNDRED[1], A_HUNDRED[0], *A_HUNDRED[2:]], [], 100, 0, 2),
        ([*A_HUNDRED[:40], {"id": "r40"}, *A_HUNDRED[41:]], [], 100, 1, 0),
    ],
    ids=["edited", "inserted", "removed", "replaced", "a blank line", "swapped", "broken now"],
)
async def test_every_edit_in_the_midst_of_settled_rows_is_seen(
    tmp_path: Path, real: RunStore, edited: list[Any], to_send: list[str], settled: int, changed: int, moved: int
) -> None:
    path = tmp_path / "p.jsonl"
    prompts = written(path, A_HUNDRED)
    await answer_all(prompts, real)
    places = {key: one.position for key, one in (await real.settled([row["id"] for row in A_HUNDRED])).items()}
    look, todo, counts = await a_look(written(path, edited), real)
    assert prompts_of(todo) == to_send
    assert (look.settled, look.changed) == (counts.settled, counts.changed) == (settled, changed)
    now = {key: one.position for key, one in (await real.settled([row["id"] for row in A_HUNDRED])).items()}
    assert sum(now[key] != place for key, place in places.items()) == moved


@pytest.mark.usefixtures("tens")
async def test_failed_and_changed_rows_in_the_midst_of_settled_ones_come_again_when_asked_for(
    tmp_path: Path, real: RunStore
) -> None:
    path = tmp_path / "p.jsonl"
    todo, _ = await to_do(written(path, A_HUNDRED), real)
    await real.save([answered(one, "failed" if at == 55 else "done") for at, one in enumerate(todo)])
    look, todo, counts = await a_look(written(path, A_HUNDRED), real)
    assert (todo, look.settled, len(look.untouched), counts.settled) == ([], 100, 10, 100)
    await real.choose(items.c.status == "failed", None, {})
    look, todo, counts = await a_look(written(path, A_HUNDRED), real, retries=True)
    assert (prompts_of(todo), look.settled, counts.settled, counts.seen) == (["55"], 99, 99, 100)
    real.retries = False
    rows = [*A_HUNDRED[:7], {"id": "r7", "prompt": "other"}, *A_HUNDRED[8:]]
    look, todo, counts = await a_look(written(path, rows), real, accept_changes=True)
    assert (prompts_of(todo), look.settled, look.changed, counts.settled) == (["other"], 99, 1, 99)


@pytest.mark.usefixtures("tens")
async def test_a_file_that_changes_between_the_look_and_the_session_loses_no_row(tmp_path: Path, real: RunStore) -> None:
    path = tmp_path / "p.jsonl"
    prompts = written(path, A_HUNDRED)
    await answer_all(prompts, real)
    look = await source.find_settled(prompts, scan.scan(prompts), real, source.Selection())
    prompts = written(path, [*A_HUNDRED[:40], {"id": "x", "prompt": "x"}, *A_HUNDRED[41:]])
    counts, found = source.Counts(), scan.scan(prompts)
    items = source.items(prompts, found, TEMPLATE, real, counts, source.Selection(), look)
    assert prompts_of([one async for one in items]) == ["x"]
    assert counts.settled == 99


@pytest.mark.usefixtures("tens")
async def test_rows_that_wait_in_a_batch_are_counted_and_yielded_to_nobody(tmp_path: Path, real: RunStore) -> None:
    path = tmp_path / "p.jsonl"
    prompts = written(path, A_HUNDRED)
    todo, _ = await to_do(prompts, real)
    await real.save([answered(one) for one in todo[10:]])
    assert await source.all_settled(written(path, A_HUNDRED[10:]), scan.scan(written(path, A_HUNDRED[10:])), TEMPLATE, real)
    prompts = written(path, [*A_HUNDRED[:55], {"id": "r55", "prompt": "other"}, *A_HUNDRED[56:]])
    batch = StoredBatch(
        id=0, run_id=1, token="t", state="writing", vendor="v", model="m", base_url="b", account="a", rows=0, waiting=0, bytes=1,
        path="p", created_at=1.0,
    )  # fmt: skip
    number = await real.batches.begin_batch(batch)
    # two that were never answered, and one that has changed since
    waiting = [BatchRow(custom_id=key, key=key, position=1, fingerprint=1, metadata={}, number=1) for key in ("r0", "r9", "r55")]
    await real.batches.add_rows(number, waiting)
    look, todo, counts = await a_look(prompts, real, accept_changes=True)
    assert prompts_of(todo) == [str(one) for one in range(1, 9)]
    assert (look.waiting, look.settled, look.seen, look.changed) == (3, 89, 90, 0)
    assert (counts.waiting, counts.settled, counts.seen, counts.changed, counts.complete) == (3, 89, 90, 0, True)
    # a retry leaves them to their batch, too
    look, todo, counts = await a_look(prompts, real, retries=True)
    assert (todo, look.waiting, counts.waiting, counts.left) == ([], 3, 3, 8)
    await real.save([answered(one) for one in (await to_do(prompts, real))[0]])
    assert not await source.all_settled(prompts, scan.scan(prompts), TEMPLATE, real)
    await real.batches.drop_batch(number)
    _, todo, counts = await a_look(prompts, real, accept_changes=True)
    assert (prompts_of(todo), counts.waiting) == (["0", "9", "other"], 0)


@pytest.mark.usefixtures("tens")
async def test_broken_rows_that_have_gone_are_forgotten_among_settled_ones(tmp_path: Path, real: RunStore) -> None:
    path = tmp_path / "p.jsonl"
    todo, _ = await to_do(written(path, [*A_HUNDRED[:95], "{oops"]), real)
    await real.save([answered(one) for one in todo])
    assert (await real.counts()).broken == 1
    _, todo, counts = await a_look(written(path, A_HUNDRED[:90]), real)
    assert (todo, counts.settled) == ([], 90)
    assert (await real.counts()).broken == 0
