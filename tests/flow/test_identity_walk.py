"""The short form of the edit harness; ``python -m tests.edits`` is the long one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from desk import Asked
from edits.walk import Walk
from raw_server import RawServer, in_thread


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[RawServer, Asked]]:
    asked = Asked()
    with in_thread(RawServer(asked)) as server:
        yield server, asked


WALKS = [("jsonl", 6), ("csv", 4), ("parquet", 3)]


@pytest.mark.parametrize(("kind", "seed"), [(kind, seed) for kind, number in WALKS for seed in range(number)])
def test_whatever_becomes_of_the_file_each_row_is_bought_once(
    tmp_path: Path, served: tuple[RawServer, Asked], kind: str, seed: int
) -> None:
    Walk(tmp_path, kind, seed).go(*served)
