"""The engine local: workers are processes of this machine."""

import os
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from typing import IO

import anyio
from anyio import to_thread

from runner.errors import UsageError
from runner.placing import Invitation
from runner.workers import programs

OPTIONS: tuple[str, ...] = ()
"""Names of the options that this engine takes."""
LOOK_S = 0.5
"""Seconds between two looks at the processes."""
_MOST_READ = 4096
_END_S = 5.0
"""Seconds that the processes have to end, before they are killed."""


def make(options: Mapping[str, object]) -> "Local":
    """Make the engine. options: none."""
    assert not options
    return Local()


class Local:
    """Starts processes, and ends them."""

    def __init__(self) -> None:
        self._processes: dict[subprocess.Popen[bytes], IO[bytes]] = {}
        self._told: set[int] = set()
        self._over = anyio.Event()

    async def start(self, count: int, invitation: Invitation) -> None:
        """Start so many processes. Raises UsageError if one cannot be started."""
        environment = {**os.environ, "RUNNER_WORKER_TOKEN": invitation.token}
        for _ in range(count):
            # the last line of it says why a process ended
            errors = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
            try:
                self._processes[programs.started(invitation.command, environment, errors.fileno())] = errors
            except OSError as error:
                errors.close()
                raise UsageError(f"a worker cannot be started ({error.strerror}): {invitation.command[0]}") from error

    async def watch(self) -> AsyncIterator[str]:
        """Yield a notice for each process that has ended with an error. It ends with the last process."""
        while not self._over.is_set():
            left = not self._processes or any(process.poll() is None for process in self._processes)
            for process, errors in tuple(self._processes.items()):
                if process.poll() and process.pid not in self._told and not self._over.is_set():
                    self._told.add(process.pid)
                    yield f"a worker of this machine (process {process.pid}) {_why(process, errors)}"
            if not left:
                return
            with anyio.move_on_after(LOOK_S):
                await self._over.wait()

    async def end(self) -> None:
        """End the processes: SIGTERM, and SIGKILL for those that are still there after 5 s."""
        self._over.set()
        processes, self._processes = self._processes, {}
        with anyio.CancelScope(shield=True):
            for process in processes:
                process.terminate()
            await to_thread.run_sync(_reap, list(processes))
        for errors in processes.values():
            errors.close()


def _why(process: "subprocess.Popen[bytes]", errors: IO[bytes]) -> str:
    # the process shares the position of the file
    words = programs.said(os.pread(errors.fileno(), _MOST_READ, max(0, os.fstat(errors.fileno()).st_size - _MOST_READ)))
    return f"{programs.ended(process.returncode)}" + (f": {words}" if words else "")


def _reap(processes: "list[subprocess.Popen[bytes]]") -> None:
    until = time.monotonic() + _END_S
    for process in processes:
        try:
            process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
