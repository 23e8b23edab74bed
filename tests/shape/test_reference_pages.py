"""What is generated in the reference is what the code says: made anew, each page is the same."""

import pytest
from options_page import PAGE
from reference_pages import PARTS
from schema_page import comments

from runner.cli.commands import cli


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.page.name)
def test_the_page_is_what_the_code_says(part) -> None:
    page = part.page.read_text(encoding="utf-8")
    assert (page.count(part.begin), page.count(part.end)) == (1, 1)
    assert page == part.written(page), "`make pages` writes it"


def test_every_option_of_every_command_is_there() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name, command in cli.commands.items():
        section = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        missing = [
            word for option in command.params for word in option.opts if word.startswith("-") and f"`{word}`" not in section
        ]
        assert not missing, name


def test_every_column_has_its_own_comment() -> None:
    said = comments()
    assert len(said) > 40
    # the last comment of one table is not the first of the next
    assert said["items", "position"].startswith("line in the input")
    assert ("items", "id") not in said
