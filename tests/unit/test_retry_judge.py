"""Each rule of the kills of retries, broken once: the judge must see it."""

from collections import Counter
from typing import Any

import pytest
from kills.asked import Entry, Looked, judged

OLD = {key: Entry("done", f"old {key}", number, None) for number, key in enumerate(("r0", "r1", "r2"))}
NEW = Entry("done", "new", 9, None)
CHOSEN = frozenset(("r0", "r1"))


def looked(items: dict[str, Entry], replaced: list[tuple[str, str]], settled: dict[str, str], **more: Any) -> Looked:
    fields: dict[str, Any] = {"integrity": ("ok",), "doubled": [], "retry": 1, "chosen": CHOSEN, "spent": 0.0}
    return Looked(**{**fields, "items": items, "replaced": Counter(replaced), "settled": settled, **more})


BEFORE = looked(OLD, [], {})
ONE = {**OLD, "r0": NEW}
KEPT = [("r0", "old r0")]
DONE = {"r0": "done"}


def found(after: Looked, asked: tuple[int, ...] = (0,), before: Looked = BEFORE) -> list[str]:
    return list(judged(before, after, asked, lambda key: int(key[1:])))


def test_what_is_right_is_not_found_fault_with() -> None:
    assert found(looked(ONE, KEPT, DONE)) == []
    assert found(looked(OLD, [], {"r0": "kept"})) == []
    assert found(BEFORE, asked=(0, 1)) == []
    other = looked(ONE, KEPT, {}, retry=2, chosen=frozenset(("r2",)))
    assert found(other, asked=(2,), before=looked(ONE, KEPT, DONE)) == []


@pytest.mark.parametrize(
    ("after", "asked", "words"),
    [
        (looked(ONE, KEPT, DONE, integrity=("row 1 missing",)), (0,), "damaged"),
        (looked(ONE, KEPT, DONE, doubled=[("items", "r0")]), (0,), "r0 has several items"),
        (looked({"r0": NEW, "r1": OLD["r1"]}, [*KEPT, ("r2", "old r2")], DONE), (0,), "rows are gone"),
        (looked(ONE, [], DONE), (0,), "former answers are to be kept"),
        (looked(ONE, KEPT * 2, DONE), (0,), "former answers are to be kept"),
        (looked(OLD, KEPT, {}), (0,), "former answers are to be kept"),
        (looked({**OLD, "r2": NEW}, [("r2", "old r2")], {}), (0,), "were not to be asked"),
        (looked(ONE, KEPT, DONE), (2,), "sent again"),
        (looked(OLD, [], DONE), (0,), "the same entry"),
        (looked(ONE, KEPT, {"r0": "kept"}), (0,), "another entry"),
        (looked({**OLD, "r0": Entry("failed", None, 9, None)}, KEPT, DONE), (0,), "is failed"),
    ],
)
def test_each_rule_finds_what_breaks_it(after: Looked, asked: tuple[int, ...], words: str) -> None:
    assert any(words in rule for rule in found(after, asked))


def test_what_was_settled_stays_and_is_not_asked_again() -> None:
    before = looked(ONE, KEPT, DONE)
    assert any("outcomes are gone" in rule for rule in found(looked(ONE, KEPT, {}), (1,), before))
    assert any("former answers are gone" in rule for rule in found(looked(ONE, [], DONE), (1,), before))
    assert any("sent again" in rule for rule in found(before, (0,), before))
    (rule,) = found(looked({**ONE, "r0": Entry("done", "third", 10, None)}, [*KEPT, ("r0", "new")], DONE), (1,), before)
    assert "were not to be asked" in rule
