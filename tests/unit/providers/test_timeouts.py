"""The timeouts of exchanges: which one expires, when, and how rarely the timer checks. In virtual time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
import virtual

from runner.errors import AttemptError, AttemptTimeoutError, TransportError
from runner.providers.http import timeouts as module
from runner.providers.http.timeouts import LATE_LOOK_S, LATE_S, LOOK_S, TAIL_S, TICK_S, Timeouts, TimeoutTimer, Watch

pytestmark = pytest.mark.anyio

FAR = 60.0


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return virtual.BACKEND


@pytest.fixture(autouse=True)
def _one_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "monotonic", now)


def now() -> float:
    return asyncio.get_running_loop().time()


class Connection:
    """A connection that stores the error with which a timeout ends it."""

    def __init__(self) -> None:
        self.began = now()
        self.error: AttemptError | None = None
        self.after_s = 0.0

    def fail(self, error: AttemptError) -> None:
        self.error, self.after_s = error, now() - self.began


def timeouts(connect_s: float = FAR, first_byte_s: float = FAR, silence_s: float = FAR, attempt_s: float = FAR) -> Timeouts:
    return Timeouts(connect_s=connect_s, first_byte_s=first_byte_s, silence_s=silence_s, attempt_s=attempt_s)


def followed_watch(timer: TimeoutTimer) -> tuple[Watch, Connection]:
    watch, connection = Watch(timer), Connection()
    watch.follow(connection)
    return watch, connection


@pytest.mark.parametrize(
    ("values", "began", "kind", "words"),
    [
        (timeouts(first_byte_s=0.1), False, "first_byte", "no first byte within 0.1 s"),
        (timeouts(silence_s=0.1), True, "silence", "the answer stalled: no byte for 0.1 s"),
        (timeouts(attempt_s=0.1), False, "attempt", "the answer was not finished within 0.1 s"),
        (timeouts(attempt_s=0.1), True, "attempt", "the answer was not finished within 0.1 s"),
    ],
)
async def test_each_timeout_expires_once_and_in_time(values: Timeouts, began: bool, kind: str, words: str) -> None:
    timer = TimeoutTimer(values)
    watch, connection = followed_watch(timer)
    if began:
        watch.began()
    await anyio.sleep(0.3)
    assert isinstance(connection.error, AttemptTimeoutError)
    assert (connection.error.timeout, str(connection.error), connection.error.sent) == (kind, words, True)
    assert 0.09 <= connection.after_s <= 0.1 + TICK_S
    timer.close()


async def test_beats_restart_the_silence_timeout_but_not_that_of_the_attempt() -> None:
    timer = TimeoutTimer(timeouts(silence_s=0.1, attempt_s=0.35))
    watch, connection = followed_watch(timer)
    watch.began()
    for _ in range(10):
        await anyio.sleep(0.05)
        watch.beat()
    assert isinstance(connection.error, AttemptTimeoutError)
    assert connection.error.timeout == "attempt"
    assert 0.34 <= connection.after_s <= 0.35 + TICK_S


async def test_a_lost_connection_ends_its_exchange_a_little_later() -> None:
    timer = TimeoutTimer(timeouts())
    watch, connection = followed_watch(timer)
    watch.lose(0.1)
    # the first byte had arrived before, and is read only now
    watch.began()
    await anyio.sleep(0.2)
    assert isinstance(connection.error, TransportError)
    assert (connection.error.code, connection.error.verdict) == ("cut", "retry")


@pytest.mark.parametrize("then", [lambda watch: None, lambda watch: watch.lose(0.01), lambda watch: watch.began()])
async def test_a_closed_watch_ends_nothing(then: Callable[[Watch], None]) -> None:
    timer = TimeoutTimer(timeouts(first_byte_s=0.05, silence_s=0.05))
    watch, connection = followed_watch(timer)
    watch.close()
    then(watch)
    await anyio.sleep(0.15)
    assert connection.error is None


async def test_a_timeout_that_becomes_shorter_is_not_overlooked() -> None:
    timer = TimeoutTimer(timeouts(silence_s=0.1))
    _, waiting = followed_watch(timer)
    watch, connection = followed_watch(timer)
    await anyio.sleep(0.02)
    watch.began()
    await anyio.sleep(0.2)
    assert (connection.error is None, waiting.error) == (False, None)


@pytest.mark.parametrize(("values", "kind"), [(timeouts(connect_s=0.1), "connect"), (timeouts(attempt_s=0.1), "attempt")])
async def test_the_wait_for_a_connection_is_limited(values: Timeouts, kind: str) -> None:
    watch = Watch(TimeoutTimer(values))
    began = now()
    with pytest.raises(AttemptTimeoutError) as raised:
        await watch.connected(anyio.sleep(5))
    assert (raised.value.timeout, raised.value.sent) == (kind, False)
    assert 0.09 <= now() - began <= 0.12


async def test_a_timeout_of_the_system_is_not_ours() -> None:
    async def refused() -> None:
        raise TimeoutError("the kernel gave up")

    with pytest.raises(TimeoutError, match="kernel"):
        await Watch(TimeoutTimer(timeouts())).connected(refused())


async def test_a_cancellation_of_the_wait_for_a_connection_is_no_timeout() -> None:
    with anyio.move_on_after(0.05) as scope:
        await Watch(TimeoutTimer(timeouts(connect_s=1))).connected(anyio.sleep(5))
    assert scope.cancelled_caught


class _Counted(TimeoutTimer):
    checks = 0

    def _check(self) -> None:
        self.checks += 1
        super()._check()


@pytest.mark.parametrize("pause_s", [0.0, 0.0005])
async def test_hundreds_of_exchanges_cost_a_few_checks(pause_s: float) -> None:
    timer = _Counted(timeouts(first_byte_s=0.2))
    connections = []
    for _ in range(400):
        connections.append(followed_watch(timer)[1])
        await _waited(pause_s)
    await anyio.sleep(0.4)
    assert all(connection.error is not None for connection in connections)
    assert timer.checks <= 1.0 / TICK_S


def _waited(pause_s: float) -> Awaitable[None]:
    return asyncio.sleep(pause_s)


async def test_an_idle_client_needs_no_timer() -> None:
    timer = _Counted(timeouts(first_byte_s=0.1))
    for _ in range(50):
        followed_watch(timer)[0].close()
    await anyio.sleep(0.25)
    assert timer.checks == 1
    assert timer._handle is None


@pytest.mark.parametrize("heard", [True, False])
async def test_a_process_that_stood_still_looks_again_before_it_judges(heard: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    stood_s = 0.0
    monkeypatch.setattr(module, "monotonic", lambda: now() + stood_s)
    timer = TimeoutTimer(timeouts(silence_s=0.5))
    watch, connection = followed_watch(timer)
    watch.began()
    stood_s = 2 * LATE_S
    await anyio.sleep(0.5 + LATE_LOOK_S / 2)
    assert connection.error is None
    if heard:
        watch.beat()
        await anyio.sleep(0.4)
        assert connection.error is None
        watch.close()
        return
    await anyio.sleep(LATE_LOOK_S)
    assert isinstance(connection.error, AttemptTimeoutError)
    assert connection.error.timeout == "silence"


async def test_bytes_that_are_read_between_two_looks_are_signs_of_life() -> None:
    timer = TimeoutTimer(timeouts(silence_s=0.1))
    watch, connection = followed_watch(timer)
    watch.began()
    for _ in range(5):
        await anyio.sleep(0.1 + LOOK_S / 2)
        # the first look has been, and the loop has read what had arrived
        watch.beat()
    assert connection.error is None
    await anyio.sleep(0.2)
    assert connection.error is not None


async def test_behind_a_finish_reason_no_timeout_is_shorter_than_the_tail() -> None:
    timer = TimeoutTimer(timeouts(silence_s=0.1, attempt_s=0.2))
    watch, connection = followed_watch(timer)
    watch.tail()
    await anyio.sleep(TAIL_S - 0.1)
    assert connection.error is None
    # and once more does not count again
    watch.tail()
    await anyio.sleep(0.5)
    assert connection.error is not None


async def test_text_behind_a_finish_reason_brings_the_ordinary_timeout_back() -> None:
    timer = TimeoutTimer(timeouts(silence_s=0.1))
    watch, connection = followed_watch(timer)
    watch.tail()
    await anyio.sleep(0.5)
    watch.beat()
    watch.reopened()
    await anyio.sleep(0.2)
    assert isinstance(connection.error, AttemptTimeoutError)


async def test_the_message_says_whether_anything_had_come() -> None:
    timer = TimeoutTimer(timeouts(first_byte_s=0.1))
    watch, connection = followed_watch(timer)
    await anyio.sleep(0.05)
    watch.beat()
    await anyio.sleep(0.2)
    assert str(connection.error) == "no text: no byte within 0.1 s"
