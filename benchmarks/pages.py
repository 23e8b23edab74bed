"""``python -m benchmarks.pages``: pages, filters and searches among a million rows, as the page asks for them. See the README."""

import argparse
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
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

from benchmarks import page_kinds
from benchmarks.process import environment, interrupted, say
from benchmarks.table import Figure, missed, render
from runner.store.row_index import RowIndex

_MS = 1_000
_AT_MOST_MS = 100
_LOOK_S = 0.5
_MEANWHILE = ("a page anywhere", "words, own field, status", "one row whole")
"""Kinds that are asked for while the index is made, too."""
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

    def cpu_ms(self) -> float:
        """Return what processor time the threads of the server have used that there are."""
        used = 0
        for task in Path(f"/proc/{self._process.pid}/task").iterdir():
            # a thread may end meanwhile
            with suppress(OSError):
                used += int((task / "schedstat").read_text().split()[0])
        return used / 1e6

    def get(self, path: str, query: Mapping[str, str] | None = None) -> tuple[float, Any]:
        """Return how long an answer took, in milliseconds, and its JSON."""
        began = time.perf_counter()
        self._connection.request("GET", f"{path}?{urlencode(query)}" if query else path, headers=self._headers)
        answer = self._connection.getresponse()
        text = answer.read()
        took = _MS * (time.perf_counter() - began)
        told = json.loads(text)
        if answer.status != 200 and told.get("code") != "no_row":
            raise RuntimeError(f"{path} {query}: {text.decode()}")
        return took, told


def measured(page: Page, kinds: Mapping[str, page_kinds.Asked], asked: int) -> dict[str, list[Figure]]:
    """Ask for pages of all kinds, and return how long 95 of 100 take at most."""
    found: dict[str, list[Figure]] = {}
    for name, next_one in kinds.items():
        # what is added up over the run is kept then
        first = page.get(*next_one())[0]
        times, used = list[float](), list[float]()
        for _ in range(asked):
            before = page.cpu_ms()
            times.append(page.get(*next_one())[0])
            used.append(max(0.0, page.cpu_ms() - before))
        found[name] = [
            _p95(times),
            Figure("median", statistics.median(times), "ms"),
            # what other programs on the machine do not change much
            _p95(used)._replace(what="p95 of its processor time", at_most=None),
            Figure("first", first, "ms"),
        ]
    return found


def _p95(times: Sequence[float]) -> Figure:
    return Figure("p95", statistics.quantiles(times, n=100, method="inclusive")[94], "ms", at_most=_AT_MOST_MS)


def index(store: Path, page: Page, kinds: Mapping[str, page_kinds.Asked]) -> dict[str, list[Figure]]:
    """Have the index made, and return how long that took, how large it is, and how long pages took meanwhile."""
    began, meanwhile = time.monotonic(), {name: list[float]() for name in kinds}
    while True:
        if page.get(page_kinds.ROWS, {"q": "nothing at all"})[1]["index"]["complete"]:
            break
        for name, next_one in kinds.items():
            meanwhile[name].append(page.get(*next_one())[0])
        time.sleep(_LOOK_S)
    size = RowIndex(store).path.stat().st_size
    about = [
        Figure("seconds until all rows are in it", time.monotonic() - began, "s"),
        Figure("processor time", page.cpu_ms() / _MS, "s"),
        Figure("size", size / 1e6, "MB"),
        Figure("size / size of the store", size / store.stat().st_size, ""),
    ]
    whole = {name: times for name, times in meanwhile.items() if len(times) > 1}
    return {"index": about, **{f"{name}, while the index is made": [_p95(times)] for name, times in whole.items()}}


def main() -> int:
    """Parse the command line, measure, print the table; return 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pages", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the run (1,000,000)")
    parser.add_argument("--asked", type=int, default=100, help="pages of each kind (100)")
    parser.add_argument(
        "--keep-index", action="store_true", help="take the index that is there, and do not measure how it is made"
    )
    parser.add_argument("--folder", type=Path, help="folder with such a store, or where it is to be made")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, interrupted)
    with tempfile.TemporaryDirectory(prefix="runner-bench-") as made:
        folder = args.folder or Path(made)
        store = folder / STORE
        if not store.exists():
            page_kinds.make(store, folder / "prompts.jsonl", args.rows)
            say("the store is made")
        if not args.keep_index:
            RowIndex(store).forget()
        draw = random.Random(1)  # noqa: S311 - the same in every run
        kinds, others = page_kinds.of_rows(args.rows, draw), page_kinds.of_others(args.rows, draw)
        with Page(store) as page:
            found = index(store, page, {name: (kinds | others)[name] for name in _MEANWHILE})
            say("the index is made")
            found |= measured(page, kinds | others, args.asked)
    where = f"Python {platform.python_version()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
    print(f"{where}, {args.rows:,} rows, {args.asked} pages of each kind\n")
    print(render({name: [one] for name, one in found.items()}))
    return int(any(missed([one]) for one in found.values()))


if __name__ == "__main__":
    sys.exit(main())
