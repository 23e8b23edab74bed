"""The README names every command and every exit code, and its marked Python examples run as they stand."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runner import errors
from runner.cli.commands import cli
from runner.errors import RunnerError

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
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
    main = ast.parse((ROOT / "runner" / "cli" / "main.py").read_text(encoding="utf-8"))
    returned = [node.value for node in ast.walk(main) if isinstance(node, ast.Return)]
    return found | {value.value for value in returned if isinstance(value, ast.Constant) and isinstance(value.value, int)}


def about_exit_codes() -> str:
    """Every passage that speaks of exit codes: from the first mention in a section to its end."""
    sections = re.split(r"^#+ ", README, flags=re.MULTILINE)
    found = [re.search(r"exit(?:s| code| status).*", section, re.IGNORECASE | re.DOTALL) for section in sections]
    return "\n".join(match[0] for match in found if match)


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_command_is_documented(name: str) -> None:
    assert re.search(rf"\brunner {name}\b", README), f"README.md does not show `runner {name}`"


@pytest.mark.parametrize("code", sorted(exit_codes()))
def test_every_exit_code_is_documented(code: int) -> None:
    assert re.search(rf"(?<![\w.,-]){code}(?![\w.]\d|\d)", about_exit_codes()), f"README.md does not explain exit code {code}"


def test_every_command_that_the_readme_shows_exists() -> None:
    shown = set(re.findall(r"^\s*(?:\$ )?runner ([a-z]+)", README, re.MULTILINE))
    assert shown <= set(cli.commands)


def test_every_option_that_the_readme_shows_exists() -> None:
    options = {option for command in cli.commands.values() for parameter in command.params for option in parameter.opts}
    shown = set(re.findall(r"\brunner [^`\n#]*", README))
    used = {option for line in shown for option in re.findall(r"(?<!\S)--[a-z][a-z-]*", line)}
    assert used - options - {"--help", "--version"} == set()


def test_every_file_that_the_readme_links_to_exists() -> None:
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", README)
    assert [link for link in links if not (ROOT / link).exists()] == []


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
