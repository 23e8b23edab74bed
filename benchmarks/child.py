"""Measures one ``runner`` command from start to exit: wall time, CPU time, peak memory."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from benchmarks.process import environment, peak_mib

_POLL_S = 0.01
LIMIT_S = 3600.0
"""Seconds after which a command is killed."""


class Ran(NamedTuple):
    """The exit code and the costs of a command."""

    code: int
    wall_s: float
    # user and system time, of all its threads
    cpu_s: float
    peak_mib: float
    # when it was started, in seconds of the monotonic clock
    started: float


def run(
    folder: Path,
    *arguments: str,
    until: Callable[[], bool] | None = None,
    stdin: Path | None = None,
    limit_s: float = LIMIT_S,
    cpu: int | None = None,
) -> Ran:
    """Run ``runner`` in a folder; its output goes to ``output.log`` in that folder.

    until: kill the process as soon as this returns True. stdin: file for standard input. cpu: the only CPU that it may use.
    Raises RuntimeError if the process takes longer than ``limit_s``.
    """
    return spawn(folder, (sys.executable, "-m", "runner", *arguments), until=until, stdin=stdin, limit_s=limit_s, cpu=cpu)


def spawn(
    folder: Path,
    command: Sequence[str],
    *,
    until: Callable[[], bool] | None = None,
    stdin: Path | None = None,
    limit_s: float = LIMIT_S,
    cpu: int | None = None,
) -> Ran:
    """Run any command in the same way."""
    with (folder / "output.log").open("wb") as log, (stdin or Path(os.devnull)).open("rb") as source:
        started = time.monotonic()
        process = subprocess.Popen(  # noqa: S603 - our own commands
            command, cwd=folder, env=environment(), stdin=source, stdout=log, stderr=log, start_new_session=True
        )
        peak, killed = 0.0, False
        try:
            pin(process.pid, cpu)
            while True:
                peak = max(peak, peak_mib(process.pid))
                pid, status, usage = os.wait4(process.pid, os.WNOHANG)
                if pid:
                    break
                late = time.monotonic() - started > limit_s
                if not killed and (late or (until is not None and until())):
                    process.send_signal(signal.SIGKILL)
                    killed = True
                time.sleep(_POLL_S)
        except BaseException:
            process.kill()
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.monotonic() - started
    if wall > limit_s:
        raise RuntimeError(f"{' '.join(command)} was still running after {limit_s:g} s")
    return Ran(process.returncode, wall, usage.ru_utime + usage.ru_stime, peak, started)


def pin(pid: int, cpu: int | None) -> None:
    """Bind a process that has just been started to one CPU, and with it the threads that it starts later."""
    if cpu is not None:
        # the process may have ended already
        with suppress(ProcessLookupError):
            os.sched_setaffinity(pid, {cpu})


def output(folder: Path) -> str:
    """Return the output of the last command."""
    return (folder / "output.log").read_text(errors="replace")
