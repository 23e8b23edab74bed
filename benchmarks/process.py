"""A ``runner`` process: start it, watch it, end it by its own id."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

_FOREIGN = ("RUNNER_", "OPENAI_", "ANTHROPIC_", "COLUMNS", "LINES", "PYTHON", "HTTP", "ALL_PROXY", "NO_PROXY")
_CHECKOUT = Path(__file__).resolve().parents[1]
_POLL_S = 0.05
_GRACE_S = 60.0
_DEADLINE_S = 1800
"""Longer than any scenario takes; it ends a process whose benchmark was killed with SIGKILL."""


class Runner:
    """A context manager: ``runner run prompts.jsonl`` in a folder. Its output goes to ``runner.log`` in that folder."""

    def __init__(self, folder: Path, *options: str, env: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._command = ["run", "prompts.jsonl", "--quiet", "--deadline", str(_DEADLINE_S), *options]
        self._env = {**environment(), **(env or {})}
        # seconds of the monotonic clock
        self.started = 0.0
        self.ended: float | None = None
        # peak of its memory, in MiB, as the kernel counts it
        self.peak_mib = 0.0

    async def __aenter__(self) -> Self:
        self._log = (self._folder / "runner.log").open("wb")
        self.started = time.monotonic()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "runner", *self._command,
            cwd=self._folder, env=self._env, stdin=asyncio.subprocess.DEVNULL, stdout=self._log, stderr=self._log,
            start_new_session=True,
        )  # fmt: skip
        self._watch = asyncio.create_task(self._watched())
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()
        await self._watch
        self._log.close()

    @property
    def alive(self) -> bool:
        """True until the process has ended."""
        return self.ended is None

    @property
    def log(self) -> str:
        """The output of the process so far."""
        return (self._folder / "runner.log").read_text(errors="replace")

    async def until_end(self, timeout_s: float) -> int:
        """Wait until the process ends; return its exit code."""
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(self._watch)
        except TimeoutError:
            raise RuntimeError(f"still running after {timeout_s:g} s: {self.log[-2000:]}") from None
        return await self._process.wait()

    def kill(self) -> None:
        """Kill the process."""
        self._process.kill()

    async def stop(self) -> int:
        """End the process with SIGTERM, as an operator would; return its exit code."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        return await self.until_end(_GRACE_S)

    async def _watched(self) -> None:
        waiting = asyncio.create_task(self._process.wait())
        while not waiting.done():
            self.peak_mib = max(self.peak_mib, peak_mib(self._process.pid))
            await asyncio.wait({waiting}, timeout=_POLL_S)
        self.ended = time.monotonic()


def environment() -> dict[str, str]:
    """Return our environment without the variables that runner or an SDK reads; PYTHONPATH points to this checkout."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(_FOREIGN)}
    return {**kept, "PYTHONPATH": str(_CHECKOUT)}


def peak_mib(pid: int) -> float:
    """Return the peak memory of a process in MiB, or 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), 0.0)


def say(sentence: str) -> None:
    """Print a sentence about progress to standard error; standard output is for the table."""
    print(sentence, file=sys.stderr, flush=True)


def interrupted(*_: object) -> NoReturn:
    """Handle a signal as Ctrl-C, so that no process and no folder is left behind."""
    raise KeyboardInterrupt
