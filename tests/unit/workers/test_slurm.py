"""The engine slurm: what it submits, what it tells of the queue, and what it leaves behind."""

from collections.abc import Iterator
from pathlib import Path

import anyio
import clusters
import pytest
from clusters import Cluster, eventually

from runner.errors import UsageError
from runner.interfaces import Invitation
from runner.workers.engines import slurm

pytestmark = pytest.mark.anyio
INVITATION = Invitation(address="10.0.0.5:7070", token="a-token", variables=("WORKER_KEY",), command=())


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    with clusters.slurm(tmp_path / "cluster") as made:
        monkeypatch.setenv("PATH", made.path)
        monkeypatch.setattr(slurm, "LOOK_S", 0.02)
        monkeypatch.chdir(tmp_path)
        yield made


@pytest.fixture
def runner(cluster: Cluster, tmp_path: Path) -> str:
    return str(clusters.stand_in(cluster, tmp_path / "runner"))


def text_of(file: str) -> str:
    return Path(file).read_text()


def folders(where: Path) -> list[Path]:
    return list(where.glob("runner-workers-*"))


async def first(engine: slurm.Slurm) -> str:
    """Return the first notice."""
    with anyio.fail_after(60):
        async for notice in engine.watch():
            return notice
    raise AssertionError("no notice")


async def test_what_is_asked_of_the_cluster_is_asked_of_it(cluster: Cluster, runner: str, tmp_path: Path) -> None:
    options = {
        "partition": "cpu", "account": "nlp", "qos": "low", "time": "04:00:00", "cpus": 2, "memory": "4G",
        "constraint": "a100|h100", "exclude": "n[1-3]", "nodes": "n4,n5", "reservation": "maintenance", "address": "east",
        "folder": ".", "runner": runner,
    }  # fmt: skip
    engine = slurm.make(options)
    await engine.start(3, INVITATION)
    (call,) = cluster.calls_of("sbatch")
    assert call[1:3] == ["--parsable", "--clusters=east"]
    script = text_of(call[-1])
    for wanted in (
        "--partition=cpu", "--account=nlp", "--qos=low", "--time=04:00:00", "--cpus-per-task=2", "--mem=4G",
        "--constraint=a100|h100", "--exclude=n[1-3]", "--nodelist=n4,n5", "--reservation=maintenance", "--array=0-2",
        "--ntasks=1", "--no-requeue",
    ):  # fmt: skip
        assert f"#SBATCH {wanted}\n" in script
    assert "a-token" not in script
    await engine.end()
    assert cluster.calls_of("scancel")[0][1] == "--clusters=east"


async def test_a_folder_with_odd_letters_is_no_trouble(cluster: Cluster, runner: str, tmp_path: Path) -> None:
    odd = tmp_path / "my 'shared' $HOME 100%A"
    odd.mkdir()
    engine = slurm.make({"folder": str(odd), "runner": runner})
    await engine.start(2, INVITATION)
    await eventually(lambda: len(cluster.workers) == 2, "two workers")
    assert cluster.workers == [["10.0.0.5:7070", "a-token", "none"]] * 2
    await engine.end()
    assert list(odd.iterdir()) == []


@pytest.mark.parametrize("value", ["a b", "x\n#SBATCH --uid=root", "$(id)", "'", "", "x" * 300])
async def test_a_value_that_no_script_can_hold_is_refused_before_anything_is_written(cluster: Cluster, value: str) -> None:
    with pytest.raises(UsageError, match="the option partition of the engine slurm cannot be"):
        slurm.make({"partition": value})
    assert cluster.calls == []


