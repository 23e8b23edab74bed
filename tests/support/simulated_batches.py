"""A simulator's batch APIs, as a plain client of each vendor uses them."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx

from runner.simulator import Behaviour, Simulator

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages/batches"
KEY = {"authorization": "Bearer k1", "x-api-key": "k1", "anthropic-version": "2023-06-01"}
OTHER_KEY = {**KEY, "authorization": "Bearer k2", "x-api-key": "k2"}


def simulated(**settings: Any) -> Simulator:
    return Simulator(Behaviour(**{"first_token_s": 0.0, "chunk_s": 0.0, "tokens": 6, "batch_delay_s": 0.02, **settings}))


def client(server: Simulator, headers: dict[str, str] = KEY) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=server.url, headers=headers, timeout=10, trust_env=False)


def asked(number: int, **fields: object) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"prompt {number}"}]
    return {"model": "m", "messages": messages, "max_tokens": 100, "stream": False, **fields}


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def line(number: int, **fields: object) -> bytes:
    known = {"custom_id": f"row-{number}", "method": "POST", "url": CHAT, "body": asked(number), **fields}
    return compact({name: value for name, value in known.items() if value is not None}) + b"\n"


def lines(count: int) -> bytes:
    return b"".join(map(line, range(count)))


async def upload(http: httpx.AsyncClient, data: bytes, **fields: str) -> httpx.Response:
    return await http.post("/v1/files", data={"purpose": "batch", **fields}, files={"file": ("requests.jsonl", data)})


async def create(http: httpx.AsyncClient, file_id: str, **fields: object) -> httpx.Response:
    given = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h", **fields}
    return await http.post("/v1/batches", json=given)


async def openai_batch(http: httpx.AsyncClient, data: bytes, **fields: object) -> dict[str, Any]:
    """Upload lines and make a batch of them."""
    uploaded = (await upload(http, data)).json()
    return dict((await create(http, uploaded["id"], **fields)).json())


async def anthropic_batch(http: httpx.AsyncClient, count: int) -> dict[str, Any]:
    """Make a batch of so many requests."""
    return dict((await http.post(MESSAGES, content=messages_body(count))).json())


def messages_body(count: int) -> bytes:
    return compact({"requests": [{"custom_id": f"row-{number}", "params": asked(number)} for number in range(count)]})


async def polled(http: httpx.AsyncClient, path: str, is_it: Callable[[httpx.Response], bool]) -> httpx.Response:
    """Get a path until the answer is as it should be."""
    async with asyncio.timeout(60):
        while True:
            if is_it(found := await http.get(path)):
                return found
            await asyncio.sleep(0.005)


async def ended(http: httpx.AsyncClient, batch: dict[str, Any]) -> dict[str, Any]:
    """Poll a batch of either vendor until it has ended."""
    is_openai = batch.get("object") == "batch"
    path = f"/v1/batches/{batch['id']}" if is_openai else f"{MESSAGES}/{batch['id']}"
    name = "status" if is_openai else "processing_status"
    ends = ("completed", "failed", "expired", "cancelled", "ended")
    return dict((await polled(http, path, lambda found: found.json()[name] in ends)).json())


async def content(http: httpx.AsyncClient, batch: dict[str, Any], kind: str = "output") -> list[Any]:
    """Return the results of a batch that has ended. kind: of which file of OpenAI's, output or error."""
    is_openai = batch.get("object") == "batch"
    response = await http.get(f"/v1/files/{batch[f'{kind}_file_id']}/content" if is_openai else batch["results_url"])
    assert response.status_code == 200, response.text
    return [json.loads(one) for one in response.text.splitlines()]
