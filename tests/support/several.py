"""Runs with several endpoints: a folder with prompts, servers on loopback, and answers that these give."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from processes import rows, write_prompts
from raw_server import RST, RawServer, Reply, anthropic_answer, in_thread, openai_answer, whole

import runner as api
from runner.event_types import Event, Noted, Summary

UNAUTHORIZED = whole("401 Unauthorized", {"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}})
FORBIDDEN = whole("403 Forbidden", {"error": {"message": "not from here", "code": "region_blocked"}})
CONTENT = whole("400 Bad Request", {"error": {"message": "The prompt was refused", "code": "content_policy_violation"}})
FULL = whole("429 Too Many Requests", {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}, retry_after="30")
CUT = Reply((RST,))


def answer(dialect: str = "openai", text: str = "Hello") -> Reply:
    return openai_answer(text) if dialect == "openai" else anthropic_answer(text)


class Desk:
    """A folder with a prompt file, and servers on loopback."""

    def __init__(self, folder: Path, servers: list[RawServer], number: int) -> None:
        self.folder, self.servers, self.store = folder, servers, folder / "r.db"
        self.prompts = folder / "prompts.jsonl"
        write_prompts(self.prompts, range(number))
        self.notes: list[str] = []

    @property
    def urls(self) -> list[str]:
        return [server.base_url for server in self.servers]

    def asked(self) -> list[int]:
        return [len(server.requests) for server in self.servers]

    def observe(self, event: Event) -> None:
        if isinstance(event, Noted):
            self.notes.append(event.note)

    def run(self, **settings: Any) -> Summary:
        if "endpoints" not in settings:
            settings = {"base_url": self.urls, **settings}
        return api.run(self.prompts, db=self.store, observe=self.observe, **{"model": "m", "concurrency": 4, **settings})

    def attempts(self) -> Counter[tuple[str, str | None]]:
        return Counter(rows(self.store, "SELECT endpoint, error_code FROM attempts"))


@contextmanager
def desk(folder: Path, *answers: Any, number: int = 20) -> Iterator[Desk]:
    with ExitStack() as stack:
        yield Desk(folder, [stack.enter_context(in_thread(RawServer(one))) for one in answers], number)
