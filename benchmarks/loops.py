"""The clients that runner is compared with, each in its own process: a minimal loop, and what a user would write with an SDK.

The time is measured from the first request to the last answer; imports and the interpreter's start are excluded. Nothing is
stored.
"""

import argparse
import asyncio
import importlib
import json
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import aiohttp

from benchmarks.streams import text

_MODEL = "m"


class Work(NamedTuple):
    """The work of a loop."""

    base_url: str
    items: int
    in_flight: int
    # called with the text and the tokens of every answer
    take: Callable[[str, int | None], None]

    def prompts(self) -> Iterator[str]:
        """Return an iterator over the prompts, which all workers share."""
        return (f"Tell me about the number {number}." for number in range(self.items))


async def bare(work: Work) -> None:
    """Post with aiohttp from ``in_flight`` workers; split events as bytes, and parse them with ``json``."""
    prompts, url = work.prompts(), f"{work.base_url}/chat/completions"
    headers = {"content-type": "application/json", "authorization": "Bearer none"}

    async def worker(session: aiohttp.ClientSession) -> None:
        for prompt in prompts:
            body = {
                "model": _MODEL,
                "messages": [{"role": "user", "content": prompt}],
                "stream": True,
                "stream_options": {"include_usage": True},
            }
            async with session.post(url, data=json.dumps(body).encode(), headers=headers) as response:
                response.raise_for_status()
                work.take(*await _read(response.content))

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session, asyncio.TaskGroup() as group:
        for _ in range(work.in_flight):
            group.create_task(worker(session))


async def _read(content: aiohttp.StreamReader) -> tuple[str, int | None]:
    words: list[str] = []
    tokens, held = None, b""
    async for data in content.iter_any():
        *events, held = (held + data).split(b"\n\n")
        for event in events:
            if event == b"data: [DONE]":
                continue
            chunk = json.loads(event[6:])
            if chunk["choices"]:
                words.append(chunk["choices"][0]["delta"].get("content") or "")
            if usage := chunk.get("usage"):
                tokens = usage["completion_tokens"]
    return "".join(words), tokens


async def sdk(work: Work, *, aiohttp_client: bool = False) -> None:
    """Use the openai SDK as its users do: one task per prompt, and a semaphore."""
    # not among our dependencies, so the type checker may know it or not
    openai: Any = importlib.import_module("openai")
    more = {"http_client": openai.DefaultAioHttpClient()} if aiohttp_client else {}
    async with openai.AsyncOpenAI(base_url=work.base_url, api_key="none", max_retries=0, **more) as client:
        await _gather(work, partial(client.chat.completions.create, model=_MODEL))


async def litellm(work: Work) -> None:
    """Use litellm in the same way."""
    # otherwise it downloads a price list
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    library: Any = importlib.import_module("litellm")
    await _gather(work, partial(library.acompletion, model=f"openai/{_MODEL}", api_base=work.base_url, api_key="none"))


async def _gather(work: Work, create: Callable[..., Awaitable[Any]]) -> None:
    slots = asyncio.Semaphore(work.in_flight)

    async def one(prompt: str) -> None:
        messages = [{"role": "user", "content": prompt}]
        async with slots:
            answer = await create(messages=messages, stream=True, stream_options={"include_usage": True})
            words: list[str] = []
            tokens = None
            async for chunk in answer:
                if chunk.choices:
                    words.append(chunk.choices[0].delta.content or "")
                if usage := getattr(chunk, "usage", None):
                    tokens = usage.completion_tokens
            work.take("".join(words), tokens)

    await asyncio.gather(*map(one, work.prompts()))


LOOPS: dict[str, Callable[[Work], Awaitable[None]]] = {
    "bare": bare,
    "sdk": sdk,
    "sdk_aiohttp": partial(sdk, aiohttp_client=True),
    "litellm": litellm,
}
COLD = ("bare",)
"""Loops that are measured without a warm-up request."""


async def _timed(name: str, base_url: str, items: int, in_flight: int, chunks: int) -> dict[str, float]:
    right, expected = 0, text(chunks)

    def take(words: str, tokens: int | None) -> None:
        nonlocal right
        right += words == expected and tokens == chunks

    if name not in COLD:
        # an SDK imports half of its modules at the first request
        await LOOPS[name](Work(base_url, 1, 1, lambda _words, _tokens: None))
    wall, cpu = time.monotonic(), time.process_time()
    await LOOPS[name](Work(base_url, items, in_flight, take))
    return {"wall_s": time.monotonic() - wall, "cpu_s": time.process_time() - cpu, "right": right}


def main() -> None:
    """Parse the command line, run the loop on asyncio's own event loop, print the result as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loops", description=__doc__)
    parser.add_argument("name", choices=LOOPS)
    parser.add_argument("base_url")
    for number in ("items", "in_flight", "chunks"):
        parser.add_argument(number, type=int)
    print(json.dumps(asyncio.run(_timed(**vars(parser.parse_args())))))


if __name__ == "__main__":
    main()
