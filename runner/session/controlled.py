"""The socket of a session, for its time: who watches or steers it comes in there. Without anybody, it costs nothing."""

import logging
import os
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

import anyio

from runner.errors import StoreError
from runner.store.checkpoint import RunStore

if TYPE_CHECKING:
    from runner.control.server import ControlServer
    from runner.session.working import Working

logger = logging.getLogger("runner")


class Controlled:
    """Lets others watch and steer a session, from ``begin`` until its summary has been told."""

    def __init__(self) -> None:
        self._server: ControlServer | None = None

    async def begin(self, session: "Working", store: RunStore) -> None:
        """Listen. store: of the run, whose lock is held. A session goes on without a socket if it can have none."""
        if sys.platform == "win32":
            return
        # imported here, so that commands start quickly
        from runner.control.messages import Hello
        from runner.control.place import listen
        from runner.control.server import ControlServer
        from runner.sharing.folder import NoFolderError

        try:
            number = session.steering.session = await store.session_number()
            listening = listen(store.path, store.run_id)
        except (OSError, NoFolderError, StoreError) as error:
            # nobody may ever want to steer it
            logger.info("run %d cannot be watched or steered: %s", store.run_id, error)
            return
        session.feed.session = number
        hello = Hello(run=store.run_id, session=number, pid=os.getpid())
        self._server = ControlServer(listening, hello, session.steering.answer, session.feed)
        self._server.begin()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._server is not None:
            with anyio.CancelScope(shield=True):
                await self._server.aclose()
            self._server.feed.close()
