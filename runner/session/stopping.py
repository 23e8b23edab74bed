"""Asks a session to stop: from a signal or from another thread. The command and the Python API stop alike.

The states of a session, and what leads from one to the next:

    at work
      | first request or signal
    stopping: open requests may finish, for up to GRACE_S
      | second
    dropping: open requests are cancelled, and recorded as that
      | third, a signal
    cancelled: the session itself ends
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, suppress
from typing import TypeVar

import anyio

from runner.engine.stop import Stop
from runner.session.blocking import blocking
from runner.session.signals import on_signals

GRACE_S = 30.0
"""How long open requests may take after the first request to stop, in seconds."""

STOPPED_BY = "stopped by "
"""Beginning of the stop reason when a signal ended the session; the name of the signal follows."""

T = TypeVar("T")


def _interrupt(_kind: int) -> None:
    raise KeyboardInterrupt


def interruptible() -> AbstractContextManager[object]:
    """Let Ctrl-C raise KeyboardInterrupt at once, also in a program whose event loop has taken the signal over.

    For what happens before a session: that loop does not run meanwhile, so its Ctrl-C would be lost and the session would start.
    """
    return on_signals((signal.SIGINT,), _interrupt)


class StopHandle:
    """Stops the runs that it was given to. ``request`` may be called from any thread, before a run and during it.

    A handle that was asked stays asked: a later run with it stops at once.
    """

    def __init__(self) -> None:
        self._reasons: list[str] = []
        self._cancelled = False
        self._sessions: list[Callable[[], None]] = []

    def request(self, reason: str = "stopped by the program") -> None:
        """Ask for the stop: no further request is sent. A second call drops the open requests. reason: stored with the run."""
        self._reasons.append(reason)
        self._wake()

    def signalled(self, kind: int) -> None:
        """Ask for the stop as a signal does; the third signal cancels the session."""
        self._cancelled = len(self._reasons) > 1
        self.request(STOPPED_BY + ("Ctrl-C" if kind == signal.SIGINT else signal.Signals(kind).name))

    def _wake(self) -> None:
        for wake in tuple(self._sessions):
            wake()

    async def run(self, execute: Callable[[Stop], Awaitable[T]]) -> T:
        """Execute a session that this handle can stop. Raises KeyboardInterrupt if a third signal has cancelled it."""
        stop, loop, scope = Stop(), asyncio.get_running_loop(), anyio.CancelScope()

        def act() -> None:
            if self._reasons:
                stop.request(self._reasons[0], grace_s=GRACE_S if len(self._reasons) == 1 else 0.0)
            if self._cancelled:
                scope.cancel()

        def wake() -> None:
            # the loop may have been closed in the meantime
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(act)

        self._sessions.append(wake)
        try:
            act()
            with scope:
                return await execute(stop)
        finally:
            self._sessions.remove(wake)
        raise KeyboardInterrupt


def stoppable(session: Callable[[Stop], Awaitable[T]], handle: StopHandle | None) -> T:
    """Run a session to its end from synchronous code. Ctrl-C and the handle stop it.

    Raises KeyboardInterrupt after Ctrl-C, even if the run has finished: the rest of the program was to stop as well.
    """
    handle = handle or StopHandle()
    with on_signals((signal.SIGINT,), handle.signalled) as caught:
        result = blocking(lambda: handle.run(session))
    if caught:
        raise KeyboardInterrupt
    return result
