"""The README's tour of a table runs as it stands: with the simulator, and against a server that others wrote."""

import csv
import re
import shlex
import shutil
from pathlib import Path

from processes import llmock, run, said

ROOT = Path(__file__).parents[2]
(TOUR,) = re.findall(r"<!-- the tour of a table -->\n```sh\nrunner (.*)\n```", (ROOT / "README.md").read_text(encoding="utf-8"))


def answered(folder: Path, words: list[str]) -> list[dict[str, str]]:
    (folder / "jobs").mkdir()
    shutil.copy(ROOT / "jobs" / "reviews.csv", folder / "jobs" / "reviews.csv")
    ended = run(*words, cwd=folder)
    assert (ended.code, said(ended.err)) == (0, ""), ended
    assert "8 of 8 rows written to answers.csv" in ended.out
    with (folder / "answers.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:5] == ["id", "input_text", "stars", "prompt", "text"]
    assert [row["id"] for row in rows] == [f"r{number}" for number in range(1, 9)]
    for row in rows:
        assert row["prompt"] == f"Classify this review as good, bad or mixed: {row['input_text']}"
    return rows


def test_with_the_simulator(tmp_path: Path) -> None:
    assert all(row["text"].startswith("[simulated answer]") for row in answered(tmp_path, shlex.split(TOUR)))


def test_with_a_server_that_others_wrote(tmp_path: Path) -> None:
    with llmock("--response-style", "echo") as server:
        address = f"--base-url {server.base_url('openai')} --model echo"
        rows = answered(tmp_path, shlex.split(TOUR.replace("--provider simulator", address)))
        assert len(server.requests()) == 8
    assert all(row["prompt"][:60] in row["text"] for row in rows)
