"""What every engine must do: place so many workers, tell of their deaths, end them all; and keep the token to itself."""

import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import clusters
import pytest
from clusters import Cluster, eventually

from runner.config import plugins
from runner.errors import UsageError
from runner.interfaces import Engine, Invitation

pytestmark = pytest.mark.anyio
TOKEN = "v1.9f86d081884c7d659a2feaa0c55ad015.a3bf4f1b2b0b822cd15d6c15b0f00a08"
ADDRESS = "10.0.0.5:7070"
END = "no more notices"
ENGINES = ("local", "slurm", "kubernetes")
"""The engine ray has a test of its own, with a real cluster: tests/flow/test_ray.py."""


class Placed:
    """An engine with the cluster in which it places workers."""

    def __init__(self, name: str, cluster: Cluster, folder: Path) -> None:
        self.name, self.cluster = name, cluster
        runner = clusters.stand_in(cluster, cluster.folder / "bin" / "runner")
        options = {
            "slurm": {"folder": str(folder), "runner": str(runner)},
            "kubernetes": {"image": "registry.example/runner:1"},
        }
        self.engine: Engine = plugins.load("engines", name).make(options.get(name, {}))
        self.invitation = Invitation(
            address=ADDRESS, token=TOKEN, variables=(), command=(str(runner), "worker", "--connect", ADDRESS)
        )

    async def start(self, count: int) -> None:
        await self.engine.start(count, self.invitation)


@pytest.fixture(params=ENGINES)
def placed(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Placed]:
    name: str = request.param
    with (clusters.kubernetes if name == "kubernetes" else clusters.slurm)(tmp_path / "cluster") as cluster:
        monkeypatch.setenv("PATH", cluster.path)
        monkeypatch.setattr(plugins.load("engines", name), "LOOK_S", 0.02)
        (tmp_path / "shared").mkdir()
        yield Placed(name, cluster, tmp_path / "shared")


@asynccontextmanager
async def watched(engine: Engine) -> AsyncIterator[list[str]]:
    """Collect the notices of an engine. In the end its workers end, and with them the notices."""
    notices: list[str] = []
    ended = anyio.Event()

    async def watch() -> None:
        async for notice in engine.watch():
            notices.append(notice)
        notices.append(END)
        ended.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        try:
            yield notices
        finally:
            await engine.end()
            with anyio.fail_after(60):
                await ended.wait()


def command_lines(processes: list[int]) -> list[str]:
    return [Path(f"/proc/{process}/cmdline").read_text() for process in processes]


def test_every_engine_of_ours_is_a_plug_in() -> None:
    assert plugins.names("engines") == ["kubernetes", "local", "ray", "slurm"]
    for name in plugins.names("engines"):
        module = plugins.load("engines", name)
        assert all(isinstance(option, str) for option in module.OPTIONS)


async def test_it_places_so_many_workers_which_know_where_to_go_and_ends_them_all(placed: Placed) -> None:
    cluster = placed.cluster
    async with watched(placed.engine) as notices:
        await placed.start(3)
        await eventually(lambda: len(cluster.workers) == 3, "three workers")
        # another one for one that was lost
        await placed.start(1)
        await eventually(lambda: len(cluster.workers) == 4, "a fourth worker")
        assert cluster.workers == [[ADDRESS, TOKEN, "none"]] * 4
    await eventually(lambda: not cluster.alive, "the end of all workers")
    assert notices == [END]
    await placed.engine.end()


async def test_it_tells_of_a_worker_that_ends_with_an_error_in_one_sentence_and_once(placed: Placed) -> None:
    (placed.cluster.notes / "dies").touch()
    async with watched(placed.engine) as notices:
        await placed.start(1)
        await eventually(lambda: notices, "a notice")
        # and with the last worker the notices end
        await eventually(lambda: notices[-1] is END, "the end of the notices")
    notices.remove(END)
    assert len(notices) == 1
    assert "\n" not in notices[0]
    assert "worker" in notices[0]
    assert TOKEN not in notices[0]


async def test_it_can_be_ended_before_it_has_started_anything_and_while_it_starts(placed: Placed) -> None:
    await placed.engine.end()
    assert placed.cluster.calls == []
    with anyio.move_on_after(0.01):
        await placed.start(2)
    await placed.engine.end()
    await eventually(lambda: not placed.cluster.alive, "the end of all workers")


async def test_the_token_is_in_no_argument_and_in_no_file_that_others_can_read(placed: Placed, tmp_path: Path) -> None:
    async with watched(placed.engine):
        await placed.start(2)
        await eventually(lambda: len(placed.cluster.workers) == 2, "two workers")
        assert TOKEN not in json.dumps(placed.cluster.calls)
        assert not any(TOKEN in line for line in command_lines(placed.cluster.alive))
        holding = [file for file in (tmp_path / "shared").rglob("*") if file.is_file() and TOKEN in file.read_text()]
        assert all(file.stat().st_mode & 0o077 == 0 and file.parent.stat().st_mode & 0o077 == 0 for file in holding)
        assert {file.name for file in holding} <= {"token"}
    assert list((tmp_path / "shared").iterdir()) == []


async def test_a_program_that_is_missing_is_one_sentence(placed: Placed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    placed.invitation = Invitation(address=ADDRESS, token=TOKEN, variables=(), command=("/no/such/program",))
    with pytest.raises(UsageError, match=r"^[^\n]*cannot be started \(No such file or directory\)[^\n]*$"):
        await placed.start(1)
    await placed.engine.end()


async def test_a_worker_has_the_key_of_its_environment_where_the_cluster_passes_it_on(
    placed: Placed, monkeypatch: pytest.MonkeyPatch
) -> None:
    if placed.name == "kubernetes":
        # a pod inherits nothing: tests/unit/workers/test_kubernetes.py
        assert "WORKER_KEY" not in os.environ
        return
    monkeypatch.setenv("WORKER_KEY", "sk-of-the-shell")
    async with watched(placed.engine):
        await placed.start(1)
        await eventually(lambda: placed.cluster.workers, "a worker")
        assert placed.cluster.workers == [[ADDRESS, TOKEN, "sk-of-the-shell"]]
        assert "sk-of-the-shell" not in json.dumps(placed.cluster.calls)
