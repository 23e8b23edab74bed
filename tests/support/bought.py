"""A file of rows, and a server whose answers all have the same length, so that what rows cost follows from their prompts."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from raw_server import DONE, Received, Reply, delta, finish, sse, stream, whole

import runner

PRICES = {"m": {"input": 1, "output": 4}}
ROWS = 100
MOST = 20
"""Tokens of an answer, at most; each answer has as many."""


class Desk:
    """A file of rows, and a server that has read as many tokens as the prompt has bytes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store, self.prompts = folder, folder / "runner.db", folder / "p.jsonl"
        self.asked: Counter[str] = Counter()
        self.url, self.refuses = "", False

    def __call__(self, request: Received) -> Reply:
        prompt = request.json["messages"][-1]["content"]
        self.asked[prompt] += 1
        if self.refuses:
            return whole("400 Bad Request", {"error": {"message": "no", "type": "invalid_request_error"}})
        usage = {"prompt_tokens": len(prompt), "completion_tokens": MOST}
        return stream(delta("Rome"), finish(), sse({"id": "c", "model": "m", "choices": [], "usage": usage}), DONE)

    def write(self, prompts: list[str]) -> None:
        lines = (json.dumps({"id": str(number), "prompt": prompt}) for number, prompt in enumerate(prompts))
        self.prompts.write_text("".join(f"{line}\n" for line in lines))

    def job(self, **settings: Any) -> None:
        """Write the job file that commands read."""
        given = {"model": "m", "base_url": self.url, **settings}
        lines = [f"{name} = {json.dumps(value)}" for name, value in given.items()]
        tables = [f"[prices.{model}]\ninput = {of['input']}\noutput = {of['output']}" for model, of in PRICES.items()]
        self.prompts.with_suffix(".toml").write_text("\n".join([*lines, f"params.max_tokens = {MOST}", *tables]) + "\n")

    @property
    def settings(self) -> dict[str, Any]:
        more = {"concurrency": 4, "max_tokens": MOST, "progress": False}
        return {"model": "m", "base_url": self.url, "db": self.store, "prices": PRICES, **more}

    def run(self, **more: Any) -> runner.RunSummary:
        return runner.run(self.prompts, **self.settings, **more)

    def estimated(self, **more: Any) -> runner.Estimate:
        return runner.estimate(self.prompts, **self.settings, **more)

    @property
    def cost(self) -> float:
        """Dollars of all that was sent."""
        return sum(number * (len(prompt) + 4 * MOST) for prompt, number in self.asked.items()) / 1e6