async def test_a_refusal_of_slurm_is_one_sentence_and_leaves_nothing(cluster: Cluster, runner: str, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    engine = slurm.make({"partition": "nosuch", "folder": "shared", "runner": runner})
    with pytest.raises(UsageError, match=r"^sbatch failed: Batch job submission failed: Invalid partition name specified$"):
        await engine.start(2, INVITATION)
    await engine.end()
    assert list((tmp_path / "shared").iterdir()) == []


async def test_workers_that_wait_are_told_of_once_with_the_reason(cluster: Cluster, runner: str) -> None:
    cluster.mark("hold")
    engine = slurm.make({"runner": runner})
    await engine.start(2, INVITATION)
    assert await first(engine) == "2 of 2 workers wait in the queue of Slurm: Priority"
    looks = len(cluster.calls_of("squeue"))

    async def again() -> None:
        raise AssertionError(await first(engine))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(again)
        await eventually(lambda: len(cluster.calls_of("squeue")) > looks + 2, "further looks")
        tasks.cancel_scope.cancel()
    await engine.end()
    # a worker that still waits never starts
    assert cluster.workers == []
    (cluster.folder / "hold").unlink()
    assert cluster.workers == []


async def test_a_worker_that_has_failed_is_named_with_its_output_which_stays_and_the_token_does_not(
    cluster: Cluster, runner: str, tmp_path: Path
) -> None:
    (cluster.notes / "dies").touch()
    engine = slurm.make({"runner": runner})
    await engine.start(1, INVITATION)
    notice = await first(engine)
    assert notice.startswith("Slurm: the worker 100_0 is failed; its output: ")
    log = notice.rpartition("its output: ")[2]
    await engine.end()
    assert text_of(log) == "the worker has found nobody\n"
    # neither is the token there, nor is it in what is left
    (left,) = [list(folder.iterdir()) for folder in folders(tmp_path)]
    assert sorted(file.name for file in left) == ["100_0.log", "workers-1.sbatch"]
    assert not any("a-token" in file.read_text() for file in left)


async def test_a_worker_that_the_queue_forgets_is_told_of(cluster: Cluster, runner: str) -> None:
    engine = slurm.make({"runner": runner})
    await engine.start(2, INVITATION)
    await eventually(lambda: len(cluster.alive) == 2, "two workers")
    notices: list[str] = []

    async def watch() -> None:
        async for notice in engine.watch():
            notices.append(notice)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        looks = len(cluster.calls_of("squeue"))
        await eventually(lambda: len(cluster.calls_of("squeue")) > looks + 2, "looks at workers that run")
        cluster.mark("ageless")
        clusters.end_one(cluster)
        await eventually(lambda: notices, "a notice")
        await engine.end()
    assert len(notices) == 1
    assert notices[0].startswith("Slurm: the worker 100_")
    assert " is gone; its output: " in notices[0]


async def test_a_controller_that_does_not_answer_is_told_of_once_and_ends_nothing(
    cluster: Cluster, runner: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = slurm.make({"runner": runner})
    await engine.start(1, INVITATION)
    await eventually(lambda: cluster.workers, "a worker")
    cluster.mark("away")
    away = "Unable to contact slurm controller (connect failure)"
    assert await first(engine) == f"squeue failed: {away}"
    await engine.end()
    # who stays is named, with the command that ends it
    name = cluster.calls_of("scancel")[0][-1]
    assert caplog.messages == [f"scancel failed: {away}; this ends the workers that are left: scancel {name}"]


async def test_a_program_that_hangs_is_given_up(cluster: Cluster, runner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clusters.program(cluster.bin / "sbatch", "#!/bin/sh\nexec sleep 300\n")
    monkeypatch.setattr(slurm, "CALL_S", 0.05)
    with pytest.raises(UsageError, match=r"^sbatch has not answered within 0\.05 s$"):
        await slurm.make({"runner": runner}).start(1, INVITATION)


async def test_loopback_is_refused_with_what_to_add_unless_the_user_names_the_way(cluster: Cluster, runner: str) -> None:
    for address in ("127.0.0.1:7070", "[::1]:7070", "localhost:7070", "0.0.0.0:7070"):
        invitation = Invitation(address=address, token="a-token", variables=(), command=())
        with pytest.raises(UsageError, match=r"cannot reach .*; add --listen HOST, an address of this machine"):
            await slurm.make({"runner": runner}).start(1, invitation)
    for connect, way in (("gate", "gate:7070"), ("gate:99", "gate:99"), ("[fd00::1]", "[fd00::1]:7070")):
        engine = slurm.make({"runner": runner, "connect": connect})
        invitation = Invitation(address="127.0.0.1:7070", token="a-token", variables=(), command=())
        await engine.start(1, invitation)
        await eventually(lambda: cluster.workers, "a worker")
        assert [worker[0] for worker in cluster.workers] == [way]
        await engine.end()
        for note in cluster.notes.iterdir():
            note.unlink()
