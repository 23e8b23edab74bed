"""The index of rows: it finds what the store has, follows what changes, and may be deleted, damaged or shared at any time."""

import random
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from filling import broken, done, failed, filled, saved
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import StoreError, UsageError
from runner.model import Outcome
from runner.store import row_search
from runner.store.deletion import delete
from runner.store.index_words import plain, terms
from runner.store.row_index import RowIndex
from runner.store.row_pages import Place, RowPages
from runner.store.row_search import Wanted, search

WORDS = ("river", "Stone", "café", "東京都", "won't", "a_b", "x-1", "ﬁne", "Straße", "ก็ได้", "naïve", "42", "3.5")


def built(store: Path) -> RowIndex:
    index = RowIndex(store)
    while index.step(7):
        pass
    return index


def keys(store: Path, index: RowIndex, limit: int = 500, *, backwards: bool = False, run: int = 1, **wanted: Any) -> list[str]:
    """Return the keys of all rows that are found, page by page."""
    found, after, pages = list[str](), None, RowPages(store, run, None, None)
    while True:
        page = search(index, run, Wanted(**wanted), after, limit, backwards=backwards)
        found += [str(row.id) for _, row in pages.of(page.ids)]
        if page.next is None:
            return found
        after = page.next


def many(number: int) -> list[Outcome]:
    draw = random.Random(1)
    rows = [
        done(
            f"id-{at:03}",
            at,
            text=" ".join(draw.choices(WORDS, k=4)),
            metadata={"topic": at % 7, "say": {"to": [f"word{at % 5}"]}},
        )
        if at % 10
        else failed(f"id-{at:03}", at)
        for at in range(1, number)
    ]
    draw.shuffle(rows)
    return rows


def test_what_is_found_is_what_the_store_has(tmp_path: Path) -> None:
    store = filled(tmp_path / "runner.db", *many(200), broken("bad", 200))
    index, by_key = built(store), {one.key: one for one in many(200)}
    order = sorted(by_key, key=lambda key: by_key[key].position)
    text = {key: (one.completion.text if one.completion else "") or "" for key, one in by_key.items()}
    for limit in (3, 500):
        assert keys(store, index, limit, statuses=["done"]) == [key for key in order if by_key[key].status == "done"]
        assert keys(store, index, limit, codes=["cut"], backwards=True) == [key for key in order[::-1] if text[key] == ""]
        assert keys(store, index, limit, codes=["cut", "bad_row"])[-1] == "bad"
        assert keys(store, index, limit, words="river ") == [key for key in order if "river" in text[key]]
        assert keys(store, index, limit, words="riv") == [key for key in order if "river" in text[key]]
        both = [key for key in order if "river" in text[key] and by_key[key].metadata.get("topic") == 3]
        assert keys(store, index, limit, words="RIVER", fields=[("topic", "3")], statuses=["done"]) == both
    assert keys(store, index, words="id-017") == ["id-017"]
    assert keys(store, index, words="word3 ") == [key for key in order if by_key[key].metadata.get("say") == {"to": ["word3"]}]
    assert keys(store, index, finishes=["length"]) == keys(store, index, words="nowhere") == keys(store, index, words="?! ") == []


@pytest.mark.parametrize(
    ("word", "typed"),
    [("café", "CAFE "), ("東京都", "京都"), ("東京都", "都"), ("won't", "won t "), ("a_b", "a_b "), ("ﬁne", "fine "),
     ("Straße", "STRASSE "), ("ก็ได้", "ได"), ("naïve", "nai"), ("3.5", "3.5"), ("x-1", "x-1")],
)  # fmt: skip
def test_words_of_all_scripts_are_found(tmp_path: Path, word: str, typed: str) -> None:
    store = filled(tmp_path / "runner.db", done("r", 1, text=f"before {word}, behind"), done("other", 2, text="all else"))
    assert keys(store, built(store), words=typed) == ["r"]


@given(st.text())
def test_each_word_of_a_text_is_found_in_it(text: str) -> None:
    assert set(terms(text)) <= set(row_search.terms(plain(text))) | set(plain(text).split())


def test_rows_that_are_added_and_rows_that_change_are_found_as_they_are_now(tmp_path: Path) -> None:
    store = filled(tmp_path / "runner.db", *many(30))
    index = built(store)
    assert index.is_complete(1)
    saved(store, done("new", 31, text="brand new"), done("id-010", 10, text="mended now"))
    # that of another process, or of another day, does not pass as complete before it has what is new
    other = RowIndex(store)
    assert not other.is_complete(1)
    while index.step(5):
        pass
    assert other.is_complete(1)
    assert keys(store, index, words="brand ") == ["new"]
    assert keys(store, index, words="mended ") == ["id-010"]
    assert keys(store, index, codes=["cut"]) == ["id-020"]
    # what changes without an attempt is found when all rows are gone over
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.execute("UPDATE items SET position = 1000, text = 'moved away' WHERE key = 'id-001'")
    assert index.step() == 0
    while not index.sweep(7):
        pass
    assert keys(store, index, words="moved ") == ["id-001"]
    assert keys(store, index, statuses=["done"])[-1] == "id-001"


