"""One call of ``HttpClient`` to a raw server, and its result: shared by the tests of faults on the wire."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import anyio
import pytest
from raw_server import Answers, RawServer, Reply

from runner.errors import AttemptError
from runner.interfaces import Decoder, Provider
from runner.model import Completion, Request
from runner.providers.dialects import anthropic, openai
from runner.providers.http import Caps, HttpClient, HttpExchange, Timeouts

MODULES: dict[str, ModuleType] = {"openai": openai, "anthropic": anthropic}
CALM = Timeouts(connect_s=5.0, first_byte_s=10.0, silence_s=10.0, attempt_s=30.0)
SHORT = Timeouts(connect_s=5.0, first_byte_s=0.2, silence_s=0.2, attempt_s=5.0)
BEFORE_RESET_S = 0.05
"""Seconds before a reset, so that the bytes before it have been read when it comes."""
SETTLE_S = 0.03
PATIENCE_S = 60.0
"""Seconds that a test waits at most for what must come: how soon it comes says more about the machine."""

DIALECTS = pytest.mark.parametrize("dialect", ["openai", "anthropic"])
HAS_UVLOOP = find_spec("uvloop") is not None
PROGRAM_LOOP: tuple[str, dict[str, Any]] = ("asyncio", {"use_uvloop": HAS_UVLOOP})
"""The event loop that the program uses."""
BOTH_LOOPS = pytest.mark.parametrize(
    "anyio_backend",
    [
        pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
        pytest.param(
            ("asyncio", {"use_uvloop": True}), id="uvloop", marks=pytest.mark.skipif(not HAS_UVLOOP, reason="not there")
        ),
    ],
)
"""For faults of the connection, which the two loops report differently."""


@dataclass
class Got:
    """The result of one call."""

    error: AttemptError | None
    exchange: HttpExchange
    decoder: Decoder
    # what made the call; it remembers what the answers of the endpoint have taught
    provider: Provider | None = None

    @property
    def completion(self) -> Completion:
        assert self.error is None, repr(self.error)
        return self.decoder.completion()

    @property
    def failure(self) -> AttemptError:
        assert self.error is not None, self.decoder.completion()
        return self.error

    def is_(self, kind: type[AttemptError], code: str, verdict: str, *, sent: bool = True) -> None:
        found = self.failure
        assert (type(found), found.code, found.verdict, found.sent) == (kind, code, verdict, sent), found


MADE: dict[str, Any] = {"client": lambda _: HttpClient, "provider": lambda made: made}
"""What ``ask`` makes of a dialect, and of a provider. A test may put other functions there, and has another client."""


def provider(base_url: str, dialect: str = "openai") -> Provider:
    made: Provider = MODULES[dialect].make(base_url, "a-test-key", version="0")
    return made


async def until(condition: Callable[[], object]) -> None:
    """Wait for something of which nobody tells."""
    with anyio.fail_after(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - see above
            await anyio.sleep(0.005)


async def call(
    client: HttpClient, base_url: str, dialect: str = "openai", prompt: str = "Hi", *, made: Provider | None = None
) -> Got:
    """Make one call. made: the provider of an earlier call, for what it remembers."""
    made = made or provider(base_url, dialect)
    exchange, decoder = client.exchange(), MADE["provider"](made).decoder()
    error = None
    request = made.encode(Request(model="m", messages=({"role": "user", "content": prompt},)))
    try:
        await client.stream(request, decoder, exchange, made.error)
    except AttemptError as raised:
        error = raised
    assert (error is None) <= decoder.complete
    return Got(error, exchange, decoder, made)


async def ask(
    answers: Answers,
    dialect: str = "openai",
    *,
    timeouts: Timeouts = CALM,
    caps: Caps | None = None,
    prompt: str = "Hi",
    early: bool = False,
) -> Got:
    """Make one call to a server of its own."""
    async with RawServer(answers, early=early) as server, MADE["client"](dialect)(timeouts, caps) as client:
        return await call(client, server.base_url, dialect, prompt)


@asynccontextmanager
async def under_way(answer: Reply, events: int) -> AsyncIterator[tuple[list[Got], anyio.CancelScope, Callable[[], bool]]]:
    """Have a call in flight; gives where its result will be, its scope, and whether so many events were decoded."""
    results: list[Got] = []
    scope = anyio.CancelScope()
    async with RawServer(answer) as server, HttpClient(CALM) as client:
        made = provider(server.base_url)
        exchange, decoder = client.exchange(), made.decoder()
        request = made.encode(Request(model="m", messages=({"role": "user", "content": "Hi"},)))

        async def one() -> None:
            with scope:
                await client.stream(request, decoder, exchange, made.error)
                results.append(Got(None, exchange, decoder))

        async with anyio.create_task_group() as group:
            group.start_soon(one)
            yield results, scope, lambda: exchange.bytes_received >= events
