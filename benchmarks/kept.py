"""``python -m benchmarks.kept``: what it costs to keep each row whole in the store. See ``benchmarks/README.md``."""

import argparse
import asyncio
import csv
import platform
import random
import sqlite3
import statistics
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import closing
from importlib import import_module
from pathlib import Path
from pydoc_data.topics import topics
from typing import NamedTuple

from benchmarks import bulk
from benchmarks.table import Figure, render

_NOWHERE = "http://127.0.0.1:9/v1"
_LENGTHS = {"short rows": (20, 80), "rows of a paragraph": (200, 800), "long rows": (2_000, 6_000)}
"""Characters of a prompt, from and to."""
_SAMPLE = 2_000


class Kept(NamedTuple):
    """A store: its bytes, and the rows as it keeps them."""

    size: int
    fields: list[bytes]


def main() -> int:
    """Parse the command line, measure, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kept", description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000, help="rows of each table (20,000)")
    args = parser.parse_args()
    figures = {name: [_measure(args.rows, *chars)] for name, chars in _LENGTHS.items()}
    print(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {args.rows:,} rows\n")
    print(render(figures))
    return 0


def _measure(rows: int, least: int, most: int) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="runner-bench-") as folder:
        path = _table(Path(folder) / "rows.csv", rows, least, most)
        kept, left = (_stored(path, keep_rows=keep) for keep in (True, False))
        size = path.stat().st_size
    per_row = (kept.size - left.size) / rows
    figures = [
        Figure("a row of the CSV", size / rows, "bytes"),
        Figure("store, rows left out", left.size / rows, "bytes a row"),
        Figure("store, rows kept", kept.size / rows, "bytes a row"),
        Figure("the same beyond rows left out", per_row, "bytes a row"),
        Figure("that / the CSV", per_row * rows / size, ""),
    ]
    return figures + [figure for name, pack in _packers(kept.fields).items() for figure in _packed(name, pack, kept.fields)]


def _table(path: Path, rows: int, least: int, most: int) -> Path:
    """Write a table with prompts cut out of English prose."""
    draw, prose = random.Random(0), " ".join(" ".join(topics.values()).split())  # noqa: S311 - the same file in every run
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "prompt", "lang", "source"])
        for number in range(rows):
            at, length = draw.randrange(len(prose) - most), draw.randint(least, most)
            writer.writerow(
                [f"r{number}", prose[at : at + length], draw.choice(("de", "en", "fr")), f"https://example.com/{number}"]
            )
    return path


def _stored(path: Path, *, keep_rows: bool) -> Kept:
    store = path.with_name(f"{keep_rows}.db")
    asyncio.run(bulk.finished(store, path, _NOWHERE, keep_rows=keep_rows))
    with closing(sqlite3.connect(store)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        fields = [text.encode() for (text,) in connection.execute("SELECT metadata FROM items")]
    return Kept(store.stat().st_size, fields)


def _packers(fields: Sequence[bytes]) -> dict[str, Callable[[bytes], bytes]]:
    """Return ways to pack one row: by itself, and with a dictionary made of others, as a table of dictionaries would allow."""
    words = b"".join(fields[:: max(1, len(fields) // 100)])[-32_768:]

    def with_words(data: bytes) -> bytes:
        packer = zlib.compressobj(6, zdict=words)
        return packer.compress(data) + packer.flush()

    packers: dict[str, Callable[[bytes], bytes]] = {
        "zlib 1": lambda data: zlib.compress(data, 1),
        "zlib 6": lambda data: zlib.compress(data, 6),
        "zlib 6, dictionary": with_words,
    }
    try:
        zstd = import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    except ImportError:
        return packers
    trained = zstd.train_dict(fields[:_SAMPLE], 32_768)
    packers["zstd 3"] = lambda data: zstd.compress(data, 3)
    packers["zstd 3, dictionary"] = lambda data: zstd.compress(data, 3, zstd_dict=trained)
    return packers


def _packed(name: str, pack: Callable[[bytes], bytes], fields: Sequence[bytes]) -> list[Figure]:
    # rows of which no dictionary was made
    sample = fields[-_SAMPLE:]
    times, size = [], 0
    for _ in range(3):
        start = time.process_time()
        # a row that grows is left as it is
        size = sum(min(len(data), len(pack(data))) for data in sample)
        times.append(time.process_time() - start)
    return [
        Figure(f"{name}: of the kept row", 100 * size / sum(map(len, sample)), "%"),
        Figure(f"{name}: CPU", statistics.median(times) / len(sample) * 1e6, "us a row"),
    ]


if __name__ == "__main__":
    sys.exit(main())
