"""``python -m benchmarks.pages``: pages, filters and searches among a million rows, as the page asks for them. See the README."""

import argparse
import asyncio
import http.client
import json
import os
import platform
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlencode

from benchmarks import bulk
from benchmarks.process import environment, interrupted, say
from benchmarks.table import Figure, missed, render
from runner.store.row_index import RowIndex

_NOWHERE = "http://127.0.0.1:9/v1"
_MS = 1_000
STORE = "runner.db"


class Page:
    """A context manager that serves a store in a process of its own."""

    def __init__(self, store: Path) -> None:
        self._store = store

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(  # noqa: S603 - our own command
            (sys.executable, "-m", "runner", "web", "--db", str(self._store), "--port", "0", "--json"),
            env=environment(), stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        told = json.loads(self._process.stdout.readline())
        found = re.search(r"token=([\w-]+)", told["url"])
        assert found is not None
        self._headers = {"Authorization": f"Bearer {found[1]}"}
        self._connection = http.client.HTTPConnection("127.0.0.1", told["port"], timeout=600)
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._process.send_signal(signal.SIGINT)
        self._process.wait()

    def cpu_s(self) -> float:
        """Return what processor time the server has used."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def get(self, path: str, **query: str) -> tuple[float, Any]:
        """Return how long an answer took, in milliseconds, and its JSON."""
        began = time.perf_counter()
        self._connection.request("GET", f"{path}?{urlencode(query)}" if query else path, headers=self._headers)
        answer = self._connection.getresponse()
        text = answer.read()
        took = _MS * (time.perf_counter() - began)
        if answer.status != 200:
            raise RuntimeError(f"{path} {query}: {text.decode()}")
        return took, json.loads(text)


def figures(page: Page, rows: int, asked: int) -> dict[str, list[Figure]]:
    """Ask for pages of all kinds, from random places, and return how long 95 of 100 take at most."""
    draw = random.Random(1)  # noqa: S311 - the same in every run
    words = sorted({word.strip(".").lower() for word in bulk.WORDS if len(word) > 3})

    def place() -> str:
        line = draw.randrange(1, rows)
        return f"{line}.1.{line}"

    kinds: dict[str, Any] = {
        "first page": dict,
        "a page anywhere": lambda: {"after": place()},
        "a page backwards": lambda: {"after": place(), "order": "-input"},
        "status": lambda: {"after": place(), "status": draw.choice(("done", "failed"))},
        "error code, finish reason": lambda: draw.choice(({"code": "timeout_first_byte"}, {"finish": "stop", "after": place()})),
        "own field": lambda: {"field.topic": f"numbers-{draw.randrange(97)}", "after": place()},
        "an id": lambda: {"q": f"row-{draw.randrange(rows):07}"},
        "a word that nearly all rows have": lambda: {"q": f"{draw.choice(words)} ", "after": place()},
        "the beginning of a word": lambda: {"q": draw.choice(words)[: draw.randrange(2, 5)], "after": place()},
        "four words": lambda: {"q": f"{' '.join(draw.sample(words, 4))} ", "after": place()},
        "words that no row has": lambda: {"q": f"{draw.choice(words)} nowhere{draw.randrange(9)} "},
        "words, own field, status": lambda: {
            "q": draw.choice(words),
            "field.topic": f"numbers-{draw.randrange(97)}",
            "status": "done",
        },
    }
    found: dict[str, list[Figure]] = {}
    for name, query in kinds.items():
        before = page.cpu_s()
        times = [page.get("/api/runs/1/rows", **query())[0] for _ in range(asked)]
        cpu = _MS * (page.cpu_s() - before) / asked
        found[name] = [_p95(times), Figure("median", statistics.median(times), "ms"), Figure("CPU of the server", cpu, "ms")]
    keys = [quote(f"row-{draw.randrange(rows):07}") for _ in range(asked)]
    # this reads all attempts of the run, as no index holds the answered ones
    found["one row whole"] = [_p95([page.get(f"/api/runs/1/rows/{key}")[0] for key in keys[:20]])._replace(at_most=None)]
    return found


def _p95(times: list[float]) -> Figure:
    return Figure("p95", statistics.quantiles(times, n=100)[94], "ms", at_most=100)


def index(store: Path, page: Page) -> list[Figure]:
    """Wait until the index is there, and return how long that took, and how large it is."""
    began = time.monotonic()
    while not page.get("/api/runs/1/rows", q="nothing at all")[1]["index"]["complete"]:
        time.sleep(0.5)
    size = RowIndex(store).path.stat().st_size
    return [
        Figure("seconds until all rows are in it", time.monotonic() - began, "s"),
        Figure("size", size / 1e6, "MB"),
        Figure("size / size of the store", size / store.stat().st_size, ""),
    ]


def main() -> int:
    """Parse the command line, measure, print the table; return 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pages", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the run (1,000,000)")
    parser.add_argument("--asked", type=int, default=100, help="pages of each kind (100)")
    parser.add_argument("--folder", type=Path, help="folder with such a store, or where it is to be made")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, interrupted)
    with tempfile.TemporaryDirectory(prefix="runner-bench-") as made:
        folder = args.folder or Path(made)
        store = folder / STORE
        if not store.exists():
            asyncio.run(bulk.finished(store, bulk.prompts(folder / "prompts.jsonl", args.rows), _NOWHERE))
            say("the store is made")
        RowIndex(store).forget()
        with Page(store) as page:
            found = {"index": index(store, page)}
            say("the index is made")
            found |= figures(page, args.rows, args.asked)
    where = f"Python {platform.python_version()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
    print(f"{where}, {args.rows:,} rows, {args.asked} pages of each kind\n")
    print(render({name: [one] for name, one in found.items()}))
    return int(any(missed([one]) for one in found.values()))


if __name__ == "__main__":
    sys.exit(main())
