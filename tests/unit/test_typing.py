"""The types of the Python API: a misspelt name and a wrong type are errors for mypy and pyright, and each at its line."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

import runner
from runner.config.keywords import AllSettings, JobSettings
from runner.config.settings import BY_NAME, SETTINGS

ROOT = Path(__file__).parents[2]
WRONG = """
import runner

runner.run("rows.csv", modle="m")
runner.run("rows.csv", model=5)
runner.run("rows.csv", temperature="hot")
runner.run("rows.csv", concurrency="many")
runner.run("rows.csv", durability="best")
runner.run("rows.csv", progress="yes")
runner.run("rows.csv", headers=["a", 1])
runner.run(5)
runner.resume(1, max_tokens="10")
runner.retry(1.5)
runner.check("rows.csv", wher="x")
runner.results(1).to_panda()
runner.stream(["a"], modle="m")
runner.events(["a"], rpm="many")
runner.Session(modle="m")
runner.arun(["a"], modle="m")
runner.aresume(1, modle="m")
runner.stream(["a"], progress=True)
runner.events(["a"], on_slow="never")
runner.export("x.csv", promt=True)
runner.delete(1)
settings: runner.JobSettings = {"modle": "m"}
for result in runner.results(1):
    result.answer
"""
# what each kind of setting takes at run time, and what type checkers let through
TAKEN: dict[str, list[Any]] = {
    "text": ["a"], "int": [3], "float": [2.5, 2], "texts": ["a", ["a", "b"]], "json": [{"a": 1}], "slots": [3, "auto"],
    "span": [2.5, "30m"], "bool": [True], "share": [3, "2%"], "headers": [{"X-A": "a"}, ["X-A: a"]],
    "query": [{"a": "b"}, ["a=b"]], "messages": [[{"role": "user", "content": "a"}]],
}  # fmt: skip


def by_mypy(wrong: Path) -> dict[str, set[int]]:
    """Return the lines with an error, by the name of the file."""
    command = [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", str(wrong), "tests/typing/api.py"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    found: dict[str, set[int]] = {}
    for name, line in re.findall(r"([\w.]+):(\d+): error", ended.stdout):
        found.setdefault(name, set()).add(int(line))
    return found


def by_pyright(wrong: Path) -> dict[str, set[int]]:
    """Return the lines with an error, by the name of the file."""
    (wrong.parent / "pyrightconfig.json").write_text(json.dumps({"extraPaths": [str(ROOT)], "typeCheckingMode": "strict"}))
    where = ["--project", str(wrong.parent), "--pythonpath", sys.executable]
    copy = wrong.with_name("api.py")
    copy.write_text((ROOT / "tests" / "typing" / "api.py").read_text())
    command = [sys.executable, "-m", "pyright", "--outputjson", *where]
    ended = subprocess.run(command, cwd=wrong.parent, capture_output=True, text=True, timeout=300, check=False)
    told = json.loads(ended.stdout)
    assert told["summary"]["filesAnalyzed"] == 2, told
    found: dict[str, set[int]] = {}
    for one in told["generalDiagnostics"]:
        found.setdefault(Path(one["file"]).name, set()).add(one["range"]["start"]["line"] + 1)
    return found


@pytest.mark.parametrize("checked", [by_mypy, by_pyright])
def test_what_is_wrong_is_an_error_at_its_line(tmp_path: Path, checked: Callable[[Path], dict[str, set[int]]]) -> None:
    (tmp_path / "wrong.py").write_text(WRONG)
    wrong = {number for number, line in enumerate(WRONG.splitlines(), 1) if line.startswith(("runner.", "settings:", "    "))}
    # and what is right, in api.py, is none
    assert checked(tmp_path / "wrong.py") == {"wrong.py": wrong}


def test_the_types_are_those_of_all_settings() -> None:
    assert set(AllSettings.__annotations__) == set(BY_NAME)
    assert set(get_type_hints(AllSettings)) - set(get_type_hints(JobSettings)) == {"stop"}
    assert not AllSettings.__required_keys__


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_the_type_of_a_setting_lets_through_what_it_takes(setting: Any) -> None:
    hint = get_type_hints(AllSettings)[setting.name]
    for value in TAKEN.get(setting.kind, [*setting.choices]):
        assert any(_fits(value, part) for part in get_args(hint)), (value, hint)
    assert type(None) in get_args(hint)
    if setting.kind == "choice":
        assert {choice for part in get_args(hint) if get_origin(part) is Literal for choice in get_args(part)} == {
            *setting.choices
        }


def _fits(value: Any, hint: Any) -> bool:
    assert not isinstance(hint, UnionType)
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    kind = get_origin(hint) or hint
    return (isinstance(value, kind) and isinstance(value, bool) == (kind is bool)) or (kind is float and type(value) is int)


@pytest.mark.parametrize(("given", "words"), [({"modle": "m"}, "did you mean 'model'"), ({"model": 5}, "model must be")])
def test_at_run_time_too(tmp_path: Path, given: dict[str, Any], words: str) -> None:
    with pytest.raises(runner.UsageError, match=words):
        runner.run(["a"], db=tmp_path / "runner.db", **given)
    assert list(tmp_path.iterdir()) == []
