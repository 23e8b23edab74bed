"""The engine slurm: workers are the tasks of a job array, which sbatch submits, squeue follows and scancel ends.

The token lies in a file that only its owner can read, in a folder that the nodes share. So it is in no script, no argument and no
answer of scontrol. The environment goes along as with every job: keys and proxies are those of the shell that starts the run.
"""

import logging
import os
import re
import secrets
import shlex
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path

import anyio

from runner.errors import UsageError
from runner.placing import Invitation
from runner.text import clean, plural
from runner.workers import engine_options
from runner.workers.programs import CALL_S, output

logger = logging.getLogger("runner")

_DIRECTIVES = {
    "account": "account", "constraint": "constraint", "cpus": "cpus-per-task", "exclude": "exclude", "memory": "mem",
    "nodes": "nodelist", "partition": "partition", "qos": "qos", "reservation": "reservation", "time": "time",
}  # fmt: skip
"""The options that are options of sbatch, and what sbatch calls them."""
OPTIONS = ("address", "connect", "folder", "runner", *_DIRECTIVES)
"""Names of the options that this engine takes. address: the cluster, where there are several."""
LOOK_S = 10.0
"""Seconds between two looks at the queue. Sites ask for no more."""
_GOING = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "COMPLETED", "SUSPENDED", "STOPPED", "STAGE_OUT", "SIGNALING")
_LEFT = tuple(state for state in _GOING if state != "COMPLETED")
_TASK = re.compile(r"(\S+)\|([A-Z_]+)[^|]*\|(.*)")


def make(options: Mapping[str, object]) -> "Slurm":
    """Make the engine. Raises UsageError for a value that no script can hold."""
    return Slurm(options)


