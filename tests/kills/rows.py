"""The file of rows of a campaign, in each of its formats. Rows are added to it while the run goes on."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from kills.endpoint import prompt_of
from kills.judge import key_of

TEMPLATE = "Tell me about the number {{ number }}."
"""Makes what ``prompt_of`` gives."""
_FILLER = "so that the file takes a while to be read, and rows take some room in the store's log; " * 40


def _row(number: int) -> dict[str, str | int]:
    # a line break and a quote in a cell, so that a line is no row
    return {"id": key_of(number), "number": number, "filler": f'"{number}"\n{_FILLER}'}


def _jsonl(path: Path, begin: int, end: int) -> None:
    with path.open("a", encoding="utf-8") as file:
        for number in range(begin, end):
            row = {"id": key_of(number), "prompt": prompt_of(number), "filler": _FILLER}
            file.write(json.dumps(row) + "\n")


def _csv(path: Path, begin: int, end: int) -> None:
    with path.open("a", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, _row(0))
        if not begin:
            table.writeheader()
        table.writerows(map(_row, range(begin, end)))


def _parquet(path: Path, begin: int, end: int) -> None:
    # its end is an index, so nothing can be added: it is replaced as a whole
    whole = path.with_suffix(".new")
    pq.write_table(pa.Table.from_pylist([_row(number) for number in range(end)]), whole, row_group_size=16)
    whole.replace(path)


KINDS: dict[str, Callable[[Path, int, int], None]] = {"jsonl": _jsonl, "csv": _csv, "parquet": _parquet}
"""By name: adds the rows from one number to another."""
