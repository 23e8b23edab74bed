"""Runs an async call to its end from synchronous code."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio

T = TypeVar("T")


def blocking(call: Callable[[], Awaitable[T]]) -> T:
    """Run an async call to its end, on uvloop where there is one.

    Where a loop runs already (a notebook) it gets a thread of its own.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run(call)
    outcome: list[T] = []
    failure: list[BaseException] = []
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []

    async def noted() -> T:
        task = asyncio.current_task()
        assert task is not None
        running.append((asyncio.get_running_loop(), task))
        return await call()

    def work() -> None:
        try:
            outcome.append(_run(noted))
        except BaseException as error:  # noqa: BLE001 - carried over to the caller's thread
            failure.append(error)
        finally:
            done.set()

    # not join: an interrupted join takes the thread for ended in Python 3.11
    done = threading.Event()
    threading.Thread(target=work).start()
    try:
        done.wait()
    except BaseException:
        # interrupted: the work must end too, or it would go on buying behind the caller's back
        for loop, task in running:
            loop.call_soon_threadsafe(task.cancel)
        done.wait()
        raise
    if failure:
        raise failure[0]
    return outcome[0]


def _run(call: Callable[[], Awaitable[T]]) -> T:
    try:
        import uvloop  # noqa: F401
    except ImportError:
        return anyio.run(call)
    return anyio.run(call, backend_options={"use_uvloop": True})
