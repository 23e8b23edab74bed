"""Runs an async call to its end from synchronous code."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")


def blocking(call: Callable[[], Awaitable[T]]) -> T:
    """Run an async call to its end, on uvloop if it is installed.

    If this thread already runs an event loop (as in a notebook), the call runs in a thread of its own.
    """
    # asked this way, no error of the call has "no running event loop" as its context
    return _run(call) if _no_loop() else _run_in_thread(call)


def _no_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return True
    return False


def _run_in_thread(call: Callable[[], Awaitable[T]]) -> T:
    """Run an async call in a new thread and wait for it. If the wait is interrupted, cancel the call and wait for its end."""
    result: list[T] = []
    failure: list[BaseException] = []
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []

    async def cancellable() -> T:
        task = asyncio.current_task()
        assert task is not None
        running.append((asyncio.get_running_loop(), task))
        return await call()

    def work() -> None:
        try:
            result.append(_run(cancellable))
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            failure.append(error)
        finally:
            done.set()

    # an event and not Thread.join: in Python 3.11 a thread counts as ended after an interrupted join
    done = threading.Event()
    threading.Thread(target=work).start()
    try:
        done.wait()
    except BaseException:
        # without this the call would send requests after its caller has gone
        for loop, task in running:
            loop.call_soon_threadsafe(task.cancel)
        done.wait()
        raise
    if failure:
        raise failure[0]
    return result[0]


def _run(call: Callable[[], Awaitable[T]]) -> T:
    # not anyio.run, which refuses in a thread of an anyio program, where the thread has inherited the context of the program
    with asyncio.Runner(loop_factory=_new_loop()) as runner:
        return runner.run(_awaited(call))


async def _awaited(call: Callable[[], Awaitable[T]]) -> T:
    return await call()


def _new_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