def test_a_row_may_change_often(tmp_path: Path) -> None:
    store = filled(tmp_path / "runner.db", done("a", 1, text="word0"), done("b", 2, text="other"))
    index = built(store)
    for turn in range(1, 70):
        with closing(sqlite3.connect(store)) as connection, connection:
            connection.execute("UPDATE items SET text = ? WHERE key = 'a'", (f"word{turn}",))
        while not index.sweep():
            pass
    assert keys(store, index, words="word69 ") == ["a"]
    assert keys(store, index, words="word5 ") == []
    assert keys(store, index, statuses=["done"]) == ["a", "b"]


def test_pages_are_those_of_the_store_while_rows_come(tmp_path: Path) -> None:
    store = filled(tmp_path / "runner.db", *[done(f"k{at}", at, text="same") for at in range(2, 40, 2)])
    index, pages = built(store), RowPages(store, 1, None, None)
    first = search(index, 1, Wanted(words="same "), None, 5, backwards=False)
    saved(store, *[done(f"k{at}", at, text="same") for at in range(1, 40, 2)])
    while index.step():
        pass
    rest = search(index, 1, Wanted(words="same "), first.next, 500, backwards=False)
    lines = [place.position for place, _ in pages.of(rest.ids)]
    assert lines == list(range(11, 40))
    of_store = pages.page(Place(10, 1, 0), 500)
    assert [place.position for place, _ in of_store.rows] == list(range(10, 40))
    assert [place.position for place, _ in pages.page(Place(10, 1, 0), 3, backwards=True).rows] == [9, 8, 7]


def test_the_index_is_for_its_user_alone_and_can_be_deleted_damaged_or_replaced(tmp_path: Path) -> None:
    store = filled(tmp_path / "runner.db", *many(50))
    index = built(store)
    expected = keys(store, index, words="river ")
    assert stat.S_IMODE(index.path.stat().st_mode) == 0o600
    index.forget()
    assert keys(store, index, words="river ") == []
    assert keys(store, built(store), words="river ") == expected
    for damage in (b"", b"no database" * 500, index.path.read_bytes()[:8192] + b"\xff" * 8192 * 4):
        index.path.write_bytes(damage)
        search(index, 1, Wanted(words="river "), None, 5, backwards=False)
        assert keys(store, built(store), words="river ") == expected, damage[:20]


def test_a_run_that_was_deleted_leaves_nothing(tmp_path: Path) -> None:
    store = filled(tmp_path / "runner.db", *many(30))
    filled(store, *many(20))
    index = built(store)
    assert len(keys(store, index, run=2, statuses=["done"])) > 5
    delete(store, [2])
    filled(store, done("fresh", 1, text="fresh words"))
    while index.step(3):
        pass
    assert keys(store, index, run=3, words="fresh ") == ["fresh"]
    assert keys(store, index, run=2, statuses=["done"]) == []
    assert len(keys(store, index, statuses=["done"])) == len([one for one in many(30) if one.status == "done"])


def test_two_processes_bring_it_up_to_date_together(tmp_path: Path) -> None:
    store = filled(tmp_path / "runner.db", *many(120))
    one, other = RowIndex(store), RowIndex(store)

    async def both() -> None:
        async def all_of(index: RowIndex) -> None:
            while await anyio.to_thread.run_sync(index.step, 3):
                pass

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(all_of, one)
            tasks.start_soon(all_of, other)

    anyio.run(both)
    while one.step():
        pass
    assert len(keys(store, other, statuses=["done", "failed"])) == 119
    with closing(sqlite3.connect(one.path)) as connection:
        assert connection.execute("SELECT rows FROM runs").fetchall() == [(119,)]


def test_a_search_that_takes_too_long_or_has_too_many_words_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(tmp_path / "runner.db", *many(100))
    index = built(store)
    with pytest.raises(UsageError, match="at most 32 words"):
        search(index, 1, Wanted(words=" ".join(f"w{at}" for at in range(33))), None, 5, backwards=False)
    monkeypatch.setattr(row_search, "_LONGEST_S", -1.0)
    monkeypatch.setattr(row_search, "_LOOK", 1)
    with pytest.raises(UsageError, match="takes too long"):
        search(index, 1, Wanted(words="river "), None, 5, backwards=False)


def test_a_folder_that_cannot_be_written_is_an_error_in_words(tmp_path: Path) -> None:
    index = RowIndex(filled(tmp_path / "runner.db", *many(10)))
    index.path.mkdir()
    with pytest.raises((StoreError, OSError)):
        index.step()
