"""An agent for tests: the client of the MCP SDK at a real ``runner mcp``, over its pipes or over HTTP."""

import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Self

import anyio
import httpx2
from mcp import StdioServerParameters
from mcp.client.client import Client
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from processes import HANG_S, Started, environment, until


class RefusedError(Exception):
    """A tool has answered with an error; its words are those of the error."""


class Agent:
    """Calls tools, and remembers the progress that it was told."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.progress: list[tuple[float, float | None, str | None]] = []

    async def __call__(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool, and return its object. Raises RefusedError."""

        async def told(progress: float, total: float | None, message: str | None) -> None:
            self.progress.append((progress, total, message))

        with anyio.fail_after(HANG_S):
            result = await self.client.call_tool(tool, arguments, progress_callback=told)
        (content,) = result.content
        if result.is_error:
            assert "\n" not in content.text
            assert "Traceback" not in content.text
            raise RefusedError(content.text)
        assert isinstance(result.structured_content, dict)
        return result.structured_content

    async def ended(self, run: int) -> dict[str, Any]:
        """Watch a run until no process works on it."""
        with anyio.fail_after(HANG_S):
            while (told := await self("watch", run=run, seconds=20))["running"]:
                pass
        return told

    async def until(self, run: int, done: int) -> None:
        """Watch a run until some rows of it are done."""
        with anyio.fail_after(HANG_S):
            while (told := await self("watch", run=run, seconds=0))["run"]["done"] < done:
                assert told["running"], told
                await anyio.sleep(0.1)


@asynccontextmanager
async def over_pipes(folder: Path, *options: str, env: Mapping[str, str] | None = None) -> AsyncIterator[Agent]:
    """Start ``runner mcp`` in a folder as a client does, and end it as that does."""
    command = ["-m", "runner", "mcp", *options]
    parameters = StdioServerParameters(command=sys.executable, args=command, cwd=folder, env=environment(env))
    with (folder / "mcp.err").open("a") as errors:
        async with Client(stdio_client(parameters, errlog=errors)) as client:
            yield Agent(client)


class OverHttp:
    """A ``runner mcp --http`` that listens, until the block is left."""

    def __init__(self, folder: Path, *options: str) -> None:
        command = [sys.executable, "-m", "runner", "mcp", "--http", "--port", "0", *options]
        self.process = Started(command, cwd=folder, env=environment())

    def __enter__(self) -> Self:
        self.process.__enter__()
        self.process.until(lambda: "Bearer" in self.process.err, "the address of the server")
        (self.url,) = re.findall(r"(http://\S+/mcp)$", self.process.err, re.MULTILINE)
        (self.token,) = re.findall(r"^Authorization: Bearer (\S+)$", self.process.err, re.MULTILINE)
        return self

    def __exit__(self, *ended: object) -> None:
        self.process.__exit__(*ended)

    @asynccontextmanager
    async def agent(self) -> AsyncIterator[Agent]:
        """Connect a client."""
        async with (
            httpx2.AsyncClient(headers={"Authorization": f"Bearer {self.token}"}, timeout=HANG_S) as http,
            Client(streamable_http_client(self.url, http_client=http)) as client,
        ):
            yield Agent(client)

    def post(self, **headers: str) -> httpx2.Response:
        """Send a request as a client begins, with these headers in place of the right ones. Underscores become dashes."""
        said = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
        body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": said}
        right = {"Authorization": f"Bearer {self.token}", "Accept": "application/json, text/event-stream"}
        wrong = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx2.post(self.url, json=body, headers={**right, **wrong}, timeout=HANG_S)


def sessions(folder: Path) -> list[int]:
    """Return the process ids of the sessions that were started for agents of a folder and are alive."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            words, where = (entry / "cmdline").read_bytes(), str((entry / "cwd").readlink())
        except OSError:
            continue
        if b"runner.integrations.mcp_session" in words and where == str(folder):
            found.append(int(entry.name))
    return found


@contextmanager
def none_left(folder: Path) -> Iterator[None]:
    """Kill the sessions that are still alive behind the block, those of a test that has failed."""
    try:
        yield
    finally:
        for process in sessions(folder):
            os.kill(process, signal.SIGKILL)
        until(lambda: not sessions(folder), "the ends of all sessions")
