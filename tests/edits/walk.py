"""A random walk of a file through edits, renames and sessions: no prompt is ever bought twice, and none is left out."""

import csv
import gzip
import io
import json
import random
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq
from desk import Asked
from raw_server import RawServer

import runner

STEPS = 8
_ROWS = 12
Row: TypeAlias = dict[str, Any]


def _jsonl(path: Path, rows: list[Row], draw: random.Random) -> None:
    # what a row lacks is not there, and what asks is the prompt
    lines = [{("prompt" if name == "text" else name): value for name, value in row.items() if value is not None} for row in rows]
    text = "\n".join(map(json.dumps, lines)) + ("\n" if draw.random() < 0.7 else "")
    path.write_bytes(_packed(path, text.encode()))


def _csv(path: Path, rows: list[Row], draw: random.Random) -> None:
    names = draw.sample(list(rows[0]), len(rows[0]))
    out = io.StringIO(newline="")
    table = csv.DictWriter(
        out,
        names,
        delimiter="\t" if ".tsv" in path.name else draw.choice(",;"),
        quoting=draw.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL)),
        lineterminator=draw.choice(("\n", "\r\n")),
    )
    table.writeheader()
    table.writerows(rows)
    path.write_bytes(_packed(path, out.getvalue().encode(draw.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16")))))


def _parquet(path: Path, rows: list[Row], draw: random.Random) -> None:
    names = draw.sample(list(rows[0]), len(rows[0]))
    table = pa.Table.from_pylist([{name: row[name] for name in names} for row in rows])
    pq.write_table(table, path, row_group_size=draw.choice((3, 100)), compression=draw.choice(("snappy", "gzip", "none")))


def _packed(path: Path, content: bytes) -> bytes:
    return gzip.compress(content) if path.suffix == ".gz" else content


Write: TypeAlias = Callable[[Path, list[Row], random.Random], None]
KINDS: dict[str, tuple[Write, tuple[str, ...], dict[str, Any]]] = {
    "jsonl": (_jsonl, (".jsonl", ".jsonl", ".jsonl.gz"), {}),
    "csv": (_csv, (".csv", ".csv.gz", ".tsv"), {"prompt": "{{ text }}"}),
    "parquet": (_parquet, (".parquet", ".pq"), {"prompt": "{{ text }}"}),
}
"""By name: what writes the file as one of several programs would, the endings that it may get, and what the job says."""


class Walk:
    """A file in one of several places, with rows of which half have ids."""

    def __init__(self, folder: Path, kind: str, seed: int) -> None:
        self._folder, self._draw, self._numbers = folder, random.Random(f"{kind} {seed}"), count()
        self._name, self._store = f"walk {kind} {seed}", folder / "runner.db"
        self._write, self._endings, self._job = KINDS[kind]
        self._path = folder / f"0{self._endings[0]}"
        self._rows = [self._row() for _ in range(_ROWS)]

    def go(self, server: RawServer, asked: Asked, steps: int = STEPS) -> None:
        """Edit the file and run it, again and again, and look at what was asked and what is exported."""
        self._job |= {"db": self._store, "model": "m", "base_url": server.base_url}
        for _ in range(steps):
            self._write(self._path, self._rows, self._draw)
            limit = self._draw.randint(1, 20) if self._draw.random() < 0.3 else None
            accepted = self._draw.random() < 0.3
            summary = runner.run(self._path, **self._job, limit=limit, accept_changes=accepted)
            assert (summary.run, summary.failed) == (1, 0)
            assert summary.finished or limit is not None
            if self._draw.random() < 0.3:
                runner.retry(db=self._store)
            self._step()
        self._write(self._path, self._rows, self._draw)
        assert runner.run(self._path, **self._job, accept_changes=True).finished
        sent = asked.total()
        assert runner.run(self._path, **self._job).changed == 0
        assert asked.total() == sent
        self._judge({text: times for text, times in asked.items() if text.startswith(f"{self._name},")})

    def _judge(self, asked: dict[str, int]) -> None:
        assert set(asked.values()) == {1}
        there = [row["text"] for row in self._rows]
        assert set(there) <= set(asked)
        results = list(runner.results(db=self._store))
        # the export has the rows of the file in its order, and those that have left it
        texts = [str(result.text).removeprefix("echo ") for result in results]
        assert [text for text in texts if text in there] == there
        assert len(set(texts)) == len(texts)
        assert set(texts) <= set(asked)
        assert {result.prompt for result in results} == set(texts)

    def _row(self) -> Row:
        number = next(self._numbers)
        return {"id": f"row {number}" if self._draw.random() < 0.5 else None, "text": self._text(), "more": f"{number:03}"}

    def _text(self) -> str:
        # a quote and a line break in a cell, so that a line of a table is no row
        return f'{self._name}, "{next(self._numbers)}"\nä'

    def _step(self) -> None:
        edits = [self._append, self._append, self._insert, self._delete, self._shuffle, self._change, self._label]
        for edit in self._draw.choices(edits, k=self._draw.randint(0, 2)):
            edit()
        if self._draw.random() < 0.4:
            self._path.unlink()
            self._path = self._folder / f"{next(self._numbers)}{self._draw.choice(self._endings)}"

    def _append(self) -> None:
        self._rows += [self._row() for _ in range(self._draw.randint(1, 3))]

    def _insert(self) -> None:
        self._rows.insert(self._draw.randrange(len(self._rows)), self._row())

    def _delete(self) -> None:
        del self._rows[self._draw.randrange(len(self._rows))]

    def _shuffle(self) -> None:
        self._draw.shuffle(self._rows)

    def _change(self) -> None:
        """Let a row ask something else."""
        self._draw.choice(self._rows)["text"] = self._text()

    def _label(self) -> None:
        """Change a field that no prompt is made of. A row without an id would be a new one."""
        known = [row for row in self._rows if row["id"] is not None]
        if known:
            self._draw.choice(known)["more"] = f"{next(self._numbers)}"
