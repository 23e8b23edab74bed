"""An agent submits, steers, mends and exports a run of 5,000 rows over MCP: ``python -m benchmarks.agent``. See README.md.

It is the SDK's own client, and the server is ``runner mcp`` of this checkout. Each step is printed, and the file of answers is
checked at the end. Exit code 1: something was not as it should be.
"""

import argparse
import asyncio
import csv
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from mcp import StdioServerParameters
from mcp.client.client import Client
from mcp.client.stdio import stdio_client

from benchmarks.process import environment

GIVEN_UP = "r{}"
_STEP_S = 20


class Agent:
    """What an agent does with one run."""

    def __init__(self, client: Client) -> None:
        self._client, self._begin = client, time.monotonic()

    def say(self, *words: object) -> None:
        """Print a step."""
        print(f"{time.monotonic() - self._begin:6.1f} s", *words, flush=True)

    async def call(self, tool: str, **arguments: object) -> dict[str, Any]:
        """Call a tool. Raises RuntimeError with what it refuses."""
        result = await self._client.call_tool(tool, arguments)
        if result.is_error:
            raise RuntimeError(f"{tool}: {result.content[0].text}")  # type: ignore[union-attr]
        return dict(result.structured_content or {})

    async def end(self, run: int) -> dict[str, Any]:
        """Watch a run until its session has ended, and return what is told of it."""
        while (now := await self.call("watch", run=run, seconds=_STEP_S))["running"]:
            self.say("watch:", now["run"]["done"], "done")
        return dict(now["run"])

    async def work(self, rows: int) -> list[str]:
        """Do it all, and return what was not as it should be."""
        wrong = list[str]()
        settings = {"provider": "simulator", "concurrency": 64}
        estimate = (await self.call("estimate", file="rows.jsonl", settings=settings))["estimate"]
        self.say("estimate:", estimate["rows"], "rows")
        run = (await self.call("submit", file="rows.jsonl", settings=settings))["run"]["id"]
        self.say("submit: run", run)
        await self.call("watch", run=run, seconds=3)
        self.say("pause:", (await self.call("pause", run=run))["done"])
        paused = [(await self.call("watch", run=run, seconds=3))["run"]["done"] for _ in range(3)]
        self.say("done while it is paused:", *paused)
        if paused[1] != paused[2] or not 0 < paused[2] < rows:
            wrong.append(f"rows were sent while it was paused: {paused}")
        last = [GIVEN_UP.format(rows - 1), GIVEN_UP.format(rows - 2)]
        self.say("cancel:", (await self.call("cancel", run=run, ids=last))["done"])
        self.say("requeue:", (await self.call("requeue", run=run, ids=last[:1]))["done"])
        self.say("continue:", (await self.call("continue", run=run))["done"])
        self.say("set:", (await self.call("set", run=run, concurrency=200))["done"])
        ended = await self.end(run)
        causes = [(cause["count"], cause["code"]) for cause in (await self.call("errors", run=run))["causes"]]
        self.say("ended:", ended["done"], "done,", ended["failed"], "failed:", causes)
        if causes != [(1, "cancelled_by_user")] or ended["done"] != rows - 1:
            wrong.append(f"one row should have failed, and not {causes}")
        await self.call("retry", run=run)
        ended = await self.end(run)
        page = [row["id"] for row in (await self.call("results", run=run, limit=2))["rows"]]
        self.say("after a retry:", ended["done"], "done; the first rows:", *page)
        self.say("export:", (await self.call("export", run=run, file="answers.csv"))["rows"], "rows")
        return wrong


async def worked(folder: Path, rows: int) -> list[str]:
    """Have an agent work in a folder, and return what was not as it should be."""
    lines = (json.dumps({"id": GIVEN_UP.format(one), "prompt": f"Say something about {one}"}) for one in range(rows))
    (folder / "rows.jsonl").write_text("".join(f"{line}\n" for line in lines))
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "runner", "mcp", "--root", str(folder)], cwd=str(folder), env=environment()
    )
    async with Client(stdio_client(server)) as client:
        wrong = await Agent(client).work(rows)
    with (folder / "answers.csv").open(newline="") as file:
        found = [row["id"] for row in csv.DictReader(file) if row["text"]]
    if len(found) != rows or len({*found}) != rows:
        wrong.append(f"the export has {len(found)} answers of {len({*found})} rows")
    return wrong


def main() -> None:
    """Read the arguments, and say what was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="runner-bench-") as name:
        wrong = asyncio.run(worked(Path(name), options.rows))
    print("\n".join(wrong) or "as it should be")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
