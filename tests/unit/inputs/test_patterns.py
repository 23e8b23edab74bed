"""What may be named as several files, which files these are, and in which order."""

import os
from pathlib import Path

import pytest

from runner import origin
from runner.errors import UsageError
from runner.inputs import patterns


def test_patterns_are_in_natural_order_folder_by_folder(tmp_path: Path) -> None:
    names = ["a10.csv", "a2.csv", "a2b.csv", "a.csv", "b/1.csv", "b/02.csv", "b/c/0.csv", "b10/1.csv", "b9/1.csv", "ä.csv"]
    for name in [*names, ".hidden.csv", "b/.hidden/x.csv", "a.txt"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.csv").mkdir()
    found, left_out = patterns.matches(tmp_path / "**" / "*.csv")
    assert [str(match.path.relative_to(tmp_path)) for match in found] == [
        "a2.csv",
        "a2b.csv",
        "a10.csv",
        "a.csv",
        "b/1.csv",
        "b/02.csv",
        "b/c/0.csv",
        "b9/1.csv",
        "b10/1.csv",
        "ä.csv",
    ]
    assert left_out == []
    assert {match.pattern for match in found} == {str(tmp_path / "**" / "*.csv")}


def test_links_in_circles_names_in_other_encodings_and_patterns_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.csv").touch()
    for name in ("one", "two"):
        (tmp_path / "d" / name).symlink_to(tmp_path)
    assert [match.path for match in patterns.matches(tmp_path / "**" / "*.csv")[0]] == [tmp_path / "d" / "a.csv"]
    assert origin.exists(str(tmp_path / "**" / "*.csv"))
    assert not origin.exists(str(tmp_path / "**" / "*.json"))
    for number in range(9):
        (tmp_path / f"link{number}.csv").symlink_to("d/a.csv")
    assert patterns.matches(tmp_path / "*.csv")[1][-1] == "and 5 more are left out, which are files of other names too"
    with pytest.raises(UsageError, match="is no pattern"):
        patterns.matches(tmp_path / "a**b.csv")
    (tmp_path / os.fsdecode(b"b\xff.txt")).touch()
    with pytest.raises(UsageError, match="is not UTF-8, and the store keeps names as text"):
        patterns.matches(tmp_path / "*.txt")


def test_files_that_are_named_stand_where_they_are_named(tmp_path: Path) -> None:
    for name in ("1.csv", "2.csv", "3.csv"):
        (tmp_path / name).touch()
    source = origin.joined([tmp_path / "*.csv", tmp_path / "1.csv"])
    assert [match.path.name for match in patterns.matches(source)[0]] == ["2.csv", "3.csv", "1.csv"]
    (tmp_path / "4.csv").symlink_to("2.csv")
    found, left_out = patterns.matches(tmp_path / "*.csv")
    assert [match.path.name for match in found] == ["1.csv", "2.csv", "3.csv"]
    assert left_out == [f"{tmp_path / '4.csv'} is left out: it is the same file as {tmp_path / '2.csv'}"]
    with pytest.raises(UsageError, match="are the same file; name it once"):
        patterns.matches(origin.joined([tmp_path / "2.csv", tmp_path / "4.csv"]))


def test_what_a_file_is_called_is_no_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data[1].csv").touch()
    assert not origin.is_several(tmp_path / "data[1].csv")
    assert origin.is_several(tmp_path / "data[2].csv")
    # nor is a folder whose name ends with a line break a list
    assert not origin.is_several("/data/a\n b/c.csv")
    for names, words in (
        (["a\nb.csv"], "may not have a line break"),
        ([""], "the name of the prompt file is empty"),
        (["data[1].csv", "run:3"], "run:3 cannot be one of several"),
    ):
        with pytest.raises(UsageError, match=words):
            patterns.several(names)


@pytest.mark.parametrize(
    ("name", "number"), [("run:12", 12), ("run:007", 7), ("./run:12", None), ("a.csv", None), ("run12", None)]
)
def test_a_run_by_its_name(name: str, number: int | None) -> None:
    assert patterns.run_named(name) == (None if number is None else Path(f"run:{number}"))


@pytest.mark.parametrize(
    "name", ["run:", "run:-1", "run:1.5", "run: 1", "run:\N{ARABIC-INDIC DIGIT ONE}", "run:a,b", "run:" + "9" * 5000]
)
def test_a_run_without_a_number_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="names no run"):
        patterns.run_named(name)


def test_a_file_with_the_name_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run:12").touch()
    Path("run:x").touch()
    assert patterns.run_named("run:12") == Path("run:12")
    assert patterns.run_named(Path("run:12")) is None
    assert patterns.run_named("run:x") is None
