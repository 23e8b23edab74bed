"""A wrong argument of the Python API is one sentence at the call: nothing is sent, deleted or written."""

import shutil
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

import runner
from runner.event_types import Event


class Unreadable:
    def __repr__(self) -> str:
        raise RuntimeError("no name")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose store holds two finished runs."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "p.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    for _ in range(2):
        runner.run(folder / "p.jsonl", db=folder / "runner.db", provider="simulator", new=True)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy that folder, and go there."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(**given: Any) -> object:
    return runner.run(given.pop("file", "p.jsonl"), provider="simulator", **given)


PATHS = [None, 5, True, b"p.jsonl", ["p.jsonl"], {}, object(), Unreadable(), "", "a\0b", "x" * 300, "x" * 5_000, "\ud800"]
READING: dict[str, Callable[..., object]] = {
    "resume": runner.resume,
    "retry": runner.retry,
    "status": runner.status,
    "results": runner.results,
    "export": lambda run_id=None, **given: runner.export("o.csv", run_id=run_id, **given),
}


def refused(name: str, call: Callable[..., object], *values: Any, **given: Any) -> None:
    with pytest.raises(runner.UsageError, match=rf"^{name} must be (?s:.){{1,200}}\Z"):
        call(*values, **given)
    assert [(one.id, one.done) for one in runner.runs()] == [(1, 2), (2, 2)]
    assert not Path("o.csv").exists()


def test_paths(folder: Path) -> None:
    # whoever opens a prompt file has words of its own for these
    for name, words in (("", "is empty"), ("x" * 300, "too long"), ("x" * 5_000, "too long")):
        for call in (lambda file: run(file=file), runner.check):
            with pytest.raises(runner.UsageError, match=words):
                call(name)
    for value in PATHS:
        # bytes, lists and dicts have sentences of their own (test_sources.py)
        if not (isinstance(value, bytes | list | dict) or value == "" or (isinstance(value, str) and set(value) == {"x"})):
            refused("source", run, file=value)
            refused("source", runner.check, value)
        refused("db", run, db=value)
        refused("db", runner.runs, db=value)
        refused("db", runner.delete, [1], db=value)
        # a list names several outputs
        refused("output", runner.export, [value] if isinstance(value, list) else value)
        for call in READING.values():
            refused("db", call, db=value)


@pytest.mark.parametrize("value", ["false", "no", "", 0, 1, []])
def test_a_flag_is_true_or_false_and_no_text(folder: Path, value: Any) -> None:
    for name in ("new", "accept_changes", "strict", "trust"):
        refused(name, run, **{name: value})
    for name in ("raw", "csv_escape", "csv_excel"):
        refused(name, runner.export, "o.csv", **{name: value})
    refused("accept_changes", runner.resume, 1, accept_changes=value)
    refused("trust", runner.resume, 1, trust=value)
    refused("trust", runner.retry, 1, trust=value)
    refused("trust", runner.check, "p.jsonl", trust=value)
    refused("vacuum", runner.delete, [1], vacuum=value)


@pytest.mark.parametrize("value", ["1", b"1", 1.0, True, [1], "p/q.jsonl", "run:1"])
def test_the_number_of_a_run_is_a_whole_number(folder: Path, value: Any) -> None:
    for call in READING.values():
        refused("run_id", call, value)


@pytest.mark.parametrize("value", ["12", "1", b"1", bytearray(b"\1"), 1, None, True, {1: 2}, ["1"], [1.0], [True], [None], [[1]]])
def test_only_a_list_of_numbers_deletes_runs(folder: Path, value: Any) -> None:
    refused("run_ids", runner.delete, value)


class Number:
    """A whole number of another library."""

    def __init__(self, value: int) -> None:
        self._value = value

    def __index__(self) -> int:
        return self._value


def test_whole_numbers_of_other_libraries_are_taken(folder: Path) -> None:
    with pytest.raises(runner.UsageError, match="there is no run 1000000000000000000000 "):
        runner.delete([1, 10**21])
    runner.delete({Number(1)})
    assert [one.id for one in runner.runs()] == [2]


