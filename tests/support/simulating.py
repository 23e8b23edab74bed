"""Requests to a simulator in the same event loop, and what it answers."""

import asyncio
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import pytest
from anyio.from_thread import start_blocking_portal

from runner.simulator import Behaviour, Simulator

OPENAI = "/v1/chat/completions"
ANTHROPIC = "/v1/messages"
BOTH = pytest.mark.parametrize("path", [OPENAI, ANTHROPIC])
VERSION = {"anthropic-version": "2023-06-01"}


def http_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10))


def quick(**settings: Any) -> Simulator:
    return Simulator(Behaviour(**{"first_token_s": 0.0, "chunk_s": 0.0, "tokens": 6, **settings}))


@contextmanager
def served(**behaviour: Any) -> Iterator[Simulator]:
    """A simulator in another thread: each one draws the same answers again."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(quick(**behaviour)) as server:
        yield server


def body(prompt: str = "hello", **fields: object) -> bytes:
    asked = {
        "model": "some/model",
        "messages": [{"role": "user", "content": prompt}],
        "stream": True,
        "max_tokens": 1000,
        **fields,
    }
    return json.dumps({name: value for name, value in asked.items() if value is not None}).encode()


async def post(
    http: aiohttp.ClientSession,
    server: Simulator,
    path: str,
    data: bytes,
    **headers: str,
) -> tuple[int, dict[str, str], bytes]:
    sent = {**VERSION, **{name.replace("_", "-"): value for name, value in headers.items()}}
    # As a file, because the library warns of large bodies that are bytes.
    async with http.post(server.url + path, data=io.BytesIO(data), headers=sent) as response:
        return response.status, {name.lower(): value for name, value in response.headers.items()}, await response.read()


def datas(stream: bytes) -> list[Any]:
    """The JSON of every data line; each event must be one block closed by an empty line."""
    assert stream.endswith(b"\n\n")
    lines = [line for block in stream.decode().split("\n\n") for line in block.split("\n")]
    found = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    return [one if one == "[DONE]" else json.loads(one) for one in found]


def text_of(stream: bytes) -> str:
    text = ""
    for data in datas(stream):
        if "choices" in data:
            text += "".join(choice["delta"].get("content", "") for choice in data["choices"])
        elif data != "[DONE]" and data["type"] == "content_block_delta":
            text += data["delta"]["text"]
    return text


async def raw(server: Simulator, path: str, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nanthropic-version: 1\r\nContent-Length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data)
    return reader, writer


async def close(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    # The transport lets go of its socket one turn later.
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def until(reached: Callable[[], bool]) -> None:
    """Wait for what happens on the other side of a socket; the limit only keeps a broken test from hanging."""
    async with asyncio.timeout(60):
        while not reached():  # noqa: ASYNC110 - the other side has no event to wait for
            await asyncio.sleep(0.001)


async def collect(reader: asyncio.StreamReader, received: bytearray) -> None:
    while chunk := await reader.read(65536):
        received += chunk
