"""docs/man/runner.1 is made of the commands, and readers of manual pages have nothing to say about it."""

import shutil
import subprocess

import man_page
import pytest

from runner.cli.commands import cli
from runner.config.settings import SETTINGS


def test_the_page_is_that_of_the_commands() -> None:
    written = man_page.PAGE.read_text(encoding="utf-8")
    assert written == man_page.text(), "`make pages` writes it"


def test_it_names_every_command_and_every_option() -> None:
    page = man_page.PAGE.read_text(encoding="utf-8").replace("\\-", "-")
    for name, command in cli.commands.items():
        assert f"\n.SS runner {name} " in page
        assert [one for parameter in command.params for one in parameter.opts if one.startswith("-") and one not in page] == []
    # each setting once, and not with each command
    assert [page.count(f"fB{setting.option} ") for setting in SETTINGS if setting.name == "flex_patience"] == [1]


@pytest.mark.parametrize(
    "command",
    [("mandoc", "-T", "lint", "-W", "warning"), ("man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z")],
    ids=["mandoc", "man"],
)
def test_a_reader_has_nothing_to_say_about_it(command: tuple[str, ...]) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"not run: there is no {command[0]} here")
    read = subprocess.run([*command, str(man_page.PAGE)], capture_output=True, text=True, check=False)
    said = read.stdout if command[0] == "mandoc" else ""
    assert (read.returncode, said, read.stderr) == (0, "", "")
