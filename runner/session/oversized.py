"""Finds the rows that are larger than a limit of tokens per minute: others go first, and each saves up for more than a minute."""

from collections.abc import Mapping
from typing import NamedTuple

from runner.durations import format_span
from runner.engine.limits import Kind
from runner.engine.limits.estimate import BYTES_PER_TOKEN, OUTPUT_TOKENS, amount
from runner.inputs.compression import open_compressed
from runner.inputs.keys import base_key
from runner.inputs.places import Places
from runner.inputs.scan import PromptFile
from runner.inputs.sources import base64_chars
from runner.text import clean

_SHOWN = 3


class Oversized(NamedTuple):
    """A row that is larger than a limit: its place and id, its tokens as they are estimated, and the limit per minute."""

    line: int
    key: str
    tokens: int
    kind: Kind
    limit: float


def oversized(prompts: PromptFile, per_minute: Mapping[Kind, float], max_tokens: int | None) -> list[Oversized]:
    """Return the rows of an input whose estimate exceeds a limit. Reads bytes only, unless a line is long enough for it.

    max_tokens: the limit of an answer that the job sets. Raises UsageError if the input cannot be read.
    """
    out = min(OUTPUT_TOKENS, float(max_tokens or OUTPUT_TOKENS))
    limits = {kind: limit for kind, limit in per_minute.items() if kind in ("tpm", "input_tpm")}
    if not limits:
        return []
    least = min((limit - (out if kind == "tpm" else 0.0)) * BYTES_PER_TOKEN for kind, limit in limits.items())
    if prompts.row_is_line and not _has_line_over(prompts, least):
        return []
    found = []
    for row in prompts.read():
        if row.size <= least:
            continue
        # files in the row itself are no text
        size = row.size - sum(base64_chars(value, is_source=name in row.media) for name, value in (row.fields or {}).items())
        estimates = ((kind, amount(kind, size / BYTES_PER_TOKEN, out), limit) for kind, limit in limits.items())
        over = next(((kind, tokens, limit) for kind, tokens, limit in estimates if tokens > limit), None)
        if over is not None:
            kind, tokens, limit = over
            found.append(Oversized(row.line, base_key(row)[0], round(tokens), kind, limit))
    return found


def _has_line_over(prompts: PromptFile, size: float) -> bool:
    for path, end in prompts.parts or [(prompts.path, prompts.size)]:
        with open_compressed(path, end) as (stream, _):
            if any(len(line) > size for line in stream):
                return True
    return False


def sentences(found: list[Oversized], places: Places) -> list[str]:
    """Return what a person should know about such rows, one sentence each. places: how a person finds them."""
    words = [
        f"{places.where(row.line)} ({clean(row.key, 40)}) has about {row.tokens:,} tokens, more than "
        f"--{row.kind.replace('_', '-')} {row.limit:,.10g}: others go first, and it takes about "
        f"{format_span(60 * row.tokens / row.limit)} of that limit"
        for row in found[:_SHOWN]
    ]
    more = len(found) - _SHOWN
    return [*words, *([f"and {more:,} more such {'row' if more == 1 else 'rows'}"] if more > 0 else [])]
