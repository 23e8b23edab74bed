"""Stores with outcomes that were never sent for, and what their exports hold."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import anyio

from runner.model import Attempt, Completion, Entry, Outcome, Usage
from runner.store import database
from runner.store.checkpoint import RunStore
from runner.store.runs import open_run

OURS = [
    "prompt", "text", "status", "finish_reason", "error_code", "error", "served_model", "input_tokens", "output_tokens",
    "cached_tokens", "reasoning_tokens", "attempts", "time_to_first_token_s", "duration_s",
    "reasoning", "refusal", "tool_calls", "citations", "logprobs", "line", "reused_from", "cost",
    "cost_perhaps",
]  # fmt: skip


def done(
    key: str, position: int, *, usage: Usage | None = None, text: str = "yes", metadata: dict[str, Any] | None = None
) -> Outcome:
    return Outcome(
        key=key,
        position=position,
        status="done",
        metadata=metadata or {},
        fingerprint=0,
        completion=Completion(text=text, finish_reason="stop", extra={"reasoning": "hidden"}),
        attempt=Attempt(
            key=key,
            number=2,
            started_at=1.0,
            duration_s=1.5,
            time_to_first_token_s=0.25,
            status=200,
            usage=usage,
            served_model="m-1",
        ),
        attempts=2,
    )


def failed(key: str, position: int) -> Outcome:
    attempt = Attempt(key=key, number=5, started_at=1.0, duration_s=0.5, error_code="cut", error="the connection broke")
    return Outcome(
        key=key,
        position=position,
        status="failed",
        metadata={},
        fingerprint=0,
        error_code="cut",
        error="the connection broke",
        attempt=attempt,
        attempts=5,
    )


def broken(key: str, position: int) -> Outcome:
    why = f"line {position}: not JSON"
    return Outcome(key=key, position=position, status="failed", metadata={}, fingerprint=0, error_code="bad_row", error=why)


def filled(path: Path, *outcomes: Entry) -> Path:
    """Add a run with these outcomes, and attempts, to a store."""

    async def fill() -> None:
        database.prepare(path, create=True)
        opened = open_run(path, path.parent / "p.jsonl", {"model": "m"}, {"model": "m"}, new=True)
        async with RunStore.own(path, opened.id) as store:
            await store.save(outcomes)

    anyio.run(fill)
    return path


def saved(store: Path, *entries: Entry, run: int = 1) -> None:
    """Save outcomes, and attempts, in a run that a store has."""

    async def save() -> None:
        async with RunStore.own(store, run) as own:
            await own.save(entries)

    anyio.run(save)


def read_csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode(), newline="")))


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
