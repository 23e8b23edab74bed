"""The README's marked examples run as they stand; the documents name every command, option and exit code, and no other."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runner import errors
from runner.cli.commands import cli
from runner.config.settings import SETTINGS
from runner.errors import RunnerError

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [path.relative_to(ROOT).as_posix() for path in PAGES]
MARK = "<!-- runs as a test -->"
# the mark, perhaps blank lines, then a fenced Python block
BLOCK = re.compile(re.escape(MARK) + r"[ \t]*\n\s*^```(?:python|py)[ \t]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
EXAMPLES = BLOCK.findall(README)


def exit_codes() -> set[int]:
    """The codes of the errors, and those that the command line sets itself."""
    found = {0, 1, 130, 143}
    for value in vars(errors).values():
        if isinstance(value, type) and issubclass(value, RunnerError):
            found.add(value.exit_code)
    for path in (ROOT / "runner" / "cli").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = node.targets if isinstance(node, ast.Assign) else []
            if isinstance(node, ast.Return) or any(isinstance(name, ast.Name) and name.id == "code" for name in names):
                # a code alone, or one of two
                value = node.value
                codes = [value.body, value.orelse] if isinstance(value, ast.IfExp) else [value]
                found |= {code.value for code in codes if isinstance(code, ast.Constant) and type(code.value) is int}
    return found


def test_the_exit_codes_are_found() -> None:
    assert exit_codes() == {0, 1, 2, 3, 4, 6, 70, 130, 141, 143}


def options_of(name: str) -> set[str]:
    return {option for parameter in cli.commands[name].params for option in parameter.opts if option.startswith("-")}


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_command_is_documented(name: str) -> None:
    assert re.search(rf"^\| `runner {name}\b", COMMANDS, re.MULTILINE), (
        f"docs/reference/commands.md has no row for `runner {name}`"
    )


def test_the_first_screen_of_the_readme_shows_what_it_is() -> None:
    """A sentence or two, the picture, and the two commands; the details are on pages of their own."""
    lines = README.splitlines()
    assert len(lines) <= 100
    marks = ("](docs/pictures/terminal.svg)", "## Two commands", "<!-- the first command -->", "](docs/tour.md)")
    places = [next(number for number, line in enumerate(lines) if mark in line) for mark in marks]
    assert places == sorted(places)
    assert places[0] <= 10


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_option_is_documented(name: str) -> None:
    """Those of a setting in settings.md, which a test of its own holds to the code; the others here."""
    others = options_of(name) - ({setting.option for setting in SETTINGS} if name != "simulate" else set())
    documented = set(re.findall(r"`(--?[a-z][a-z-]*)", COMMANDS.partition("\n## Options\n")[2].partition("\n## ")[0]))
    assert sorted(others - documented) == []


@pytest.mark.parametrize("code", sorted(exit_codes()))
def test_every_exit_code_is_documented(code: int) -> None:
    rows = re.findall(r"^\| ([\d, ]+) \| .+ \|$", COMMANDS.partition("\n## Exit codes\n")[2], re.MULTILINE)
    assert str(code) in ", ".join(rows).split(", "), f"docs/reference/commands.md does not explain exit code {code}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_command_that_is_shown_exists(page: Path) -> None:
    shown = set(re.findall(r"(?:^ {4,}(?:\$ )?|`)runner ([a-z]+)", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert shown - set(cli.commands) == set()


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_option_that_is_shown_exists(page: Path) -> None:
    options = {option for name in cli.commands for option in options_of(name)}
    shown = set(re.findall(r"\brunner [^`\n#]*", page.read_text(encoding="utf-8")))
    used = {option for line in shown for option in re.findall(r"(?<!\S)--[a-z][a-z-]*", line)}
    assert used - options - {"--help", "--version"} == set()


def test_there_are_examples_that_run() -> None:
    assert EXAMPLES, f"README.md marks no Python block with {MARK}"
    assert README.count(MARK) == len(EXAMPLES), "a mark is followed by something else than a Python block"


@pytest.mark.parametrize("example", EXAMPLES, ids=range(1, len(EXAMPLES) + 1))
def test_the_example_runs(example: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "jobs", tmp_path / "jobs")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", example], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
