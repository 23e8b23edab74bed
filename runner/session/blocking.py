"""Runs an async call to its end from synchronous code."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio

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
    return anyio.run(call, backend_options={"use_uvloop": _has_uvloop()})


def _has_uvloop() -> bool:
    try:
        import uvloop  # noqa: F401
    except ImportError:
        return False
    return True
