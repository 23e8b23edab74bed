"""The rules of names and tags."""

import pytest

from runner.errors import UsageError
from runner.labels import checked_name, checked_tags, matches, merged

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("name", ["pilot", "a", "gpt-4.1_mini", "2026-pilot", "v1.2", "Ü", "x" * 60])
def test_names(name: str) -> None:
    assert checked_name(name) == name


@pytest.mark.parametrize(
    "name", ["12", "1_000", "1.5", "1e5", "0x1f", "\N{ARABIC-INDIC DIGIT ONE}\N{ARABIC-INDIC DIGIT TWO}", "_"]
)
def test_a_name_is_no_number(name: str) -> None:
    with pytest.raises(UsageError, match="looks like a number"):
        checked_name(name)


@pytest.mark.parametrize(
    "name", ["", "-x", ".x", "run:1", "a/b", "a\\b", "a b", "a\n", "a=b", "x" * 61, "a,b", "\x1b[31m", "\udce4", "~", "*"]
)
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(UsageError, match="a run cannot be called '") as refused:
        checked_name(name)
    assert str(refused.value).isprintable()


def test_an_accent_of_its_own_is_the_same_name() -> None:
    assert checked_name("cafe\N{COMBINING ACUTE ACCENT}") == "caf\N{LATIN SMALL LETTER E WITH ACUTE}"


@pytest.mark.parametrize("tag", ["", "=a", "a b", "a=", "a= b", "a=\n", "-a", "x" * 61, "a=" + "x" * 61, "a,b", "\udce4=1"])
def test_what_is_no_tag(tag: str) -> None:
    with pytest.raises(UsageError, match="is no tag") as refused:
        checked_tags([tag])
    assert str(refused.value).isprintable()


def test_a_word_has_one_value() -> None:
    assert checked_tags(["a=1", "b", "a=2 and 3"]) == ("a=2 and 3", "b")
    assert merged(["a=1", "b"], ["a", "c=x=y"]) == ("a", "b", "c=x=y")


def test_tags_are_removed_by_word_or_whole() -> None:
    assert merged(["a=1", "b"], [], ["a"]) == ("b",)
    assert merged(["a=1", "b"], ["d"], ["a=1", "b"]) == ("d",)
    for gone, have in ((["a=2"], "its tags: a=1"), (["b"], "its tags: a=1")):
        with pytest.raises(UsageError, match=f"no tag '{gone[0]}' that could be removed; {have}"):
            merged(["a=1"], [], gone)
    with pytest.raises(UsageError, match="it has none"):
        merged([], [], ["a"])


def test_there_is_an_end_of_tags() -> None:
    with pytest.raises(UsageError, match="at most 50 tags, not 51"):
        merged([f"t{number}" for number in range(50)], ["one-more"])


def test_a_word_alone_stands_for_any_value() -> None:
    tags = ("team=a", "draft")
    assert matches(tags, ["team", "draft"])
    assert matches(tags, ["team=a"])
    assert matches(tags, [])
    assert not matches(tags, ["team=b"])
    assert not matches(tags, ["tea"])
    assert not matches((), ["team"])
