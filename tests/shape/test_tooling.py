"""What several files of the workshop say about the same thing is the same: versions of Python, recipes, line length."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
WORKFLOW = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
RECIPES = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))


def pythons() -> list[str]:
    """Return the versions of the classifiers, as "3.11"."""
    found = (re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", one) for one in PYPROJECT["project"]["classifiers"])
    return [one[1] for one in found if one]


def test_the_workflow_tests_every_version_that_a_classifier_names() -> None:
    (matrix,) = re.findall(r"python-version: \[(.*)\]", WORKFLOW)
    tested = re.findall(r'"([\d.]+)"', matrix)
    assert len(tested) > 1
    assert pythons()
    assert set(pythons()) <= set(tested)


def test_the_lowest_version_is_the_same_everywhere() -> None:
    lowest = pythons()[0]
    assert PYPROJECT["project"]["requires-python"] == f">={lowest}"
    assert PYPROJECT["tool"]["mypy"]["python_version"] == lowest
    assert PYPROJECT["tool"]["ruff"]["target-version"] == f"py{lowest.replace('.', '')}"
    assert re.findall(r'python-version: "(.*)"', WORKFLOW) == [lowest]
    assert f"Python {lowest} or newer" in CONTRIBUTING


@pytest.mark.parametrize("file", ["CONTRIBUTING.md", ".github/workflows/ci.yml", ".pre-commit-config.yaml"])
def test_every_recipe_that_is_named_exists(file: str) -> None:
    named = set(re.findall(r"(?:`|run: )make ([a-z]+)", (ROOT / file).read_text(encoding="utf-8")))
    assert named
    assert named - RECIPES == set()


def test_every_recipe_is_one_line_has_a_word_of_help_and_is_no_file() -> None:
    assert set(re.findall(r"^([a-z]+): +## \S.*\n\t.+\n(?!\t)", MAKEFILE, re.MULTILINE)) == RECIPES
    assert {"setup", "quick", "test", "lint", "types", "layers", "check", "bench"} <= RECIPES
    (phony,) = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert set(phony.split()) == RECIPES


def test_editors_and_ruff_have_one_line_length() -> None:
    lengths = re.findall(r"^max_line_length = (\d+)$", (ROOT / ".editorconfig").read_text(encoding="utf-8"), re.MULTILINE)
    assert lengths == [str(PYPROJECT["tool"]["ruff"]["line-length"])]


def test_the_tools_of_the_hooks_are_in_the_extra_dev() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    entries = re.findall(r"entry: (\S+)", hooks)
    assert len(entries) > 5
    assert all(entry.startswith(".venv/bin/") for entry in entries)
    assert hooks.count("language: system") == len(entries)
    names = {re.split(r"[<>=\[]", one)[0] for one in PYPROJECT["project"]["optional-dependencies"]["dev"]}
    assert {"ruff", "pre-commit", "pre-commit-hooks"} <= names
