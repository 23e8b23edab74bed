"""A million rows: a prompt file, and a store in which they are done, which the project's own code writes."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from runner.config.endpoint import with_base_url
from runner.config.job import load_job
from runner.inputs import scan, source
from runner.model import Attempt, Completion, Entry, Item, Outcome, Usage
from runner.session import continuing, reading
from runner.session.identity import Given
from runner.session.opening import open_input, template_of
from runner.session.options import SessionOptions
from runner.store import database
from runner.store.checkpoint import RunStore

WORDS = ("river", "stone", "window", "because", "a", "little", "of", "the", "seldom", "Tokyo", "seven", "and", "green", "end.")
_BATCH = 10_000


def prompts(path: Path, rows: int) -> Path:
    """Write a prompt file of about 110 bytes a row: an id, a prompt and a field of the user's own."""
    with path.open("w", encoding="utf-8", buffering=1 << 20) as file:
        file.writelines(line(number) for number in range(rows))
    return path


def line(number: int) -> str:
    """Return one row as a line of JSON, with its line end."""
    prompt = f"Tell me in one short sentence about the number {number}."
    return f'{{"id":"row-{number:07}","prompt":"{prompt}","topic":"numbers-{number % 97}"}}\n'


async def finished(
    store: Path,
    path: Path,
    base_url: str,
    made: Callable[[Item, random.Random], Sequence[Entry]] = lambda item, draw: [answered(item, draw)],
    **settings: Any,
) -> None:
    """Create a store with all rows of a prompt file, as a finished run leaves it. settings: others of the job.

    made: returns the attempts and the outcome of a row; an answer each, if it is left out.
    """
    options = {"base_url": base_url, "model": "m", "provider": "openai", **settings}
    job = with_base_url(load_job(path, options, {}), {})
    input_file = open_input(job.input)
    database.prepare(store, create=True)
    content = scan.measure(input_file)
    given = Given(store, input_file, content, job.base_url)
    found_run = continuing.open_run(job, given, SessionOptions(), continuing.Chosen())
    async with RunStore.own(store, found_run.id) as run:
        scanned = scan.scan(input_file)
        head = reading.head_of(given, scanned, content.lines)
        await run.begin(rows=scanned.rows, digest=given.digest, size=content.size, identical=scanned.identical, head=head)
        counts = source.Counts()
        items = source.items(
            input_file, scanned, template_of(job), run, counts, source.Selection(fresh=True), source.SettledRows()
        )
        draw = random.Random(0)  # noqa: S311 - the same answers in every run
        batch: list[Entry] = []
        async for item in items:
            assert isinstance(item, Item)
            batch += made(item, draw)
            if len(batch) >= _BATCH:
                await run.save(batch)
                batch.clear()
        await run.save(batch)
        await run.finish(complete=True, stop_reason=None)


def answered(item: Item, draw: random.Random) -> Outcome:
    """Return the outcome of an item: an answer of about 40 words."""
    words = " ".join(draw.choices(WORDS, k=draw.randint(20, 60)))
    return Outcome(
        key=item.key,
        position=item.position,
        status="done",
        metadata=item.metadata,
        fingerprint=item.fingerprint,
        completion=Completion(text=words, finish_reason="stop"),
        attempt=Attempt(
            key=item.key,
            number=1,
            started_at=1_800_000_000.0 + item.position / 1000,
            duration_s=round(draw.uniform(0.3, 2.0), 6),
            time_to_first_token_s=round(draw.uniform(0.1, 0.3), 6),
            status=200,
            bytes_received=draw.randint(4000, 12000),
            usage=Usage(input_tokens=draw.randint(10, 20), output_tokens=len(words) // 4),
            served_model="m-2026-01-01",
            response_id=f"chatcmpl-{draw.getrandbits(96):024x}",
        ),
        attempts=1,
    )
