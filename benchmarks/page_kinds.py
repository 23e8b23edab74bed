"""The kinds of pages that ``benchmarks.pages`` asks for, and the store that they are pages of."""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

from msgspec import structs

from benchmarks import bulk
from runner.model import Attempt, Entry, Item

NOWHERE = "http://127.0.0.1:9/v1"
ROWS = "/api/runs/1/rows"
MANY = 5_000
"""Every so many rows, one has been sent ``TIMES`` times."""
TIMES = 40
_CODES = ("timeout_first_byte", "http_500", "context_too_long")
_TOPICS = 97
Asked: TypeAlias = Callable[[], tuple[str, Mapping[str, str]]]
"""Returns the path and the query of one page of a kind, each time another."""


def make(store: Path, prompts: Path, rows: int) -> None:
    """Create a store with a run of so many rows: 2 of 100 have failed, 3 are cut, and some were sent several times."""
    asyncio.run(bulk.finished(store, bulk.prompts(prompts, rows), NOWHERE, made))


def made(item: Item, draw: random.Random) -> Sequence[Entry]:
    """Return the attempts and the outcome of a row."""
    outcome, chance = bulk.answered(item, draw), draw.random()
    assert outcome.attempt is not None
    assert outcome.completion is not None
    number = TIMES if item.position % MANY == 0 else 2 if chance > 0.95 else 1
    attempt = structs.replace(outcome.attempt, number=number)
    before = [_failed(attempt, one, _CODES[one % 2]) for one in range(1, number)]
    if chance < 0.02:
        code = draw.choice(_CODES)
        last = _failed(attempt, number, code)
        failure = structs.replace(outcome, status="failed", error_code=code, error=last.error, completion=None)
        return [*before, structs.replace(failure, attempt=last, attempts=number)]
    completion = structs.replace(outcome.completion, finish_reason="length") if chance < 0.05 else outcome.completion
    return [*before, structs.replace(outcome, completion=completion, attempt=attempt, attempts=number)]


def _failed(attempt: Attempt, number: int, code: str) -> Attempt:
    words = f"{code}: the server said so"
    return structs.replace(attempt, number=number, usage=None, served_model=None, error_code=code, error=words)


def of_rows(rows: int, draw: random.Random) -> dict[str, Asked]:
    """Return the pages of rows, by kind."""
    words = sorted({word.strip(".").lower() for word in bulk.WORDS if len(word) > 3})

    def topic() -> str:
        return f"numbers-{draw.randrange(_TOPICS)}"

    def anywhere(least: int = 1) -> dict[str, str]:
        line = draw.randrange(least, rows)
        return {"after": f"{line}.1.{line}"}

    queries: dict[str, Callable[[], dict[str, str]]] = {
        "first page": dict,
        "a page anywhere": anywhere,
        "a page backwards": lambda: {**anywhere(), "order": "-input"},
        "one of the last pages": lambda: anywhere(rows - 100),
        "a page of 500 rows": lambda: {**anywhere(), "limit": "500"},
        "status": lambda: {**anywhere(), "status": draw.choice(("done", "failed"))},
        "status, backwards": lambda: {**anywhere(), "status": draw.choice(("done", "failed")), "order": "-input"},
        "error code": lambda: {**anywhere(), "code": draw.choice(_CODES)},
        "finish reason": lambda: {**anywhere(), "finish": draw.choice(("stop", "length"))},
        "own field": lambda: {**anywhere(), "field.topic": topic()},
        "an id": lambda: {"q": f"row-{draw.randrange(rows):07}"},
        "a word that nearly all rows have": lambda: {**anywhere(), "q": f"{draw.choice(words)} "},
        "the beginning of a word": lambda: {**anywhere(), "q": draw.choice(words)[: draw.randrange(2, 5)]},
        "the beginning of a number": lambda: {"q": f"{draw.randrange(rows):07}"[: draw.randrange(2, 6)]},
        "four words": lambda: {**anywhere(), "q": f"{' '.join(draw.sample(words, 4))} "},
        "words that no row has": lambda: {"q": f"{draw.choice(words)} nowhere{draw.randrange(9)} "},
        "words that no failed row has": lambda: {"q": f"{draw.choice(words)} ", "status": "failed"},
        "words, own field, status": lambda: {"q": draw.choice(words), "field.topic": topic(), "status": "done"},
        "own field, error code, backwards": lambda: {"field.topic": topic(), "code": draw.choice(_CODES), "order": "-input"},
    }
    return {name: _asked(query) for name, query in queries.items()}


def _asked(query: Callable[[], dict[str, str]]) -> Asked:
    return lambda: (ROWS, query())


def of_others(rows: int, draw: random.Random) -> dict[str, Asked]:
    """Return a row whole, and what there is beside rows, by kind."""

    def row(key: str) -> tuple[str, Mapping[str, str]]:
        return f"{ROWS}/{quote(key)}", {}

    asked: dict[str, Asked] = {
        "one row whole": lambda: row(f"row-{draw.randrange(rows):07}"),
        "one row whole, by its line": lambda: row(str(draw.randrange(1, rows))),
        f"one row whole that was sent {TIMES} times": lambda: row(str(draw.randrange(1, max(rows // MANY, 2)) * MANY)),
        "a row that there is not": lambda: row(f"none-{draw.randrange(rows)}"),
    }
    for path in ("/api/runs", "/api/runs/1", "/api/runs/1/errors", "/api/runs/1/figures", "/api/runs/1/history"):
        asked[path] = _same(path)
    return asked


def _same(path: str) -> Asked:
    found: tuple[str, Mapping[str, Any]] = (path, {})
    return lambda: found
