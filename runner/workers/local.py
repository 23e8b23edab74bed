"""Workers on this machine: a process each, with a socket pair. It ends with its driver, as its end of the pair does."""

import os
import socket
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import IO

import anyio

from runner.text import clean, redact

PATH_VARIABLE = "RUNNER_WORKER_PATH"
"""Holds the module search path for the process; it removes the variable before it does anything else."""
_PROGRAM = (
    f"import os, sys; sys.path[:] = os.environ.pop({PATH_VARIABLE!r}).split('\\n'); "
    "from runner.workers.process import main; main(int(sys.argv[1]))"
)
"""Not ``-m``: with that, a file of the current folder could hide a module of Python or of ours."""
MOST = 512
"""Workers on one machine, at most."""
RESTARTS, WITHIN_S = 3, 600.0
"""A worker is started anew so many times within so many seconds."""
LAST_WORDS_S = 0.5
"""Seconds that a process whose end of the pair is closed has to say why."""
POLL_S = 0.01


class LocalProcess:
    """The process of one worker. own: this end of the pair."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Start it. environment: variables beside those of this process. Raises OSError."""
        self.own, other = socket.socketpair()
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the process is ended
        path = "\n".join(entry or str(Path.cwd()) for entry in sys.path)
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the interpreter that runs this, and our own program
                (sys.executable, "-c", _PROGRAM, str(other.fileno())),
                env={**os.environ, **environment, PATH_VARIABLE: path},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                pass_fds=(other.fileno(),),
                # Ctrl-C in a terminal is for the driver, which lets open requests finish
                start_new_session=True,
            )
        except BaseException:
            self.own.close()
            self._said.close()
            raise
        finally:
            other.close()

    @property
    def ended(self) -> bool:
        """True if the process has ended."""
        return self._process.poll() is not None

    def last_words(self) -> str | None:
        """Return the last line that it has written to standard error; None if there is none."""
        with suppress(OSError, ValueError):
            size = self._said.seek(0, os.SEEK_END)
            self._said.seek(max(0, size - 4_096))
            lines = self._said.read().decode(errors="replace").strip().splitlines()
            return clean(redact(lines[-1].removeprefix("runner: ")), 300) if lines else None
        return None

    def kill(self) -> None:
        """End it at once, also if it is stopped, and wait for it."""
        self._process.kill()
        self._process.wait()
        self._said.close()


class Place:
    """The place of one local worker: who has it now, and when it was started anew."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.lived = False
        self._starts: deque[float] = deque(maxlen=RESTARTS)

    def may_start(self, now: float) -> bool:
        """Record a new start, and return True; False if there were too many, or none has ever come to work."""
        if not self.lived or (len(self._starts) == RESTARTS and now - self._starts[0] < WITHIN_S):
            return False
        self._starts.append(now)
        return True


async def with_last_words(process: LocalProcess, why: str) -> str:
    """Return why a process has ended, with the last line that it has written."""
    await ended_by(process, monotonic() + LAST_WORDS_S)
    said = process.last_words() if process.ended else None
    return why if said is None or said in why else f"{why} ({said})"


async def ended_by(process: LocalProcess, until: float) -> None:
    """Wait for the end of a process, but not beyond ``until``, by the monotonic clock."""
    while not process.ended and monotonic() < until:  # noqa: ASYNC110 - not every event loop can wait for a process
        await anyio.sleep(POLL_S)


def processors() -> int:
    """Return how many processors this process may use: by its affinity, and by the quota of its control group."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(usable, _quota() or usable))


def _quota() -> int | None:
    """Return the whole processors that the control group grants, rounded up; None if there is no such limit."""
    with suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return -(-int(quota) // int(period))
    with suppress(OSError, ValueError):
        folder = Path("/sys/fs/cgroup/cpu")
        allowed = int((folder / "cpu.cfs_quota_us").read_text(encoding="ascii"))
        every = int((folder / "cpu.cfs_period_us").read_text(encoding="ascii"))
        return -(-allowed // every) if allowed > 0 else None
    return None
