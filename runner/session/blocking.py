"""Runs an async call to its end from synchronous code."""

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import Any, TypeVar

from runner.errors import RunnerError, RunStoppedError, UsageError
from runner.session.signals import held_back

T = TypeVar("T")

LOOK_S = 0.25
"""How often a waiting thread looks for signals, in seconds. The handler of one that comes in the moment before it waits would
otherwise run when the wait is over: a second Ctrl-C that is lost."""


class _Running:
    """The task of a call, from the moment in which its loop runs, and whether it was cancelled before."""

    def __init__(self) -> None:
        self._task: asyncio.Task[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._cancelled = False

    def begin(self) -> None:
        """Note the task that runs now."""
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        if self._cancelled:
            self.cancel()

    def cancel(self) -> None:
        """Cancel the call; from any thread, and before it begins."""
        self._cancelled = True
        if self._loop is not None and self._task is not None:
            # the loop may have been closed in the meantime
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._task.cancel)


def blocking(call: Callable[[], Awaitable[T]]) -> T:
    """Run an async call to its end, on uvloop if it is installed.

    If this thread already runs an event loop (as in a notebook), the call runs in a thread of its own.
    If a signal handler of the program raises, the call is cancelled, and when it has ended that is raised.
    """
    running = _Running()
    with held_back(running.cancel) as raised:
        try:
            # asked this way, no error of the call has "no running event loop" as its context
            return _run(call, running) if _no_loop() else _run_in_thread(call, running)
        finally:
            if raised:
                # with the cause that it has, and without the error in which the cancelled call ended
                raise raised[0] from raised[0].__cause__


def _no_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        # trio marks the thread while a task of its own runs in it, and asyncio's libraries would take that for their loop
        sniffio = sys.modules.get("sniffio")
        return sniffio is None or getattr(sniffio.thread_local, "name", None) is None
    return False


def _run_in_thread(call: Callable[[], Awaitable[T]], running: _Running) -> T:
    """Run an async call in a new thread and wait for it. If the wait is interrupted, cancel the call and wait for its end."""
    result: list[T] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            result.append(_run(call, running))
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            failure.append(error)
        finally:
            done.set()

    # an event and not Thread.join: in Python 3.11 a thread counts as ended after an interrupted join
    done = threading.Event()
    threading.Thread(target=work).start()
    try:
        while not done.wait(LOOK_S):
            pass
    except BaseException:
        # without this the call would send requests after its caller has gone
        running.cancel()
        done.wait()
        raise
    if failure:
        raise failure[0]
    return result[0]


def _run(call: Callable[[], Awaitable[T]], running: _Running) -> T:
    async def awaited() -> T:
        running.begin()
        return await call()

    # not anyio.run, which refuses in a thread of an anyio program, where the thread has inherited the context of the program
    with asyncio.Runner(loop_factory=_new_loop()) as runner:
        loop = runner.get_loop()
        task = loop.create_task(awaited())
        try:
            return loop.run_until_complete(task)
        except BaseException:
            # Raised beside the call, and not by it. The runner would now cancel all tasks at once, that which saves answers too.
            if not task.done():
                task.cancel()
                with suppress(Exception, BaseExceptionGroup, asyncio.CancelledError):
                    loop.run_until_complete(task)
            raise


def _new_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


class LoopThread:
    """An event loop that runs in a thread of its own until ``end``, for synchronous code that comes back to it."""

    def __init__(self) -> None:
        self._loop = (_new_loop() or asyncio.new_event_loop)()
        self._thread = threading.Thread(target=self._loop.run_forever, name="runner", daemon=True)
        self._thread.start()
        self._ending, self._ended = threading.Lock(), False

    def call(self, work: Coroutine[Any, Any, T], interrupted: Callable[[], None] | None = None) -> T:
        """Run ``work`` in the loop, and wait for its result; from any thread.

        interrupted: called each time that the wait is interrupted by Ctrl-C, which is raised behind the end of the work. None: it
        ends the wait. Raises UsageError in the loop's own thread, which would wait for itself, and RunStoppedError after ``end``.
        """
        future, raised = self._begun(work), None
        while not future.done():
            try:
                # a short wait lets a signal be handled that comes in the moment before it
                wait([future], LOOK_S)
            except KeyboardInterrupt as error:
                if interrupted is None:
                    raise
                raised = error
                interrupted()
        if raised is not None:
            raise raised
        return future.result()

    def _begun(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        try:
            if threading.current_thread() is self._thread:
                raise UsageError("an observer cannot wait for the session that it observes; ask from another thread")
            with self._ending:
                if self._ended:
                    raise RunStoppedError("the session has ended, so ask in a new one", code="cancelled")
                return asyncio.run_coroutine_threadsafe(work, self._loop)
        except RunnerError:
            # what is never begun would be reported as forgotten
            work.close()
            raise

    def end(self) -> None:
        """End what still runs, the loop and its thread."""
        with self._ending:
            self._ended = True
        asyncio.run_coroutine_threadsafe(_cancel_others(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel_others() -> None:
    """Cancel what other threads still wait for, so that none waits for ever."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