class Slurm:
    """Submits arrays of workers, all under one name, which is unique."""

    def __init__(self, options: Mapping[str, object]) -> None:
        self._options = options
        given = {"cpus": 1, **options}
        found = {name: engine_options.text(given, name, "slurm") for name in _DIRECTIVES}
        self._directives = [f"--{_DIRECTIVES[name]}={value}" for name, value in found.items() if value is not None]
        self._program = engine_options.program(options, "slurm", engine_options.this_python())
        cluster = engine_options.text(options, "address", "slurm")
        self._cluster = [] if cluster is None else [f"--clusters={cluster}"]
        self._name = f"runner-{secrets.token_hex(6)}"
        self._folder: Path | None = None
        # arrays that were asked for, and those that Slurm has taken
        self._arrays = self._taken = 0
        # state of each task of the arrays as it was last seen
        self._tasks: dict[str, str] = {}
        self._waiting = self._silent = ""
        self._failed = False
        self._over = anyio.Event()

    async def start(self, count: int, invitation: Invitation) -> None:
        """Submit an array of so many workers. Raises UsageError."""
        address = engine_options.reachable(self._options, "slurm", invitation.address)
        folder = self._shared(invitation.token)
        self._arrays += 1
        script = folder / f"workers-{self._arrays}.sbatch"
        _write(script, self._script(count, address, folder / "token"))
        # a name of a file may hold what Slurm takes for a pattern
        log = f"{str(folder).replace('%', '%%')}/%A_%a.log"
        await output(["sbatch", "--parsable", *self._cluster, f"--output={log}", str(script)], within_s=CALL_S)
        self._taken += 1

    async def watch(self) -> AsyncIterator[str]:
        """Yield what the queue tells: tasks that wait, and why; tasks that have ended badly. It ends with the last task."""
        while True:
            with anyio.move_on_after(LOOK_S):
                await self._over.wait()
            if self._over.is_set():
                return
            arrays = self._taken
            notices = await self._look()
            # what was seen meanwhile is the end that was asked for
            if self._over.is_set():
                return
            for notice in notices:
                yield notice
            if 0 < arrays == self._arrays and not self._silent and not any(state in _LEFT for state in self._tasks.values()):
                return

    async def end(self) -> None:
        """Cancel the arrays, and remove the folder. If a task has ended badly, the folder stays, without the token."""
        self._over.set()
        folder, self._folder = self._folder, None
        if folder is None:
            return
        with suppress(OSError):
            (folder / "token").unlink()
        with anyio.CancelScope(shield=True):
            try:
                # by name, since a call that was cut off has told no number
                await output(["scancel", *self._cluster, f"--name={self._name}"])
            except UsageError as error:
                logger.warning("%s; this ends the workers that are left: scancel --name=%s", error, self._name)
        with suppress(OSError):
            for file in () if self._failed else tuple(folder.iterdir()):
                file.unlink()
            if not self._failed:
                folder.rmdir()

    def _shared(self, token: str) -> Path:
        """Return the folder of this run, made once in the folder that the nodes share. Raises UsageError."""
        if self._folder is None:
            parent = Path(str(self._options.get("folder", "."))).absolute()
            try:
                self._folder = Path(tempfile.mkdtemp(prefix="runner-workers-", dir=parent))
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                raise UsageError(f"no folder can be made in {clean(str(parent))} ({reason}); name one that the nodes share: "
                    "--engine-option folder=FOLDER") from error  # fmt: skip
            _write(self._folder / "token", f"{token}\n")
        return self._folder

    def _script(self, count: int, address: str, token: Path) -> str:
        worker = [*engine_options.worker(self._program, address), "--token-file", str(token)]
        directives = [f"--job-name={self._name}", f"--array=0-{count - 1}", "--ntasks=1", "--no-requeue", *self._directives]
        return "\n".join(
            ["#!/bin/sh", *(f"#SBATCH {directive}" for directive in directives), f"exec {shlex.join(worker)}", ""]
        )  # fmt: skip

    async def _look(self) -> list[str]:
        """Return what has changed in the queue since the last look, one sentence each."""
        wanted = [*self._cluster, f"--name={self._name}", "--noheader", "--array", "--states=all", "--format=%i|%T|%r"]
        try:
            lines = (await output(["squeue", *wanted])).splitlines()
        except UsageError as error:
            # once, and not every ten seconds
            news, self._silent = [str(error)] if not self._silent else [], str(error)
            return news
        self._silent = ""
        found = {task[1]: (task[2], task[3].strip()) for line in lines if (task := _TASK.match(line.strip()))}
        notices = [*self._queued(found), *self._ended(found)]
        self._tasks = {task: state for task, (state, _) in found.items()}
        return notices

    def _queued(self, found: Mapping[str, tuple[str, str]]) -> list[str]:
        """Return a sentence if tasks wait for another reason than before."""
        reasons = Counter(reason for state, reason in found.values() if state == "PENDING" and reason not in ("", "None"))
        before, self._waiting = self._waiting, ", ".join(sorted(reasons))
        if not reasons or self._waiting == before:
            return []
        return [f"{reasons.total()} of {plural(len(found), 'worker')} wait in the queue of Slurm: {clean(self._waiting, 200)}"]

    def _ended(self, found: Mapping[str, tuple[str, str]]) -> list[str]:
        """Return a sentence for each task that has ended badly since the last look, or is not listed any more."""
        bad = {task: state for task, (state, _) in found.items() if state not in _GOING and self._tasks.get(task) != state}
        gone = {task: "gone" for task, state in self._tasks.items() if task not in found and state == "RUNNING"}
        self._failed = self._failed or bool(bad)
        where = f"; its output: {self._folder}/" if self._folder is not None else ""
        return [
            f"Slurm: the worker {task} is {state.lower().replace('_', ' ')}" + (f"{where}{task}.log" if where else "")
            for task, state in {**bad, **gone}.items()
        ]


def _write(file: Path, words: str) -> None:
    """Write a file that only its owner can read. Raises UsageError."""
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape") as out:
            out.write(words)
    except OSError as error:
        raise UsageError(f"{clean(str(file))} cannot be written ({error.strerror})") from error
