"""The name of an input, and the numbers of its files."""

from pathlib import Path

import pytest

from runner import origin
from runner.origin import LINES, Files, Shift

THREE = origin.files_of([Path("/d/a.csv"), Path("/d/e/b.csv"), Path("/d/c.csv")])


def test_names_for_people() -> None:
    assert origin.shown("/d/a.csv") == "/d/a.csv"
    assert origin.shown("run:12") == "the answers of run 12"
    assert origin.shown("/d/*.csv") == "/d/*.csv"
    several = origin.joined(THREE.paths)
    assert origin.shown(several) == "3 files in /d: a.csv, e/b.csv, c.csv"
    assert origin.shown(origin.joined([*THREE.paths, "/d/x.csv"])) == "4 files in /d: a.csv, e/b.csv, c.csv, ..."
    assert origin.shown(origin.joined(["/d/a.csv", "/d/*.json"])) == "2 patterns and files in /d: a.csv, *.json"


def test_a_name_seen_from_the_store_comes_back() -> None:
    for name in ("/d/a.csv", "/d/e/*.csv", str(origin.joined(["/d/a.csv", "/d/e/b*.csv"])), "run:3"):
        seen = origin.relative(name, Path("/d/store"))
        assert origin.moved(name, seen, lambda path: str(Path("/d/store", path).resolve())) == name
    assert origin.moved("run:3", "run:3", lambda _: "x") == "run:3"


def test_a_position_is_a_file_and_a_line() -> None:
    assert origin.place_of(17, None) == (None, 17)
    assert origin.place_of(LINES + 17, THREE) == ("e/b.csv", 17)
    assert origin.place_of(9 * LINES + 17, THREE) == (None, 17)
    assert origin.position_of("e/b.csv:17", THREE) == LINES + 17
    for word in ("b.csv:17", "a.csv:", "a.csv:x", "17", "a.csv:" + "9" * 30):
        assert origin.position_of(word, THREE) is None
    assert origin.position_of("a.csv:17", None) is None


def test_files_are_read_back_from_settings_or_not_at_all() -> None:
    assert origin.files_in({origin.STORED: THREE.stored()}) == THREE
    for damaged in (None, "x", {"folder": 1}, {"folder": "/d", "names": [1]}, []):
        assert origin.files_in({origin.STORED: damaged}) is None
    assert origin.files_in({}) is None


@pytest.mark.parametrize(
    ("before", "now", "gone", "shifts"),
    [
        ([], ["a"], [], []),
        (["a", "b"], ["a", "b"], [], []),
        (["a", "b"], ["a", "b", "c"], [], []),
        (["a", "b", "c"], ["0", "a", "b", "c"], [], [Shift(0, 2, 1)]),
        (["a", "b", "c"], ["c", "a", "b"], [], [Shift(0, 1, 1), Shift(2, 2, -2)]),
        (["a", "b", "c"], ["b"], ["a", "c"], [Shift(0, 0, 1), Shift(1, 1, -1)]),
        (["b", "a", "c"], ["c", "x"], ["b", "a"], [Shift(0, 1, 2), Shift(2, 2, -2)]),
    ],
)
def test_numbers_of_files_that_come_and_go(before: list[str], now: list[str], gone: list[str], shifts: list[Shift]) -> None:
    files = Files(folder="/d", names=tuple(now))
    found, moved = origin.renumbered([f"/d/{name}" for name in before], files)
    assert (found.names, found.gone, moved) == (tuple(now), tuple(gone), shifts)
    assert set(before) <= {Path(path).name for path in found.numbered}
