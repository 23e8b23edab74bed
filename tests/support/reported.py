"""A store with a run that a report can tell much of: retries, failures, prices, a schema, a pause, and texts that are hostile."""

import json
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
from msgspec import structs

from runner.model import Attempt, Completion, Entry, Outcome, Usage
from runner.money import Price, Rates
from runner.store import database
from runner.store.checkpoint import RunStore
from runner.store.runs import open_run

HOSTILE = (
    "</script><script>window.hurt=1</script>",
    "<img src=x onerror=window.hurt=1>",
    "'\"><svg onload=window.hurt=1>",
    "{{ 7 * 7 }}${7 * 7}",
    "\u202eevil\u2066\x1b[31m",
    "javascript:window.hurt=1",
    "<!--<script>",
    "]]>&lt;b&gt;\x00",
)
RATES = Rates(
    input=250_000, output=2_000_000, cached_input=250_000, cache_write=250_000, reasoning=2_000_000, cache_write_1h=250_000
)
PRICE = Price(model="m", tier="standard", rates=RATES)
SCHEMA = {
    "type": "object",
    "properties": {
        "mood": {"enum": ["good", "bad"]},
        "stars": {"type": "integer"},
        "share": {"type": "number"},
        "reason": {"type": "string"},
        "sure": {"type": ["boolean", "null"]},
        HOSTILE[1]: {"type": "array", "items": {"type": "string"}},
    },
}
SETTINGS: dict[str, Any] = {
    "model": "m<i>",
    "provider": "openai",
    "base_url": "https://name:sk-not-a-real-key-0123456789@models.test/v1",
    "input": "/home/somebody/secret/p.jsonl",
    "prompt": "Judge: {{ text }} </script>",
    "schema": SCHEMA,
}
BEGIN = 1_796_000_000.0
PAUSE_S = 86_400.0


def entries(rows: int, seed: int = 0) -> list[Entry]:
    """Return attempts and outcomes as a run saves them; after half of the rows the run pauses for a day."""
    draw, found = random.Random(seed), list[Entry]()
    for row in range(rows):
        hostile = HOSTILE[row % len(HOSTILE)]
        key, now = f"{hostile}{row}", BEGIN + row * 0.25 + (PAUSE_S if row >= rows // 2 else 0.0)
        number = 1
        while draw.random() < 0.2 and number < 3:
            found.append(_failure(key, number, now, draw, hostile))
            now, number = now + 1.0, number + 1
        if draw.random() < 0.1:
            last = _failure(key, number, now, draw, hostile)
            found.append(
                Outcome(**_of(row, key, number), status="failed", error_code=last.error_code, error=last.error, attempt=last)
            )
        else:
            found.append(_answer(row, key, number, now, draw, hostile))
    return found


def _of(row: int, key: str, attempts: int) -> dict[str, Any]:
    return {"key": key, "position": row + 1, "metadata": {}, "fingerprint": row, "attempts": attempts}


def _failure(key: str, number: int, now: float, draw: random.Random, hostile: str) -> Attempt:
    code, status = draw.choice([("rate_limited", 429), ("server_error", 500), ("truncated", 200)])
    return Attempt(
        key=key,
        number=number,
        started_at=now,
        duration_s=draw.uniform(0.01, 0.9),
        status=status,
        error_code=code,
        error=f"said: {hostile}",
        price=PRICE,
        input_bound=100 if status == 200 else None,
        output_bound=200 if status == 200 else None,
    )


def _answer(row: int, key: str, number: int, now: float, draw: random.Random, hostile: str) -> Outcome:
    values = {
        "mood": draw.choice(["good", "good", "bad"]),
        "stars": draw.randint(1, 5),
        "share": draw.random(),
        "reason": f"{hostile} {row} {'x' * draw.randint(0, 40)}",
        "sure": draw.choice([True, False, None]),
        HOSTILE[1]: [hostile] * draw.randint(0, 2),
    }
    first = draw.uniform(0.05, 0.4)
    attempt = Attempt(
        key=key,
        number=number,
        started_at=now,
        duration_s=first + draw.expovariate(1.0),
        time_to_first_token_s=first,
        status=200,
        usage=Usage(input_tokens=draw.randint(20, 3000), output_tokens=draw.randint(1, 80)),
        price=PRICE,
        served_model="m-1",
    )
    answer = Completion(
        text=json.dumps(values), finish_reason=draw.choice(["stop", hostile]), notes=("fenced",) if row % 7 == 0 else ()
    )
    return Outcome(**_of(row, key, number), status="done", completion=answer, attempt=attempt)


def stored(path: Path, saved: list[Entry], settings: dict[str, Any] = SETTINGS, *, rows: int | None = None) -> Path:
    """Add a finished run with these entries to a store. rows: of its input; None: as many as have an outcome."""
    answer = {"model": settings["model"]}

    async def save() -> None:
        database.prepare(path, create=True)
        opened = open_run(path, path.parent / "p.jsonl", settings, answer, new=True)
        async with RunStore.own(path, opened.id) as store:
            await store.save(saved)
            await store.finish(complete=rows is None, stop_reason=None)

    anyio.run(save)
    number = sum(isinstance(one, Outcome) for one in saved) if rows is None else rows
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE runs SET rows = ? WHERE id = (SELECT max(id) FROM runs)", (number,))
    return path


def attempts_of(saved: list[Entry]) -> list[Attempt]:
    """Return all attempts among entries."""
    found = [one if isinstance(one, Attempt) else one.attempt for one in saved]
    return [structs.replace(one) for one in found if one is not None]
