"""Starts the process that speaks to Ray, and speaks to it: a line of JSON for each thing that is asked or told."""

import asyncio
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import anyio
import msgspec

from runner.errors import UsageError
from runner.workers import engine_options, programs
from runner.workers.actors import Ask, Told

ANSWER_S = 60.0
"""Seconds for an answer: the libraries may lie on a slow disk. Ray itself looks for a cluster that has gone for minutes."""
_END_S = 10.0
"""Seconds to end the actors. After that the process is killed, and Ray ends the actors of a job whose process has gone."""
_MOST_READ = 8192


class Placer:
    """The process, from its start to its end. It is made inside the event loop.

    hidden: environment variables that it does not get: keys come from the environment of each node, and so do proxies.
    """

    def __init__(self, hidden: tuple[str, ...]) -> None:
        self._loop = asyncio.get_running_loop()
        self._answers, self._notices = asyncio.Queue[Told | None](), asyncio.Queue[str | None]()
        self._number, self._ending, self._told_end = 0, False, False
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
        root = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        environment = engine_options.without(hidden, PYTHONPATH=path, RAY_USAGE_STATS_ENABLED="0", RAY_COLOR_PREFIX="0")
        # -P: no module of the current folder stands for one of Ray's
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "runner.workers.actors"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors.fileno(),
            start_new_session=True,
        )
        threading.Thread(target=self._listen, name="ray", daemon=True).start()

    @property
    def alive(self) -> bool:
        """True while the process runs."""
        return self._process.poll() is None

    async def ask(self, asked: Ask) -> None:
        """Ask for workers. Raises UsageError with the reason why there will be none."""
        self._number += 1
        number, line = self._number, msgspec.json.encode(msgspec.structs.replace(asked, number=self._number)) + b"\n"
        assert self._process.stdin is not None
        # a process that has ended answers with its end
        with suppress(OSError):
            self._process.stdin.write(line)
            self._process.stdin.flush()
        try:
            with anyio.fail_after(ANSWER_S):
                # an answer to what was given up comes first
                while (answer := await self._answers.get()) is not None and answer.number != number:
                    pass
        except TimeoutError as error:
            raise UsageError(
                f"Ray has not answered within {ANSWER_S:g} s; is the cluster at {asked.cluster} still there?"
            ) from error
        if answer is None:
            raise UsageError(f"Ray has ended: {self._last_words()}")
        if answer.text:
            raise UsageError(answer.text)

    async def notices(self) -> AsyncIterator[str]:
        """Yield what Ray tells, until none of the workers is left."""
        if self._told_end:
            return
        while (notice := await self._notices.get()) is not None:
            if not notice:
                return
            yield notice
        self._told_end = True
        if not self._ending:
            yield f"Ray has ended, and its workers with it: {self._last_words()}"

    def end(self) -> None:
        """Have the actors end, then the process. Blocks for ten seconds at most."""
        self._ending = True
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def _listen(self) -> None:
        """Pass on what the process says, in a thread of its own."""
        assert self._process.stdout is not None
        with self._process.stdout as lines, suppress(RuntimeError):
            for line in lines:
                self._loop.call_soon_threadsafe(self._take, msgspec.json.decode(line, type=Told))
            self._process.wait()
            # the loop may have been closed in the meantime
            self._loop.call_soon_threadsafe(self._take, None)

    def _take(self, told: Told | None) -> None:
        if told is None:
            self._answers.put_nowait(None)
            self._notices.put_nowait(None)
        elif told.number:
            self._answers.put_nowait(told)
        else:
            self._notices.put_nowait(told.text)

    def _last_words(self) -> str:
        size = os.fstat(self._errors.fileno()).st_size
        words = programs.said(os.pread(self._errors.fileno(), _MOST_READ, max(0, size - _MOST_READ)))
        return words or programs.ended(self._process.returncode or 0)
