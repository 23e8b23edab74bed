"""A run whose rows are answered, cut off, empty, filtered or refused, by a server of both dialects that counts its requests."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raw_server import (
    BLOCK_START,
    BLOCK_STOP,
    DONE,
    HANG,
    MESSAGE_START,
    MESSAGE_STOP,
    USAGE,
    RawServer,
    Received,
    Reply,
    block_delta,
    delta,
    finish,
    message_delta,
    stream,
    whole,
)

import runner

REFUSED = whole("400 Bad Request", {"error": {"message": "not this prompt", "code": "content_policy_violation"}})
BUSY = whole("500 Internal Server Error", {"error": {"message": "busy"}})
ENDS = {
    "ok": ("stop", "end_turn"),
    "empty": ("stop", "end_turn"),
    "cut": ("length", "max_tokens"),
    "filtered": ("content_filter", "refusal"),
}


class Answering(Counter[str]):
    """Answers a prompt by its kinds, one for each time that it is asked; the last one holds on, and "ok" where there are none.

    bodies: what was asked, in order.
    """

    def __init__(self, kinds: dict[str, Sequence[str]]) -> None:
        super().__init__()
        self.kinds = kinds
        self.bodies: list[dict[str, Any]] = []

    def __call__(self, request: Received) -> Reply:
        body = request.json
        self.bodies.append(body)
        prompt = body["messages"][-1]["content"]
        prompt = prompt if isinstance(prompt, str) else prompt[0]["text"]
        kinds = self.kinds.get(prompt, ["ok"])
        kind = kinds[min(self[prompt], len(kinds) - 1)]
        self[prompt] += 1
        if kind in ("refused", "busy"):
            return REFUSED if kind == "refused" else BUSY
        anthropic = request.path.endswith("/messages")
        if kind == "hang":
            return Reply((HANG,))
        text = "" if kind == "empty" else f"{kind} {self[prompt]}: {prompt}"
        if anthropic:
            pieces = [block_delta(text)] if text else []
            return stream(MESSAGE_START, BLOCK_START, *pieces, BLOCK_STOP, message_delta(ENDS[kind][1]), MESSAGE_STOP)
        return stream(*([delta(text)] if text else []), finish(ENDS[kind][0]), USAGE, DONE)


class Bench:
    """A folder with rows r0, r1, ... and such a server. The prompt of a row is its id."""

    def __init__(self, folder: Path, server: RawServer, asked: Answering, dialect: str = "openai", rows: int = 8) -> None:
        self.folder, self.server, self.asked, self.dialect = folder, server, asked, dialect
        self.store, self.prompts = folder / "runner.db", folder / "p.jsonl"
        self.write([{"id": f"r{one}", "prompt": f"r{one}", "lang": "de" if one % 2 else "en"} for one in range(rows)])

    def write(self, rows: Sequence[dict[str, Any]]) -> None:
        self.prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))

    @property
    def job(self) -> dict[str, Any]:
        url = self.server.base_url if self.dialect == "openai" else self.server.origin
        return {"model": "m", "base_url": url, "provider": self.dialect, "attempts": 1, "max_tokens": 50}

    def run(self, **settings: Any) -> runner.RunSummary:
        return runner.run(self.prompts, db=self.store, **{**self.job, **settings})

    def retry(self, run: int | None = None, **more: Any) -> runner.RunSummary:
        return runner.retry(run, db=self.store, **more)

    def sent(self, **more: Any) -> list[str]:
        """Retry, and return the prompts that were sent, in any order."""
        before = Counter(self.asked)
        self.retry(**more)
        return sorted((self.asked - before).elements())

    def texts(self) -> dict[str, str | None]:
        return {str(one.id): one.text for one in runner.results(db=self.store)}
