"""A loop in a thread of its own, for synchronous code."""

import asyncio
from itertools import count

import pytest

from runner.session import blocking
from runner.session.blocking import LoopThread


async def _soon(number: int) -> int:
    await asyncio.sleep(0)
    return number


def test_a_result_that_comes_in_the_moment_in_which_a_wait_ends_is_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocking, "LOOK_S", 0)
    loop, numbers = LoopThread(), count()
    try:
        for number in (next(numbers) for _ in range(1_000)):
            assert loop.call(_soon(number)) == number
    finally:
        loop.end()


def test_what_the_work_raises_is_raised_a_timeout_too() -> None:
    async def late() -> None:
        raise TimeoutError("too late")

    loop = LoopThread()
    try:
        with pytest.raises(TimeoutError, match="too late"):
            loop.call(late())
    finally:
        loop.end()
