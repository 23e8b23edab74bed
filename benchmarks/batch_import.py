"""``python -m benchmarks.batch_import``: a million rows through batches: how fast their answers are imported, in how much memory.

The engine, the store, the writer of files of requests and the reader of results are the real ones; a provider of this process
answers each batch at once, with a file of results in another order. See ``benchmarks/README.md``.
"""

import argparse
import gc
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import anyio
import msgspec

from benchmarks.table import Figure, missed, render
from runner.batches import BatchCounts, BatchResult, BatchService, Reask, Remote
from runner.model import Entry, Item, Outcome, Request

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
_PART = 1_000
LEAST_RATE = 50_000.0
"""The target: rows that are imported in a CPU second."""
MOST_GROWTH_MIB = 32.0
"""The target: so much more memory ten times as many rows may need at the peak."""
_ANSWER = "It is the number {number}, which comes behind the one before it, and before the one behind it. " * 2


class Provider:
    """A batch API that answers every request once it is asked for the results. inner: writes requests, reads results."""

    def __init__(self, inner: BatchService) -> None:
        self._inner = inner
        self._batches: dict[str, tuple[Path, int]] = {}
        # CPU seconds of imports; what the process had used when the present one began
        self.cpu_s, self._began_s = 0.0, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def upload(self, path: Path, token: str) -> str:
        """Take a file of requests, which stays where it is."""
        self._batches[token] = (path, 0)
        return token

    async def create(self, path: Path, upload_id: str | None, token: str) -> Remote:
        """Take a batch of what was uploaded."""
        assert upload_id == token
        with path.open("rb") as file:
            rows = sum(1 for _ in file)
        self._batches[token] = (path, rows)
        return Remote(id=token, phase="working", counts=BatchCounts(total=rows))

    async def look(self, remote_id: str) -> Remote:
        """Tell that a batch has ended."""
        rows = self._batches[remote_id][1]
        counts = BatchCounts(total=rows, done=rows)
        return Remote(id=remote_id, phase="ended", end="completed", counts=counts, results=(remote_id,), ended_at=time.time())

    async def download(self, source: str, path: Path) -> None:
        """Write the results of a batch, in parts whose lines are in another order."""
        requests, draw = self._batches[source][0], random.Random(source)  # noqa: S311 - the order only
        with requests.open("rb") as file, path.open("wb") as out:
            lines = map(msgspec.json.decode, file)
            while part := list(islice(lines, 5 * _PART)):
                draw.shuffle(part)
                out.writelines(map(_result, part))

    def results(self, path: Path) -> Iterator[BatchResult]:
        """Read results; the import begins with it."""
        self._began_s = self._began_s or time.process_time()
        return self._inner.results(path)

    async def forget(self, upload_id: str) -> None:
        """Delete what was uploaded; the import has ended with it."""
        self.cpu_s, self._began_s = self.cpu_s + time.process_time() - self._began_s, 0.0
        del self._batches[upload_id]


def _result(request: dict[str, Any]) -> bytes:
    number = request["custom_id"].removeprefix("row-")
    message: dict[str, Any] = {"role": "assistant", "content": _ANSWER.format(number=number), "refusal": None, "annotations": []}
    body = {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": 1_764_000_000,
        "model": "m-2026-01-01",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": 20,
            "completion_tokens": 40,
            "total_tokens": 60,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        },
        "service_tier": "default",
        "system_fingerprint": "fp_0123456789",
    }
    response = {"status_code": 200, "request_id": f"req-{number}", "body": body}
    line = {"id": f"batch_req_{number}", "custom_id": request["custom_id"], "response": response, "error": None}
    return json.dumps(line).encode() + b"\n"


