"""The files that the commands of the documents are about, by the names that the documents use."""

import base64
import csv
import gzip
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from doc_blocks import ROOT

ROWS = 60
"""Enough for ``estimate --sample 50``."""
_PNG = base64.b64decode(b"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")


def reviews(letter: str = "r") -> str:
    """Return a table of reviews. letter: with which their ids begin."""
    file = io.StringIO(newline="")
    table = csv.writer(file, lineterminator="\n")
    table.writerow(["id", "text", "stars", "lang"])
    for number in range(1, ROWS + 1):
        table.writerow(
            [f"{letter}{number}", f"Fine for the price, number {number}.", number % 5 + 1, "de" if number % 3 == 0 else "en"]
        )
    return file.getvalue()


def prompts(power: str = "squared") -> str:
    """Return prompts as JSON lines. power: what they ask for."""
    lines = (
        {
            "id": f"a{number}",
            "prompt": f"What is {number} {power}?",
            "question": f"{number} {power}?",
            "lang": "en",
            "topic": "sky",
        }
        for number in range(1, ROWS + 1)
    )
    return "".join(f"{json.dumps(line)}\n" for line in lines)


def batch_results() -> str:
    """Return results as OpenAI's Batch API gives them."""
    answer = {"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Because."}}]}
    request = {"method": "POST", "url": "/v1/chat/completions", "body": {"messages": [{"role": "user", "content": "Why?"}]}}
    lines = (
        {"custom_id": f"b{n}", "response": {"status_code": 200, "body": answer}, "error": None, "request": request}
        for n in (1, 2)
    )
    return "".join(f"{json.dumps(line)}\n" for line in lines)


def _written(text: Callable[[], str]) -> Callable[[Path], None]:
    return lambda path: path.write_text(text(), encoding="utf-8") and None


def _packed(path: Path) -> None:
    path.write_bytes(gzip.compress(reviews("c").encode()))


def _parquet(path: Path) -> None:
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"id": [path.stem], "text": ["Fine."]}), path)


def _picture(path: Path) -> None:
    path.write_bytes(_PNG)


SCHEMA = {
    "type": "object",
    "properties": {"mood": {"enum": ["good", "bad", "mixed"]}, "reason": {"type": "string"}},
    "required": ["mood", "reason"],
    "additionalProperties": False,
}

FILES: dict[str, Callable[[Path], None]] = {
    "reviews.csv": _written(reviews),
    "mine.jsonl": _written(prompts),
    "prompts.jsonl": _written(lambda: prompts("cubed")),
    "a.csv": _written(lambda: reviews("a")),
    "b.csv": _written(lambda: reviews("b")),
    "c.csv.gz": _packed,
    "data/a.csv": _written(reviews),
    "data/part-1.parquet": _parquet,
    "data/part-2.parquet": _parquet,
    "photos.csv": _written(lambda: "id,question,image_path\np1,What is on it?,photos/1.png\n"),
    "photos/1.png": _picture,
    "poems.txt": _written(lambda: "Shall I compare thee?\n"),
    "batch_output.jsonl": _written(batch_results),
    "schema.json": _written(lambda: json.dumps(SCHEMA)),
    "prompt.txt": _written(lambda: "Good, bad or mixed? {{ text }}\n"),
    "ids.txt": _written(lambda: "a1\na2\n"),
}
"""What each page finds in its folder, besides ``jobs/`` of the repository."""


def furnish(folder: Path) -> None:
    """Write the files into a folder."""
    shutil.copytree(ROOT / "jobs", folder / "jobs")
    for name, write in FILES.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        write(path)
