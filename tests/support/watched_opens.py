"""A program that uses a store in every way, and prints where its own code opens the store as a plain file."""

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import runner

PROMPTS, STORE, URL = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
FILES = {str(STORE.with_name(f"{STORE.name}{ending}").resolve()) for ending in ("", "-wal", "-shm")}


def tell(event: str, values: tuple[Any, ...]) -> None:
    """Print the stack of a plain open of the store, once it is there. SQLite opens its files without this event."""
    if event != "open" or isinstance(values[0], int) or values[0] is None:
        return
    path = os.path.realpath(os.fsdecode(values[0]))
    if path in FILES and Path(path).exists():
        print(f"opened {path}", *traceback.format_stack()[-6:-1], sep="\n")


def main() -> None:
    """Run, retry, read and export."""
    sys.addaudithook(tell)
    job: dict[str, Any] = {"model": "m", "base_url": URL, "attempts": 1, "max_tokens": 50}
    runner.run(PROMPTS, db=STORE, **job)
    runner.retry(db=STORE, classes="length")
    runner.retry(db=STORE, ids=["r1"])
    runner.run(PROMPTS, db=STORE, new=True, reuse=True, **job)
    runner.status(db=STORE)
    list(runner.results(db=STORE))
    for name in ("out.csv", "out.sqlite", "out.sqlite"):
        runner.export(STORE.with_name(name), db=STORE)
    refused: list[Callable[[], object]] = [
        lambda: runner.retry(db=STORE, ids=STORE),
        lambda: runner.run(STORE, db=STORE, **job),
        lambda: runner.run(PROMPTS, db=STORE, new=True, schema=STORE, **job),
        lambda: runner.export(STORE, db=STORE),
    ]
    for use in refused:
        try:
            use()
        except runner.UsageError:
            print("refused")


main()
