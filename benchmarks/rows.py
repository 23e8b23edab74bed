"""Prompt files whose rows have known sizes in tokens."""

import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

BYTES_PER_TOKEN = 4
"""The simulator counts this many bytes of the request's body as one input token."""
ENVELOPE = 170
"""Bytes of a request's body that are not prompt, roughly."""


def write(folder: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write the rows as ``prompts.jsonl``."""
    path = folder / "prompts.jsonl"
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(row)}\n" for row in rows)
    return path


def plain(count: int) -> Iterable[dict[str, Any]]:
    """Return rows that differ only in a number."""
    return ({"id": f"row-{number}", "prompt": f"Tell me about the number {number}."} for number in range(count))


def mixed(total: int, *, least: int, most: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return rows of ``least`` to ``most`` tokens, log-uniformly distributed, ``total`` tokens together.

    A fifth of the tokens of a row is output, set by ``max_tokens``; the rest is input.
    """
    draw = random.Random(seed)  # noqa: S311 - the same file in every run
    rows: list[dict[str, Any]] = []
    left = total
    while left > 0:
        tokens = round(least * (most / least) ** draw.random())
        output = max(1, tokens // 5)
        prompt = f"{len(rows)} ".ljust(max(8, (tokens - output) * BYTES_PER_TOKEN - ENVELOPE), "x")
        rows.append({"id": f"row-{len(rows)}", "prompt": prompt, "params": {"max_tokens": output}})
        left -= tokens
    return rows


def stories(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Return rows for an echo server: 20 to 60 words each, some with line breaks, quotes and other scripts."""
    draw = random.Random(seed)  # noqa: S311 - as above
    words = ["river", "stone", '"quoted"', "façade", "東京", "😀", "\n\nNext", "back\\slash", "1,000", "end."]
    return [
        {"id": f"row-{number}", "prompt": f"{number}: " + " ".join(draw.choices(words, k=draw.randint(20, 60)))}
        for number in range(count)
    ]