class Session:
    """What the engine of batches needs of a session: rows, and the store."""

    def __init__(self, store: Any, rows: int) -> None:
        self._store, self._rows = store, rows
        self.done = 0

    async def source(self) -> AsyncGenerator[Item | Outcome, None]:
        """Yield the rows."""
        for number in range(1, self._rows + 1):
            messages = ({"role": "user", "content": f"Tell me about the number {number}, in two sentences."},)
            request = Request(model="m", messages=messages)
            yield Item(key=f"row-{number}", position=number, request=request, metadata={"n": number}, fingerprint=number)

    async def save(
        self, batch_id: int | None, entries: Sequence[Entry], settled: Sequence[str] = (), reasks: Sequence[Reask] = ()
    ) -> Sequence[Entry]:
        """Store what was imported."""
        assert batch_id is not None
        await self._store.batches.settle(batch_id, entries, settled, reasks)
        self.done += sum(isinstance(entry, Outcome) and entry.status == "done" for entry in entries)
        return entries


async def imported(folder: Path, rows: int) -> dict[str, float]:
    """Send rows as batches of the provider's size, and import their answers. Return figures of this process."""
    batching: Any = import_module("batching")
    began = time.perf_counter()
    store, service, provider, rules = batching.RunStore, batching.open_service, batching.openai, batching
    made = provider.make("http://127.0.0.1:9/v1", "key", version="1", stream=False)
    async with (
        store.own(batching.new_store(folder), 1) as kept,
        service("openai", "http://127.0.0.1:9/v1", "key", made, rules.Way(version="1")) as inner,
    ):
        session, fake, notes = Session(kept, rows), Provider(inner), list[str]()
        batches = batching.Batches(
            fake,
            kept.batches,
            batching.Informed(made, tell=notes.append),
            batching.Judge(model="m"),
            plan=batching.Plan(run_id=1, folder=folder / "runner.db.batches", price=batching.price_of),
            rules=batching.Rules(
                policy=batching.RetryPolicy(), stop=batching.Stop(), redactor=batching.Redactor(), clock=batching.Fast().clock()
            ),
            told=batching.Told(save=session.save, note=notes.append),
        )
        await batches.recover()
        left = await batches.run(session.source)
    if left.why != "done" or notes:
        raise RuntimeError(f"the batches were not imported: {left}; {notes}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "done": session.done,
        "rate": rows / fake.cpu_s,
        "cpu": time.process_time(),
        "seconds": time.perf_counter() - began,
        "peak": peak,
        "store": (folder / "runner.db").stat().st_size / 1e6,
    }


def measured(rows: int) -> dict[str, float]:
    """Measure in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="runner-bench-") as folder:
        command = [sys.executable, "-m", "benchmarks.batch_import", "--rows", str(rows), "--here", folder]
        ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 - this module itself
    figures: dict[str, float] = json.loads(ran.stdout)
    print(f"  {rows:,} rows: {figures}", file=sys.stderr, flush=True)
    return figures


def main() -> int:
    """Measure, and print the table. Return 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows; a tenth of them is measured too (1,000,000)")
    parser.add_argument("--runs", type=int, default=1, help="how often it is measured; the table shows medians (1)")
    parser.add_argument("--here", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here is not None:
        # as the command does before a session (runner/cli/foreground.py)
        gc.freeze()
        gc.set_threshold(50_000, 20, 20)
        print(json.dumps(anyio.run(imported, given.here, given.rows)))
        return 0
    runs = []
    for _ in range(given.runs):
        few, many = measured(given.rows // 10), measured(given.rows)
        runs.append(
            [
                Figure("rows a CPU second, few", few["rate"]),
                Figure("rows a CPU second, many", many["rate"], at_least=LEAST_RATE),
                Figure("rows that are not done", given.rows - many["done"] + given.rows // 10 - few["done"], at_most=0),
                Figure("peak memory, few", few["peak"], "MiB"),
                Figure("peak memory, many", many["peak"], "MiB"),
                Figure("growth of the peak", many["peak"] - few["peak"], "MiB", at_most=MOST_GROWTH_MIB),
                Figure("all of it, many: CPU", many["cpu"], "s"),
            ]
        )
    print(render({f"{given.rows:,} rows": runs}))
    return int(missed(runs))


if __name__ == "__main__":
    sys.exit(main())
