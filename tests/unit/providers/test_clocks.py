"""The clocks of exchanges: which one runs out, when, and how seldom anybody looks. In virtual time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
import virtual

from runner.errors import AttemptError, AttemptTimeoutError, TransportError
from runner.providers.http import timeouts
from runner.providers.http.timeouts import TICK_S, Clocks, Deadlines, Watch

pytestmark = pytest.mark.anyio

FAR = 60.0


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return virtual.BACKEND


@pytest.fixture(autouse=True)
def _one_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeouts, "monotonic", now)


def now() -> float:
    return asyncio.get_running_loop().time()


class Line:
    """What a clock ends."""

    def __init__(self) -> None:
        self.began = now()
        self.error: AttemptError | None = None
        self.after_s = 0.0

    def fail(self, error: AttemptError) -> None:
        self.error, self.after_s = error, now() - self.began


def deadlines(connect_s: float = FAR, first_byte_s: float = FAR, silence_s: float = FAR, attempt_s: float = FAR) -> Deadlines:
    return Deadlines(connect_s=connect_s, first_byte_s=first_byte_s, silence_s=silence_s, attempt_s=attempt_s)


def followed(clocks: Clocks) -> tuple[Watch, Line]:
    watch, line = Watch(clocks), Line()
    watch.follow(line)
    return watch, line


@pytest.mark.parametrize(
    ("given", "began", "clock", "words"),
    [
        (deadlines(first_byte_s=0.1), False, "first_byte", "no first byte within 0.1 s"),
        (deadlines(silence_s=0.1), True, "silence", "the answer stalled: no byte for 0.1 s"),
        (deadlines(attempt_s=0.1), False, "attempt", "the answer was not finished within 0.1 s"),
        (deadlines(attempt_s=0.1), True, "attempt", "the answer was not finished within 0.1 s"),
    ],
)
async def test_each_clock_runs_out_once_and_in_time(given: Deadlines, began: bool, clock: str, words: str) -> None:
    clocks = Clocks(given)
    watch, line = followed(clocks)
    if began:
        watch.began()
    await anyio.sleep(0.3)
    assert isinstance(line.error, AttemptTimeoutError)
    assert (line.error.clock, str(line.error), line.error.sent) == (clock, words, True)
    assert 0.09 <= line.after_s <= 0.1 + TICK_S
    clocks.close()


async def test_beats_put_silence_off_but_not_the_end_of_the_attempt() -> None:
    clocks = Clocks(deadlines(silence_s=0.1, attempt_s=0.35))
    watch, line = followed(clocks)
    watch.began()
    for _ in range(10):
        await anyio.sleep(0.05)
        watch.beat()
    assert isinstance(line.error, AttemptTimeoutError)
    assert line.error.clock == "attempt"
    assert 0.34 <= line.after_s <= 0.35 + TICK_S


async def test_a_lost_connection_ends_its_exchange_a_little_later() -> None:
    clocks = Clocks(deadlines())
    watch, line = followed(clocks)
    watch.lose(0.1)
    # the first byte was there before, and is only now read
    watch.began()
    await anyio.sleep(0.2)
    assert isinstance(line.error, TransportError)
    assert (line.error.code, line.error.verdict) == ("cut", "retry")


@pytest.mark.parametrize("then", [lambda watch: None, lambda watch: watch.lose(0.01), lambda watch: watch.began()])
async def test_a_closed_watch_ends_nothing(then: Callable[[Watch], None]) -> None:
    clocks = Clocks(deadlines(first_byte_s=0.05, silence_s=0.05))
    watch, line = followed(clocks)
    watch.close()
    then(watch)
    await anyio.sleep(0.15)
    assert line.error is None


async def test_a_clock_that_is_set_short_later_is_not_overlooked() -> None:
    clocks = Clocks(deadlines(silence_s=0.1))
    _, waiting = followed(clocks)
    watch, line = followed(clocks)
    await anyio.sleep(0.02)
    watch.began()
    await anyio.sleep(0.2)
    assert (line.error is None, waiting.error) == (False, None)


@pytest.mark.parametrize(("given", "clock"), [(deadlines(connect_s=0.1), "connect"), (deadlines(attempt_s=0.1), "attempt")])
async def test_the_way_to_a_connection_is_bounded(given: Deadlines, clock: str) -> None:
    watch = Watch(Clocks(given))
    began = now()
    with pytest.raises(AttemptTimeoutError) as raised:
        await watch.connected(anyio.sleep(5))
    assert (raised.value.clock, raised.value.sent) == (clock, False)
    assert 0.09 <= now() - began <= 0.12


async def test_a_timeout_of_the_system_is_not_ours() -> None:
    async def refused() -> None:
        raise TimeoutError("the kernel gave up")

    with pytest.raises(TimeoutError, match="kernel"):
        await Watch(Clocks(deadlines())).connected(refused())


async def test_a_cancellation_on_the_way_to_a_connection_is_no_timeout() -> None:
    with anyio.move_on_after(0.05) as scope:
        await Watch(Clocks(deadlines(connect_s=1))).connected(anyio.sleep(5))
    assert scope.cancelled_caught


class _Counted(Clocks):
    looks = 0

    def _look(self) -> None:
        self.looks += 1
        super()._look()


@pytest.mark.parametrize("pause_s", [0.0, 0.0005])
async def test_a_thousand_exchanges_cost_a_few_looks(pause_s: float) -> None:
    clocks = _Counted(deadlines(first_byte_s=0.2))
    lines = []
    for _ in range(400):
        lines.append(followed(clocks)[1])
        await _waited(pause_s)
    await anyio.sleep(0.4)
    assert all(line.error is not None for line in lines)
    assert clocks.looks <= 1.0 / TICK_S


def _waited(pause_s: float) -> Awaitable[None]:
    return asyncio.sleep(pause_s)


async def test_a_client_at_rest_is_left_alone() -> None:
    clocks = _Counted(deadlines(first_byte_s=0.1))
    for _ in range(50):
        followed(clocks)[0].close()
    await anyio.sleep(0.25)
    assert clocks.looks == 1
    assert clocks._timer is None
