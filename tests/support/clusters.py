"""Clusters that are this machine: programs on a PATH of their own, which really start what is asked of them."""

import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import anyio
from processes import HANG_S

SUPPORT = Path(__file__).parent
STAND_IN = """#!/bin/sh
# stands for `runner`: notes what a worker is given, then stays until it is ended
token=$RUNNER_WORKER_TOKEN
while [ $# -gt 0 ]; do
    case $1 in
        --connect) address=$2 ;;
        --token-file) token=$(cat "$2") ;;
    esac
    shift
done
echo "$address $token ${WORKER_KEY:-none}" > "%s/worker-$$.part"
mv "%s/worker-$$.part" "%s/worker-$$"
[ ! -e "%s/dies" ] || { echo "the worker has found nobody" >&2; exit 7; }
exec sleep 300
"""


class Cluster(NamedTuple):
    """A cluster. bin: its programs. folder: what it knows. notes: what stand-ins for workers have noted."""

    bin: Path
    folder: Path
    notes: Path

    @property
    def calls(self) -> list[list[str]]:
        """The arguments of each call of its programs."""
        file = self.folder / "calls"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    @property
    def workers(self) -> list[list[str]]:
        """Address, token and key of each stand-in that has begun."""
        return [file.read_text().split() for file in self.notes.glob("worker-*") if file.suffix != ".part"]

    @property
    def alive(self) -> list[int]:
        """The stand-ins that are still there."""
        ids = [int(file.name.removeprefix("worker-")) for file in self.notes.glob("worker-*") if file.suffix != ".part"]
        return [process for process in ids if _runs(process)]

    @property
    def path(self) -> str:
        """The PATH on which its programs are."""
        return f"{self.bin}{os.pathsep}{os.environ['PATH']}"

    def calls_of(self, program: str) -> list[list[str]]:
        return [call for call in self.calls if call[0] == program]

    def mark(self, name: str) -> None:
        """Have the programs behave as the mark says."""
        (self.folder / name).touch()


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def eventually(condition: Callable[[], Any], what: str) -> None:
    """Wait for a condition without blocking the loop."""
    with anyio.move_on_after(HANG_S):
        while not condition():  # noqa: ASYNC110 - it is the state of other processes
            await anyio.sleep(0.01)
        return
    raise AssertionError(f"waited {HANG_S:g} s in vain for {what}")


def program(file: Path, text: str) -> Path:
    """Write a program that can be started."""
    file.write_text(text)
    file.chmod(0o755)
    return file


def _made(folder: Path, script: str, programs: tuple[str, ...]) -> Cluster:
    made = Cluster(folder / "programs", folder / "state", folder / "notes")
    for one in (*made, made.folder / "bin"):
        one.mkdir(parents=True)
    for name in programs:
        words = [sys.executable, "-S", "-E", str(SUPPORT / script), str(made.folder), *([] if name == "kubectl" else [name])]
        program(made.bin / name, f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    return made


@contextmanager
def slurm(folder: Path) -> Iterator[Cluster]:
    """Yield a cluster with sbatch, squeue and scancel. In the end nothing of it is left."""
    made = _made(folder, "fake_slurm.py", ("sbatch", "squeue", "scancel"))
    try:
        yield made
    finally:
        _ended(made)


@contextmanager
def kubernetes(folder: Path) -> Iterator[Cluster]:
    """Yield a cluster with kubectl, whose images have ``runner`` if it is put into ``folder/bin`` of it."""
    made = _made(folder, "fake_kubectl.py", ("kubectl",))
    try:
        yield made
    finally:
        _ended(made)


def end_one(cluster: Cluster) -> None:
    """Kill one of the stand-ins."""
    os.kill(cluster.alive[0], signal.SIGKILL)


def stand_in(cluster: Cluster, file: Path) -> Path:
    """Write a stand-in for ``runner``, whose workers note what they are given."""
    return program(file, STAND_IN.replace("%s", str(cluster.notes)))


def real_runner(file: Path) -> Path:
    """Write a program that is ``runner`` of this checkout."""
    root = shlex.quote(str(SUPPORT.parents[1]))
    return program(file, f'#!/bin/sh\nPYTHONPATH={root} exec {shlex.quote(sys.executable)} -m runner "$@"\n')


def _ended(cluster: Cluster) -> None:
    for file in cluster.folder.glob("*.json"):
        pid = json.loads(file.read_text()).get("pid")
        if pid is not None:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
