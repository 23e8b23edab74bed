"""How many rows of each format are read in a second of processor time, beside Python's own csv module.

    python -m benchmarks.inputs [--rows 100000]

Reading is what a start does with the whole file; the answers take thousands of times as long. The target is 100,000 rows of CSV
in a second; the ratio says the same on any machine.
"""

import argparse
import csv
import io
import json
import random
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from runner.inputs.options import ReadOptions
from runner.session.opening import open_input

TARGET = 100_000
_WORDS = ("good", "bad, really", 'so "so"', "arrived late", "fine", "über Erwarten")
_ASKED = ReadOptions(asked=frozenset({"text"}))


def records(number: int) -> list[dict[str, str]]:
    """Return rows such as a table of reviews has, of about 200 characters each."""
    chance = random.Random(1)  # noqa: S311 - text to read, and no secret

    def record(one: int) -> dict[str, str]:
        return {"id": f"r{one}", "text": " ".join(chance.choices(_WORDS, k=20)), "lang": "de", "score": str(one / 7)}

    return [record(one) for one in range(number)]


def as_csv(rows: list[dict[str, str]], delimiter: str = ",") -> bytes:
    """Return the rows as a table of texts."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


FORMATS: dict[str, Callable[[list[dict[str, str]]], bytes]] = {
    "csv": as_csv,
    "tsv": lambda rows: as_csv(rows, "\t"),
    "jsonl": lambda rows: "".join(f"{json.dumps(row)}\n" for row in rows).encode(),
    "json": lambda rows: json.dumps(rows, indent=1).encode(),
    "txt": lambda rows: "".join(f"{row['text']}\n" for row in rows).encode(),
}


def spent(read: Callable[[], Iterable[object]]) -> tuple[int, float]:
    """Return how many rows come, and the seconds of processor time that takes."""
    begun = time.process_time()
    number = sum(1 for _ in read())
    return number, time.process_time() - begun


def main() -> None:
    """Print a line for each format."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    rows = records(parser.parse_args().rows)
    with TemporaryDirectory() as folder:
        for name, made in FORMATS.items():
            path = Path(folder, f"rows.{name}")
            path.write_bytes(made(rows))
            number, seconds = spent(lambda path=path: open_input(path, _ASKED).read())  # type: ignore[misc]
            words = f"{name:6} {number / seconds:12,.0f} rows per second of processor time"
            if name == "csv":
                with path.open(newline="", encoding="utf-8") as file:
                    _, plain_s = spent(lambda file=file: csv.DictReader(file))  # type: ignore[misc]
                met = "met" if number / seconds >= TARGET else "MISSED"
                words += f"; {plain_s / seconds:.2f} of csv.DictReader; target {TARGET:,}: {met}"
            print(words)


if __name__ == "__main__":
    main()
