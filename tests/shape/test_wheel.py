"""The wheel holds what a run needs, migrations included, and nothing else; it is run elsewhere."""

import email
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import runner
from runner.store.schema import VERSION

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--quiet", "--disable-pip-version-check", "-w", folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    assert path.name.endswith("-py3-none-any.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def names(wheel: zipfile.ZipFile) -> set[str]:
    return set(wheel.namelist())


def test_the_migrations_are_in_it(names: set[str]) -> None:
    assert "runner/store/_migrations/env.py" in names
    assert (
        len([name for name in names if name.startswith("runner/store/_migrations/versions/") and name.endswith(".py")]) == VERSION
    )


def test_every_module_is_in_it_and_the_mark_of_types(names: set[str]) -> None:
    package = Path(runner.__file__).parent
    modules = {f"runner/{path.relative_to(package).as_posix()}" for path in package.rglob("*.py")}
    assert modules <= names
    assert "runner/py.typed" in names


def test_what_a_report_is_made_of_is_in_it(names: set[str]) -> None:
    folder = Path(runner.__file__).parent / "exports" / "report"
    files = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.*")
        if path.suffix in (".html", ".css", ".js", ".txt", ".md")
    }
    assert len(files) == 7
    assert {f"runner/exports/report/{file}" for file in files} <= names


def test_nothing_else_is_in_it(names: set[str]) -> None:
    for name in names:
        top, *rest = name.split("/")
        assert top == "runner" or top.endswith(".dist-info") or name == manual(names), name
        assert "tests" not in rest
        assert "__pycache__" not in rest
        assert not name.endswith((".db", ".pyc", ".toml", ".jsonl", ".csv"))


def manual(names: set[str]) -> str:
    """The manual page, in the folder of what goes beside the command."""
    (page,) = [name for name in names if name.partition(".data/")[2] == "data/share/man/man1/runner.1"]
    return page


def test_the_manual_is_where_man_finds_it_beside_the_command(wheel: zipfile.ZipFile, names: set[str], tmp_path: Path) -> None:
    page = wheel.read(manual(names))
    assert page == (ROOT / "docs" / "man" / "runner.1").read_bytes()
    if shutil.which("man") is None:
        pytest.skip("not run: there is no man here")
    for folder in ("bin", "share/man/man1"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "share/man/man1/runner.1").write_bytes(page)
    path = os.pathsep.join([str(tmp_path / "bin"), os.environ["PATH"]])
    environment = {name: value for name, value in os.environ.items() if name != "MANPATH"} | {"PATH": path}
    found = subprocess.run(["man", "-w", "runner"], env=environment, capture_output=True, text=True, check=False)
    assert found.stdout.strip() == str(tmp_path / "share/man/man1/runner.1"), found.stderr


def test_the_command_and_the_licence_are_in_it(wheel: zipfile.ZipFile, names: set[str]) -> None:
    (entry,) = [name for name in names if name.endswith("entry_points.txt")]
    assert "runner = runner.__main__:main" in wheel.read(entry).decode()
    assert any(name.endswith("LICENSE") for name in names)


def test_the_metadata_tells_version_readme_and_python(wheel: zipfile.ZipFile, names: set[str]) -> None:
    (entry,) = [name for name in names if name.endswith(".dist-info/METADATA")]
    found = email.message_from_string(wheel.read(entry).decode())
    assert (found["Name"], found["Version"], found["Requires-Python"]) == ("prompt-runner", runner.__version__, ">=3.11")
    assert "# runner" in str(found.get_payload())
