"""A small backend: it serves the page, and passes its prompts on to ``runner web``. The token stays here."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

RUNNER = os.environ.get("RUNNER_URL", "http://127.0.0.1:8377")


@asynccontextmanager
async def opened(app: Starlette) -> AsyncIterator[None]:
    """Have a client for as long as the backend runs."""
    headers = {"Authorization": f"Bearer {os.environ['RUNNER_TOKEN']}"}
    # an answer may be silent for long: runner has its own limits, and sends heartbeats
    async with httpx.AsyncClient(base_url=RUNNER, headers=headers, timeout=httpx.Timeout(30, read=None)) as client:
        app.state.client = client
        yield


async def passed_on(request: Request) -> Response:
    """Answer as runner does."""
    # check here who your user is, and what they may ask
    client: httpx.AsyncClient = request.app.state.client
    headers = {"Content-Type": "application/json"}
    asked = client.build_request(request.method, request.url.path, content=await request.body(), headers=headers)
    answer = await client.send(asked, stream=True)
    kept = {name: answer.headers[name] for name in ("content-type", "retry-after") if name in answer.headers}

    async def body() -> AsyncIterator[bytes]:
        try:
            async for chunk in answer.aiter_raw():
                yield chunk
        finally:
            # the user has gone: so does the request at the provider
            await answer.aclose()

    return StreamingResponse(body(), answer.status_code, {**kept, "X-Accel-Buffering": "no", "Cache-Control": "no-store"})


app = Starlette(
    lifespan=opened,
    routes=[
        Route("/api/stream", passed_on, methods=["POST"]),
        Route("/api/stream/{id}", passed_on, methods=["DELETE"]),
        Route("/static/runner-stream.js", passed_on),
        Mount("/", StaticFiles(directory=Path(__file__).parent, html=True)),
    ],
)
