"""One ``runner`` command from start to exit: seconds, seconds of CPU, peak of memory."""

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
"""After that a command is killed."""


class Ran(NamedTuple):
    """How a command went."""

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
    given: Path | None = None,
    limit_s: float = LIMIT_S,
    cpu: int | None = None,
) -> Ran:
    """Run ``runner`` in a folder; what it says goes to ``said.log`` there.

    until: when it says so, the process is killed. given: what it reads as standard input. cpu: the only one that it may use.
    Raises RuntimeError when the process takes too long.
    """
    return spawn(folder, (sys.executable, "-m", "runner", *arguments), until=until, given=given, limit_s=limit_s, cpu=cpu)


def spawn(
    folder: Path,
    command: Sequence[str],
    *,
    until: Callable[[], bool] | None = None,
    given: Path | None = None,
    limit_s: float = LIMIT_S,
    cpu: int | None = None,
) -> Ran:
    """Run any command in the same way."""
    with (folder / "said.log").open("wb") as log, (given or Path(os.devnull)).open("rb") as stdin:
        started = time.monotonic()
        process = subprocess.Popen(  # noqa: S603 - our own commands
            command, cwd=folder, env=environment(), stdin=stdin, stdout=log, stderr=log, start_new_session=True
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
    """Keep a process that has just been started on one CPU; threads that it begins later stay there too."""
    if cpu is not None:
        # it may have ended already
        with suppress(ProcessLookupError):
            os.sched_setaffinity(pid, {cpu})


def said(folder: Path) -> str:
    """Give what the last command said."""
    return (folder / "said.log").read_text(errors="replace")
