"""A folder with a prompt file that is edited between sessions, and a server that counts the prompts that it receives."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from processes import assert_clean, rows, run, said
from raw_server import RawServer, Received, Reply, in_thread, openai_answer

ROWS = 12


class Asked(Counter[str]):
    """Counts how often the server received each prompt. refused: replies to prompts that are not echoed."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: dict[str, Reply] = {}

    def __call__(self, request: Received) -> Reply:
        prompt = request.json["messages"][0]["content"]
        self[prompt] += 1
        return self.refused.get(prompt) or openai_answer(f"echo {prompt}")


class Desk:
    """A folder with a prompt file, and a server with its counts."""

    def __init__(self, folder: Path, server: RawServer, asked: Asked) -> None:
        self.folder, self.server, self.asked = folder, server, asked
        self.store, self.prompts = folder / "runner.db", folder / "prompts.jsonl"

    def job(self, answers: int | None, **more: Any) -> dict[str, Any]:
        """Return the arguments of a run that wants so many answers of each row."""
        return {"db": self.store, "model": "m", "base_url": self.server.base_url, "answers": answers, **more}

    def write(self, lines: list[dict[str, Any]], end: str = "\n") -> None:
        self.prompts.write_text("\n".join(json.dumps(line) for line in lines) + end)

    @property
    def command(self) -> tuple[str, ...]:
        """The command that runs the file against the server."""
        return ("run", "prompts.jsonl", "--model", "m", "--base-url", self.server.base_url)

    def run(self, *options: str, command: tuple[str, ...] = (), code: int = 0) -> str:
        """Run the file and return its standard output."""
        ended = run(*(command or self.command), *options, cwd=self.folder)
        assert (ended.code, said(ended.err)) == (code, ""), ended
        return ended.out

    def answers(self) -> dict[str, str]:
        return dict(rows(self.store, "SELECT key, text FROM items WHERE status = 'done' ORDER BY position"))

    def exported(self) -> list[str]:
        ended = run("export", "1", "-o", "-", "--format", "jsonl", cwd=self.folder)
        assert_clean(ended)
        return [json.loads(line)["text"] for line in ended.out.splitlines()]


def numbered(*, ids: bool) -> list[dict[str, Any]]:
    return [{**({"id": f"row-{one}"} if ids else {}), "prompt": f"prompt {one}"} for one in range(ROWS)]


@contextmanager
def opened(folder: Path, asked: Asked, lines: list[dict[str, Any]]) -> Iterator[Desk]:
    """Yield a desk with these lines, whose server answers as ``asked`` does."""
    with in_thread(RawServer(asked)) as server:
        desk = Desk(folder, server, asked)
        desk.write(lines)
        yield desk
