"""A real run, the real server of its page, and a real browser that looks at it."""

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from anyio.from_thread import start_blocking_portal
from processes import HANG_S, Started, free_port, runner

from runner.simulator import Behaviour, Simulator

SLOW = {"echo": True, "first_token_s": 0.05, "chunk_s": 0.05}
"""A simulator whose answers are the prompts, a word each twentieth of a second."""


class Served:
    """``runner web`` in a folder, which can be ended and started again at the same port."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.process: Started | None = None
        self.url = self.base = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.process = process = runner("web", "--port", str(self.port), cwd=self.folder)
        process.until(lambda: "?token=" in process.out, "the address of the page")
        found = re.search(r"http://\S+", process.out)
        assert found is not None
        self.url = found[0]
        self.base = self.url.split("?")[0]

    def end(self) -> None:
        """Kill it."""
        if self.process is not None:
            self.process.__exit__()
            self.process = None


@contextmanager
def running(folder: Path, rows: Sequence[Mapping[str, Any]], *options: str, speed: Mapping[str, Any] = SLOW) -> Iterator[Started]:
    """Run rows against a simulator until the block is left; the run has begun to send."""
    (folder / "prompts.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    words = ("run", "prompts.jsonl", "--model", "m", *options)
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(Simulator(Behaviour(**speed))) as server,
        runner(*words, "--base-url", f"{server.url}/v1", cwd=folder) as process,
    ):
        process.until(lambda: server.stats()["requests"] > 0, "the first request")
        yield process


class Tab:
    """A tab of a browser, with what it wrote to its console and what its page asked for."""

    def __init__(self, context: Any, url: str) -> None:
        self.page = context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(url)

    def wait(self, condition: str) -> Any:
        """Wait until an expression of the page is true, and return its value. The policy of the page lets no other way do it."""
        until_s = time.monotonic() + HANG_S
        while not (found := self.page.evaluate(condition)):
            assert time.monotonic() < until_s, f"{condition}\n{self.said}\n{self.page.inner_text('main')[:2000]}"
            self.page.wait_for_timeout(50)
        return found

    def texts(self) -> dict[str, str]:
        """Return the texts of the open answers as this tab knows them, by row."""
        found: dict[str, str] = self.page.evaluate(
            """async () => {
                const { lives } = await import("/static/app.js");
                const answers = [...lives.values()].flatMap((live) => [...live.answers.values()]);
                return Object.fromEntries(answers.map((one) => [one.id, one.text.text]));
            }"""
        )
        return found
