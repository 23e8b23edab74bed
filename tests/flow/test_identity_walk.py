"""Random walks of a prompt file through edits, renames and sessions: no prompt is ever bought twice, and none is left out."""

import gzip
import json
import random
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from desk import Asked
from raw_server import RawServer, in_thread

import runner

STEPS = 8


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[RawServer, Asked]]:
    asked = Asked()
    with in_thread(RawServer(asked)) as server:
        yield server, asked


class Walk:
    """A file in one of several places, with rows of which half have ids."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.draw, self.numbers = folder, random.Random(seed), count()
        self.seed = seed
        self.path = folder / "0.jsonl"
        self.rows: list[dict[str, Any]] = [self.row() for _ in range(12)]

    def row(self) -> dict[str, Any]:
        number = next(self.numbers)
        return {**({"id": f"row {number}"} if number % 2 else {}), "prompt": f"walk {self.seed}, {number}"}

    def append(self) -> None:
        self.rows += [self.row() for _ in range(self.draw.randint(1, 3))]

    def insert(self) -> None:
        self.rows.insert(self.draw.randrange(len(self.rows)), self.row())

    def delete(self) -> None:
        del self.rows[self.draw.randrange(len(self.rows))]

    def shuffle(self) -> None:
        self.draw.shuffle(self.rows)

    def nothing(self) -> None:
        pass

    def move(self) -> None:
        self.path.unlink()
        ending = ".gz" if self.draw.random() < 0.3 else ""
        self.path = self.folder / f"{next(self.numbers)}.jsonl{ending}"

    def write(self) -> None:
        text = "\n".join(map(json.dumps, self.rows)) + ("\n" if self.draw.random() < 0.7 else "")
        self.path.write_bytes(gzip.compress(text.encode()) if self.path.suffix == ".gz" else text.encode())

    def step(self) -> None:
        changes = [self.append, self.append, self.insert, self.delete, self.shuffle, self.nothing]
        for change in self.draw.choices(changes, k=self.draw.randint(0, 2)):
            change()
        if self.draw.random() < 0.4:
            self.move()
        self.write()


@pytest.mark.parametrize("seed", range(12))
def test_whatever_becomes_of_the_file_each_row_is_bought_once(tmp_path: Path, served: tuple[RawServer, Asked], seed: int) -> None:
    server, asked = served
    walk, store = Walk(tmp_path, seed), tmp_path / "runner.db"
    walk.write()
    for _ in range(STEPS):
        limit = walk.draw.randint(1, 20) if walk.draw.random() < 0.3 else None
        summary = runner.run(walk.path, db=store, model="m", base_url=server.base_url, limit=limit)
        assert (summary.run, summary.changed, summary.failed) == (1, 0, 0)
        assert summary.finished or limit is not None
        if walk.draw.random() < 0.3:
            runner.retry(db=store)
        walk.step()
    assert runner.run(walk.path, db=store, model="m", base_url=server.base_url).finished
    mine = {prompt: times for prompt, times in asked.items() if prompt.startswith(f"walk {seed},")}
    assert set(mine.values()) == {1}
    there = [row["prompt"] for row in walk.rows]
    assert set(there) <= set(mine)
    # the export has the rows of the file in its order, and those that have left it
    exported = [str(result.text).removeprefix("echo ") for result in runner.results(db=store)]
    assert [prompt for prompt in exported if prompt in there] == there
    assert set(exported) == set(mine)
