"""``docs/architecture.md`` lists exactly the files that exist, and the folders of the package keep their few rules."""

import ast
import re
from pathlib import Path

import pytest

import runner

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "runner"
FOLDERS = sorted(path.parent for path in PACKAGE.rglob("__init__.py"))
PLUGINS = sorted(
    path for folder in ("providers/dialects", "inputs/formats", "exports/formats") for path in (PACKAGE / folder).glob("*.py")
)


def listed() -> list[tuple[str, str]]:
    """Return what the tree shows, in its order: (path below ``runner/``, what is said about it); a folder ends in a slash."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    found: list[tuple[str, str]] = []
    folder = ""
    for line in text.partition("\n## The tree\n")[2].partition("\n## ")[0].splitlines():
        if not line.startswith("    "):
            continue
        cells = re.split(r" {2,}", line.strip())
        if cells[0].endswith("/"):
            folder = "" if cells[0] == "runner/" else cells[0]
            found += [(folder, " ".join(cells[1:]))] if folder else []
        else:
            assert len(cells) % 2 == 0, f"a name without words, or words without a name: {line}"
            found += [(f"{folder}{name}.py", words) for name, words in zip(cells[::2], cells[1::2], strict=True)]
    return found


def test_the_tree_lists_exactly_the_files_that_exist() -> None:
    files = [path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts]
    # the docstring of a folder's __init__ is the folder's line
    exist = {path.as_posix() for path in files if path.name != "__init__.py" or len(path.parts) == 1}
    shown = {path for path, _ in listed() if not path.endswith("/")}
    assert sorted(exist - shown) == [], "files that the tree leaves out"
    assert sorted(shown - exist) == [], "files of the tree that do not exist"


def test_the_tree_lists_exactly_the_folders_that_exist() -> None:
    exist = {f"{folder.relative_to(PACKAGE).as_posix()}/" for folder in FOLDERS if folder != PACKAGE}
    assert {path for path, _ in listed() if path.endswith("/")} == exist


def test_the_tree_lists_nothing_twice_and_says_something_about_everything() -> None:
    paths = [path for path, _ in listed()]
    assert len(paths) > 100
    assert [path for path in paths if paths.count(path) > 1] == []
    assert [path for path, words in listed() if not words] == []


def defined() -> set[str]:
    """Return what the package defines: ``module.name`` of every module, and ``Class.name`` of every class."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        module = ast.parse(path.read_text(encoding="utf-8"))
        for owner, body in [
            (path.stem, module.body),
            *((node.name, node.body) for node in module.body if isinstance(node, ast.ClassDef)),
        ]:
            found |= {
                f"{owner}.{node.name}" for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            }
    return found


def test_the_functions_and_methods_that_the_page_names_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = {name for name in re.findall(r"`(\w+\.\w+)`", text) if not name.endswith((".md", ".py", ".toml"))}
    assert {"scan.scan", "Attempts.handle", "Saving.save"} <= named
    assert sorted(named - defined()) == []


def one_line(path: Path) -> bool:
    """Tell whether the docstring of a module has a first line that is a sentence, with nothing or a blank line after it."""
    lines = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").splitlines()
    return bool(lines) and lines[0].rstrip().endswith((".", ":", ";")) and lines[1:2] in ([], [""])


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_every_folder_says_in_one_line_what_it_is(folder: Path) -> None:
    assert one_line(folder / "__init__.py")


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_plug_in_says_in_one_line_what_it_is(path: Path) -> None:
    assert one_line(path)


def test_there_are_plug_ins() -> None:
    assert {"openai.py", "anthropic.py", "jsonl.py", "csv.py"} <= {path.name for path in PLUGINS}


def test_every_folder_with_a_module_is_a_package() -> None:
    assert {path.parent for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts} == set(FOLDERS)


def test_no_module_of_the_root_has_the_name_of_a_public_function() -> None:
    """Importing ``runner.export``, the module, would hide ``runner.export``, the function."""
    public = {name: getattr(runner, name) for name in runner.__all__}
    functions = {name for name, value in public.items() if callable(value) and not isinstance(value, type)}
    assert {"run", "runs", "resume", "retry", "check", "status", "results", "export"} <= functions
    modules = {path.stem if path.suffix == ".py" else path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert functions & modules == set()
