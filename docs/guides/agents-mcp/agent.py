"""An agent without a model: it starts a run over MCP, steers it, mends it and reads what came of it.

python agent.py ROWS.jsonl [SETTING=VALUE ...]      the rows have an "id"; pip install 'prompt-runner[mcp]'
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from mcp import StdioServerParameters
from mcp.client.client import Client
from mcp.client.stdio import stdio_client


class Tools:
    """The tools of the server. A tool that refuses raises RuntimeError with its sentence."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def __call__(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool, and return its object."""
        result = await self._client.call_tool(tool, arguments)
        if result.is_error:
            raise RuntimeError(f"{tool}: {result.content[0].text}")
        return result.structured_content

    async def ended(self, run: int) -> dict[str, Any]:
        """Watch a run until no process works on it."""
        while (now := await self("watch", run=run, seconds=10))["running"]:
            print(f"  {now['run']['done']:,} done, {now['run']['failed']:,} failed")
        return now


async def work(tools: Tools, file: str, ids: list[str], settings: dict[str, Any]) -> str:
    """Do all of it, and return the name of the file with the answers. ids: of the rows, at least two."""
    estimate = (await tools("estimate", file=file, settings=settings))["estimate"]
    print(f"estimate: {estimate['rows_left']:,} rows to send, cost {estimate['cost'] or 'none'}")

    # slowly at first: nothing is lost if the first answers show that the prompt is wrong
    begun = await tools("submit", file=file, settings={**settings, "concurrency": 2})
    run = begun["run"]["id"]
    print(f"run {run} has begun")

    print(f"pause: {(await tools('pause', run=run))['done']}")
    print(f"set: {(await tools('set', run=run, concurrency=64))['done']}")
    for row, word in (await tools("cancel", run=run, ids=ids[-2:]))["rows"].items():
        print(f"cancel: {row} {word}")
    for row, word in (await tools("requeue", run=run, ids=ids[-1:]))["rows"].items():
        print(f"requeue: {row} {word}")
    print(f"continue: {(await tools('continue', run=run))['done']}")
    ended = await tools.ended(run)
    print(f"ended: {ended['run']['done']:,} done, {ended['run']['failed']:,} failed")

    failed = [cause for cause in (await tools("errors", run=run))["causes"] if cause["status"] == "failed"]
    for cause in failed:
        print(f"error: {cause['count']:,} x {cause['code']}, {', '.join(cause['ids'][:3])}")
    if failed:
        await tools("retry", run=run, classes=[cause["code"] for cause in failed])
        ended = await tools.ended(run)
        print(f"retried: {ended['run']['done']:,} done, {ended['run']['failed']:,} failed")

    rows, after = 0, None
    while True:
        page = await tools("results", run=run, limit=1000, max_bytes=200_000, **({"after": after} if after else {}))
        rows += len(page["rows"])
        if (after := page["next"]) is None:
            break
    print(f"results: {rows:,} rows, the last one {page['rows'][-1]['id']}")
    (written,) = (await tools("export", run=run, file="answers.csv", overwrite=True))["files"]
    print(f"export: {written['rows']:,} rows in {written['file']}")
    return str(written["file"])


async def main(file: str, ids: list[str], settings: dict[str, Any]) -> None:
    """Start the server in this folder, and work with it."""
    async with Client(stdio_client(StdioServerParameters(command="runner", args=["mcp"]))) as client:
        await work(Tools(client), file, ids, settings)


if __name__ == "__main__":
    lines = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
    given = dict(word.split("=", 1) for word in sys.argv[2:]) or {"provider": "simulator"}
    asyncio.run(main(sys.argv[1], [str(json.loads(line)["id"]) for line in lines], given))
