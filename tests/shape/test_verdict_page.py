"""``docs/reference/errors.md`` shows the table of refusals as the code has it: made anew, it is the same."""

import re

from verdict_page import BEGIN, END, PAGE, PART, table

from runner.providers.rules import RULES


def test_the_table_is_what_the_code_says() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert (page.count(BEGIN), page.count(END)) == (1, 1)
    assert page == PART.written(page), "`make pages` writes the table"


def test_every_rule_has_a_row_with_all_cells() -> None:
    rows = [line for line in table().splitlines()[2:] if line.startswith("|")]
    assert len(rows) == len(RULES) > 20
    for row in rows:
        assert row.count("|") == 8, row


def test_each_example_is_one_of_its_words_and_each_rule_with_words_has_examples() -> None:
    for rule in RULES:
        assert bool(rule.words) == bool(rule.says), rule
        for example in rule.says:
            assert re.search(rule.words, example, re.IGNORECASE), example
