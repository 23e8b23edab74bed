"""Workers that come by themselves: the listener, the file with the token, and the engine that places them."""

import asyncio
import shlex
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from runner.frames import Link
from runner.interfaces import Engine, Invitation
from runner.text import clean
from runner.workers.crew import Crew
from runner.workers.door import Door
from runner.workers.local import RESTARTS, WITHIN_S
from runner.workers.member import Member
from runner.workers.token_file import TokenFile

END_S = 10.0
"""Seconds that an engine has to end what it has started."""
LEFT_S = 5.0
"""Seconds in which a worker may still join after its engine has told that nothing is left of what it has placed."""


class Hosting:
    """Lets workers join. address: HOST or HOST:PORT. store: the file beside which the token is written, for this user alone.

    engine: places so many workers (``count``); None: they are started by somebody else. tell: tells the user a sentence.
    """

    def __init__(
        self, crew: Crew, address: str, store: Path, tell: Callable[[str], None], engine: Engine | None = None, count: int = 0
    ) -> None:
        self._crew, self._store, self._tell = crew, store, tell
        self._engine, self._count = engine, count
        self._door = Door(address, self._enter)
        self._invitation: Invitation | None = None
        self._starts: deque[float] = deque(maxlen=RESTARTS * max(1, count))
        self._watching: asyncio.Task[None] | None = None
        self._file: TokenFile | None = None
        # with which workers join; None: an engine starts them
        self.command: str | None = None

    async def begin(self) -> None:
        """Listen, and have the engine place workers. Raises UsageError."""
        where = await self._door.open()
        self._file = TokenFile(self._store, where, self._door.token.text, "the workers")
        join = f"runner worker --connect {where}"
        if self._engine is None:
            self.command = f"{join} --token-file {shlex.quote(str(self._file.path))}"
            self._tell(f"workers join with: {self.command}")
            return
        command = (sys.executable, "-P", "-m", "runner", "worker", "--connect", where)
        variables = tuple(self._crew.work.secrets)
        token = self._door.token.text
        self._invitation = Invitation(address=where, token=token, variables=variables, command=command)
        self._crew.again = self._again
        await self._engine.start(self._count, self._invitation)
        self._watching = asyncio.get_running_loop().create_task(self._watch(self._engine))

    async def _again(self) -> None:
        """Place another worker for one that is lost, unless that has happened too often. Raises UsageError."""
        now = monotonic()
        if self._engine is None or self._invitation is None:
            return
        if len(self._starts) == self._starts.maxlen and now - self._starts[0] < WITHIN_S:
            return
        self._starts.append(now)
        await self._engine.start(1, self._invitation)

    async def _watch(self, engine: Engine) -> None:
        """Show what an engine tells. It decides nothing, so it may also fail.

        When nothing is left of what it has placed, and no worker is here, none will come: then the run is not to wait for ever.
        """
        notice = ""
        try:
            while True:
                async for notice in engine.watch():
                    self._tell(clean(notice, 500))
                # one may be on its way
                await asyncio.sleep(LEFT_S)
                if not self._crew.occupied:
                    self._crew.expect_none(clean(notice, 500))
                    return
        except Exception as error:  # noqa: BLE001 - an engine of a plug-in
            self._tell(f"nothing more is heard of the engine: {clean(str(error), 300)}")

    def _enter(self, link: Link) -> None:
        number = self._crew.next_number()
        self._crew.add(Member(number, f"worker {number}", self._crew.work, self._crew, link))

    async def end(self) -> None:
        """Let nobody in any more, and end what the engine has started."""
        self._door.close()
        if self._file is not None:
            self._file.remove()
        if self._watching is not None:
            self._watching.cancel()
        if self._engine is not None:
            try:
                async with asyncio.timeout(END_S):
                    await self._engine.end()
            except Exception as error:  # noqa: BLE001 - an engine of a plug-in; the session has ended well
                self._tell(f"the engine has not ended its workers: {clean(str(error) or 'it took too long', 300)}")