@pytest.mark.parametrize("value", ["3", [], 1.5, 2.0, float("nan"), True, 0, -1])
def test_limit_is_a_whole_number(folder: Path, value: Any) -> None:
    refused("limit", run, limit=value)


def test_a_limit_of_another_library(folder: Path) -> None:
    limit: Any = Number(1)
    assert runner.run("p.jsonl", provider="simulator", new=True, limit=limit).done == 1


def test_a_limit_beyond_any_file_is_none(folder: Path) -> None:
    assert runner.run("p.jsonl", provider="simulator", new=True, limit=10**30).finished


def test_the_other_arguments_of_an_export(folder: Path) -> None:
    for value in (5, True, b"csv", []):
        refused("format", runner.export, "o.csv", format=value)
    for value in (5, "x", (), {}):
        refused("notes", runner.export, "o.csv", notes=value)


class Asynchronous:
    async def __call__(self, event: Event) -> None:
        raise AssertionError


async def observe(event: Event) -> None:
    raise AssertionError


def collect(event: Event) -> Iterator[Event]:
    yield event


@pytest.mark.parametrize(
    "value", [5, "print", False, observe, partial(observe), Asynchronous(), Asynchronous().__call__, collect]
)
def test_an_observer_that_would_hear_nothing_is_refused(folder: Path, value: Any) -> None:
    refused("observe", run, new=True, observe=value)
    refused("observe", runner.resume, 1, observe=value)
    refused("observe", runner.retry, 1, observe=value)


class Empty(list[Event]):
    """An observer that is false as long as it is empty."""

    def __call__(self, event: Event) -> None:
        self.append(event)


def test_an_observer_that_is_false_is_told_all_the_same(folder: Path) -> None:
    told = Empty()
    runner.run("p.jsonl", provider="simulator", observe=told)
    assert len(told) == 2


def test_a_name_that_is_no_utf_8_can_be_read(folder: Path) -> None:
    store = "\udcff.db"
    runner.run("p.jsonl", provider="simulator", db=store)
    assert runner.status(db=store)[0].done == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, "\ud800") for name in ("model", "system", "base_url", "api_key_env", "provider")),
        ("stop", ["\ud800"]),
        *((name, 10**400) for name in ("max_tokens", "seed", "attempts", "patience_s", "ok_failed", "concurrency")),
        *(("extra_body", {"a": value}) for value in (object(), {1}, b"x", float("nan"), 10**5_000, "\ud800", {(1,): 2})),
    ],
)
def test_a_setting_that_cannot_be_stored_or_sent(folder: Path, name: str, value: Any) -> None:
    for call in (lambda: runner.run("p.jsonl", **{name: value}), lambda: runner.resume(1, **{name: value})):
        with pytest.raises(runner.UsageError, match=rf"^(\w+\.)?{name} "):
            call()
    assert [(one.id, one.done) for one in runner.runs()] == [(1, 2), (2, 2)]


class Real(float):
    """A number as numpy has it: a subclass of float that no encoder knows."""


class Words(str):
    """A text as numpy has it."""

    __slots__ = ()

    def __str__(self) -> str:
        return "other words"


def test_numbers_and_texts_of_other_libraries_are_settings(folder: Path) -> None:
    body = {"a": [Real(1.5), {Words("b"): Words("c")}], "n": 2**64, "m": Fraction(1, 2)}
    numbers = {"temperature": Real(0.5), "max_tokens": Real(7.0), "seed": -(2**63), "concurrency": True + 1}
    runner.run("p.jsonl", provider="simulator", new=True, system=Words("s"), stop={"x"}, extra_body=body, **numbers)
    stored = runner.runs()[-1].settings
    assert stored["extra_body"] == {"a": [1.5, {"b": "c"}], "n": 2**64, "m": 0.5}
    assert (stored["system"], stored["stop"], stored["temperature"], stored["seed"]) == ("s", "x", 0.5, -(2**63))
    # and so they come out of the store
    assert runner.resume(3).finished


def test_an_observer_that_is_a_mock_of_a_function(folder: Path) -> None:
    mock = MagicMock(spec=refused)
    runner.run("p.jsonl", provider="simulator", new=True, observe=mock)
    assert mock.called
