"""Which rows of an input are used: a condition, a sample."""

from pathlib import Path
from typing import Any

import pytest

from runner.errors import UsageError
from runner.inputs.options import ReadOptions
from runner.inputs.template import Condition
from runner.session.opening import open_input

CSV = "id,lang,score,text\n" + "".join(f"r{n},{'de' if n % 3 else 'en'},{n},text {n}\n" for n in range(60))


def ids(folder: Path, content: str = CSV, **options: Any) -> list[str]:
    path = folder / "a.csv"
    path.write_text(content)
    asked = frozenset({"text"})
    return [(row.fields or {})["id"] for row in open_input(path, ReadOptions(asked=asked, **options)).read()]


@pytest.mark.parametrize(
    ("where", "fields", "holds"),
    [
        ("lang == 'de'", {"lang": "de"}, True),
        ("lang == 'de'", {"lang": "en"}, False),
        ("lang == 'de'", {}, False),
        ("lang == 'de'", {"lang": None}, False),
        ("score > 3", {"score": 4}, True),
        ("score > 3", {"score": None}, False),
        ("score | float > 3", {"score": "3.5"}, True),
        ("lang in ['de', 'fr'] and not done", {"lang": "fr"}, True),
        ("'refund' in text", {"text": "a refund, please"}, True),
        ("row['a name'] == 1", {"a name": 1}, True),
        ("a.b == 1", {"a": {"b": 1}}, True),
        ("a.b == 1", {"a": {}}, False),
        ("text is defined", {}, False),
        ("lang != 'de'", {"lang": None}, True),
        ("lang is none", {"lang": None}, True),
        ("lang == none", {"lang": None}, True),
        ("lang != none", {"lang": None}, False),
        ("lang == other", {"lang": None}, True),
        ("lang is none", {"lang": "de"}, False),
    ],
)
def test_a_condition(where: str, fields: dict[str, Any], holds: bool) -> None:
    assert Condition(where).holds(fields, "line 1") is holds


@pytest.mark.parametrize("where", ["lang ==", "lang = 'de'", "{{ lang }}", "lang == 'de", "", "(" * 500])
def test_what_is_no_condition_is_refused(where: str) -> None:
    with pytest.raises(UsageError, match=r"where is no expression: .*such as --where \"lang == 'de'\""):
        Condition(where)


def test_a_condition_that_cannot_be_told_is_refused_and_not_false(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"where \(score > 3\) cannot be computed at line 2: .*score \| float makes a number of one"
    ):
        ids(tmp_path, where="score > 3")
    with pytest.raises(UsageError, match="where cannot be computed at line 2: the rendered text is longer than 8 MiB"):
        ids(tmp_path, where="'x' * 10**9 == text")


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("lang = 'de'", "something follows its end (== compares, `and` joins two conditions)"),
        ("lang ==", "it ends too early"),
        ("lang | nothing", "No filter named 'nothing'"),
    ],
)
def test_what_is_wrong_with_a_condition_is_said(where: str, words: str) -> None:
    with pytest.raises(UsageError) as refused:
        Condition(where)
    assert str(refused.value) == f"where is no expression: {words}; such as --where \"lang == 'de'\""


def test_a_hint_about_texts_is_for_texts(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        Condition("1 // n == 1").holds({"n": 0}, "line 1")
    assert str(refused.value) == "where (1 // n == 1) cannot be computed at line 1: integer division or modulo by zero"


@pytest.mark.parametrize("where", ["lang != 'de' and lnag != 'en'", "not lnag", "lnag == 'de'"])
def test_a_name_that_no_row_has_is_refused_and_chooses_neither_all_rows_nor_none(tmp_path: Path, where: str) -> None:
    with pytest.raises(
        UsageError, match="where names the field 'lnag', which no row has; the fields of the first row: id, lang, "
    ):
        ids(tmp_path, where=where)


def test_a_field_that_a_condition_allows_to_be_absent_may_be_absent_everywhere(tmp_path: Path) -> None:
    assert len(ids(tmp_path, where="flag is not defined")) == 60
    assert len(ids(tmp_path, where="flag | default('no') == 'no'")) == 60


def test_rows_behind_a_line_may_lack_what_rows_before_it_have(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "a", "flag": 1}\n{"id": "b"}\n')
    prompts = open_input(path, ReadOptions(where="not flag"))
    assert prompts.read_behind is not None
    behind = prompts.read_behind(len('{"id": "a", "flag": 1}\n'), 1)
    assert behind is not None
    assert [row.line for row in behind] == [2]


def test_rows_are_chosen_by_a_condition_and_keep_their_lines(tmp_path: Path) -> None:
    assert ids(tmp_path, where="lang == 'en' and score | int < 10") == ["r0", "r3", "r6", "r9"]
    path = tmp_path / "a.csv"
    rows = open_input(path, ReadOptions(asked=frozenset({"text"}), where="id == 'r6'")).read()
    assert [row.line for row in rows] == [8]


def test_broken_rows_stay(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "a", "n": 1}\n{oops\n{"id": "b", "n": 2}\n')
    assert [row.line for row in open_input(path, ReadOptions(where="n == 2")).read()] == [2, 3]


def test_a_broken_row_of_which_the_id_is_known_stays(tmp_path: Path) -> None:
    assert ids(tmp_path, "id,text\na,x\nb,y,too many\nc,z\n", where="text == 'z'") == ["b", "c"]


def test_a_sample_is_the_same_for_the_same_rows(tmp_path: Path) -> None:
    chosen = ids(tmp_path, sample=10)
    assert len(set(chosen)) == 10
    assert chosen == sorted(chosen, key=lambda one: int(one[1:]))
    assert ids(tmp_path, sample=10) == chosen
    head, *lines = CSV.splitlines(keepends=True)
    assert set(ids(tmp_path, head + "".join(lines[::-1]), sample=10)) == set(chosen)
    assert set(ids(tmp_path, sample=10, sample_seed=1)) != set(chosen)
    # a smaller one is a part of it, and a condition comes first
    assert set(ids(tmp_path, sample=4)) < set(chosen)
    assert len(ids(tmp_path, sample=100)) == 60
    assert len(ids(tmp_path, sample=5, where="lang == 'en'")) == 5
    assert all(int(one[1:]) % 3 == 0 for one in ids(tmp_path, sample=5, where="lang == 'en'"))


def test_rows_that_are_alike_are_sampled_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "x"}\n' * 50)
    assert len(list(open_input(path, ReadOptions(sample=7)).read())) == 7
