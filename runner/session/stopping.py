"""Asks a session to stop: from a signal or from another thread. The command and the Python API stop alike.

The states of a session, and what leads from one to the next:

    at work
      | first request or signal
    stopping: open requests may finish, for up to GRACE_S
      | second
    dropping: open requests are cancelled, and recorded as that
      | third, a signal; at once if a signal handler of the program raises
    cancelled: the session itself ends
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Generic, NoReturn, TypeVar

import anyio

from runner.engine.stop import Stop
from runner.errors import RunStoppedError
from runner.session.blocking import LOOK_S, blocking
from runner.session.signals import on_signals
from runner.text import clean, encodable

GRACE_S = 30.0
"""How long open requests may take after the first request to stop, in seconds."""

BY_PROGRAM = "stopped by the program"
"""Stop reason when the program ended the session and gave no reason."""

STOPPED_BY = "stopped by "
"""Beginning of the stop reason when a signal ended the session; the name of the signal follows."""

BY_COMMAND = "stopped by `runner stop`"
"""Stop reason when somebody ended the session at its socket."""

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
        self._preparing: list[Callable[[], None]] = []

    def request(self, reason: str = BY_PROGRAM) -> None:
        """Ask for the stop: no further request is sent. A second call drops the open requests. reason: stored with the run.

        Never raises: whoever asks for a stop, perhaps from a timer, gets it whatever the reason is.
        """
        words = reason if isinstance(reason, str) else repr(reason) if reason else ""
        self._reasons.append(encodable(words).strip() or BY_PROGRAM)
        self._wake()

    def __repr__(self) -> str:
        return f"<StopHandle: {'asked to stop (' + clean(self._reasons[0]) + ')' if self._reasons else 'not asked to stop'}>"

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled."""
        raise TypeError("a StopHandle cannot be pickled: it stops runs of its own process only; send the other process a signal")

    def signalled(self, kind: int) -> None:
        """Ask for the stop as a signal does; the third signal cancels the session."""
        self._cancelled = len(self._reasons) > 1
        self.request(STOPPED_BY + ("Ctrl-C" if kind == signal.SIGINT else signal.Signals(kind).name))

    def cancelled(self) -> None:
        """Ask for the stop as a signal does, because a task that waits for the session was cancelled."""
        self._cancelled = len(self._reasons) > 1
        self.left()

    def left(self) -> None:
        """Ask for the stop because nobody waits for the session. One that is not prepared yet does not begin."""
        self.request()
        for end in tuple(self._preparing):
            end()

    @contextmanager
    def preparing(self) -> Iterator[None]:
        """Prepare a session, such as by taking rows that come slowly, until ``left``. Raises RunStoppedError then.

        Meanwhile the loop turns often: in one that waits for nothing but a slow row, the handler of a signal that cancels the
        task, such as that of a notebook, would not be seen before the row comes.
        """
        loop, scope = asyncio.get_running_loop(), anyio.CancelScope()

        def end() -> None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(scope.cancel)

        timers = list[asyncio.TimerHandle]()

        def turn() -> None:
            timers[:] = [loop.call_later(LOOK_S, turn)]

        turn()
        self._preparing.append(end)
        try:
            with scope:
                yield
        finally:
            timers[0].cancel()
            self._preparing.remove(end)
        if scope.cancelled_caught:
            raise RunStoppedError("stopped before the run began; nothing was sent", code="cancelled")

    def _wake(self) -> None:
        for wake in tuple(self._sessions):
            wake()

    async def run(self, execute: Callable[[Stop], Awaitable[T]]) -> T:
        """Execute a session that this handle can stop. Raises KeyboardInterrupt if a third signal has cancelled it."""
        stop, loop, scope = Stop(), asyncio.get_running_loop(), anyio.CancelScope()
        stop.ask = self.request

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

    Raises KeyboardInterrupt after Ctrl-C, even if the run has finished: the rest of the program was to stop as well. For the same
    reason raises what the observer raised that is no error, such as SystemExit.
    """
    handle, observed = handle or StopHandle(), _Observed(session)
    with on_signals((signal.SIGINT,), handle.signalled) as caught:
        try:
            result = blocking(lambda: handle.run(observed))
        finally:
            if (raised := observed.raised) is not None:
                raise raised from raised.__cause__
    if caught:
        raise KeyboardInterrupt
    return result


def begun(session: Callable[[Stop], Awaitable[T]], handle: StopHandle) -> "asyncio.Task[T]":
    """Run a session in a task of the running event loop. ``ended`` waits for it.

    What its observer raises that is no error, such as SystemExit, ends the session, and ``ended`` raises it.
    """
    observed = _Observed(session)

    async def work() -> T:
        try:
            result = await handle.run(observed)
        except KeyboardInterrupt:
            # a task that ends with it would end the program's loop at once
            raise asyncio.CancelledError from None
        finally:
            if (raised := observed.raised) is not None:
                raise _RaisedError from raised
        return result

    return asyncio.get_running_loop().create_task(work())


async def ended(task: "asyncio.Task[T]", handle: StopHandle) -> T:
    """Wait for the end of a session, and return its result. To be cancelled meanwhile is to it what Ctrl-C is to a command.

    The first time it stops: open requests may finish for up to ``GRACE_S``. The second time they are dropped. Then the
    cancellation goes on.
    """
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            # a scope of anyio that is cancelled would repeat it at each wait
            with anyio.CancelScope(shield=cancelled is not None):
                await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
            handle.cancelled()
    failure = None if task.cancelled() else task.exception()
    if isinstance(failure, _RaisedError) and failure.__cause__ is not None:
        raise failure.__cause__ from failure.__cause__.__cause__
    if cancelled is not None:
        raise cancelled
    return task.result()


def interruption(stop: Stop) -> Callable[[BaseException], None]:
    """Return what ends a session because its observer raised what is no error, such as SystemExit."""

    def end(error: BaseException) -> None:
        stop.raised = error
        stop.request(BY_PROGRAM, grace_s=GRACE_S)

    return end


class _Observed(Generic[T]):
    """A session, and what its observer raised that is no error; it is raised when the session has ended."""

    def __init__(self, session: Callable[[Stop], Awaitable[T]]) -> None:
        self._session = session
        self._stop: Stop | None = None

    def __call__(self, stop: Stop) -> Awaitable[T]:
        self._stop = stop
        return self._session(stop)

    @property
    def raised(self) -> BaseException | None:
        """What the observer raised; None if nothing."""
        return self._stop.raised if self._stop is not None else None


class _RaisedError(Exception):
    """What an observer raised, which a task may not end with."""
