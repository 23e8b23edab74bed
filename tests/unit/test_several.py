"""The keys of several answers of one row."""

from runner.several import MARK, key_of, number_of, row_of, spoken


def test_a_key_of_an_older_store_that_holds_the_mark_is_the_key_of_a_row() -> None:
    key = f"a{MARK}b"
    assert (number_of(key), row_of(key), spoken(key)) == (1, key, key)
    assert (number_of(key_of("a", 2)), row_of(key_of("a", 2)), spoken(key_of("a", 2))) == (2, "a", "a (answer 2)")
