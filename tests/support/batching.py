"""Sessions whose rows go through batches: the real engine, service and store, at a simulator in the same process."""

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from msgspec import structs

from runner.batches import BATCH_TIER, BatchCounts, BatchResult, Reask, Remote
from runner.engine.batch.flow import Batches
from runner.engine.batch.parts import Left, Plan, Rules, Told
from runner.engine.bounds import Bounds
from runner.engine.clock import Clock
from runner.engine.judge import Judge
from runner.engine.retry import RetryPolicy
from runner.engine.stop import Stop
from runner.model import Entry, HttpCall, Item, Outcome, Params, Request
from runner.money import Price, Rates
from runner.providers.batch.lines import line_maker, openai_results
from runner.providers.batch.rules import vendor_of
from runner.providers.batch.service import open_service
from runner.providers.batch.transport import Way
from runner.providers.dialects import anthropic, openai
from runner.providers.informed import Informed
from runner.store import database
from runner.store.checkpoint import RunStore
from runner.store.runs import open_run
from runner.text import Redactor

ANSWER = {"model": "m", "provider": "openai"}
RATES = Rates(input=1, output=1, cached_input=1, cache_write=1, reasoning=1, cache_write_1h=1)
DIALECTS = ("openai", "anthropic")


class Fast:
    """A clock whose sleeps pass at once, as far as others see it: the simulator's time is real, and short."""

    def __init__(self) -> None:
        self.ahead = 0.0

    async def sleep(self, seconds: float) -> None:
        self.ahead += max(0.0, seconds - 0.01)
        await anyio.sleep(min(seconds, 0.01))

    def clock(self) -> Clock:
        return Clock(monotonic=lambda: time.monotonic() + self.ahead, sleep=self.sleep)


def items_of(count: int, *, params: Params | None = None, **fields: Any) -> list[Item]:
    return [
        Item(
            key=f"row-{number}",
            position=number + 1,
            request=Request(
                model="m",
                messages=({"role": "user", "content": f"row {number}\nand a line"},),
                params=params or Params(),
                **fields,
            ),
            metadata={"n": number},
            fingerprint=1000 + number,
        )
        for number in range(count)
    ]


class Killed(BaseException):
    """Stands for a kill of the process: nothing after it is done, and what was stored stays."""


class Deadly:
    """A service, or a store, behind one of whose calls the process is killed.

    What is before a call is what is behind the last one, so that there are no other points.
    """

    def __init__(self, inner: Any, calls: "Calls", names: Collection[str]) -> None:
        self._inner, self._calls, self._names = inner, calls, names

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in self._names:
            return found

        async def called(*values: Any, **named: Any) -> Any:
            result = await found(*values, **named)
            self._calls.step(name)
            return result

        return called


class Calls:
    """Counts the points at which a process may be killed, and kills it at one of them, counted from 1. at: 0: at none."""

    def __init__(self, at: int = 0) -> None:
        self.at, self.seen = at, list[str]()

    def step(self, name: str) -> None:
        self.seen.append(name)
        if len(self.seen) == self.at:
            raise Killed(name)


REQUESTS = ("upload", "find_upload", "create", "find", "look", "cancel", "download", "forget")
COMMITS = ("begin_batch", "add_rows", "change", "drop_batch", "settle", "release", "give_up")


class Scripted:
    """A provider of the OpenAI dialect in memory: ``answer`` returns the line of results for a request, None for none."""

    base_url, account = "http://provider/v1", "abcd"

    def __init__(self, answer: Callable[[str, dict[str, Any]], dict[str, Any] | None]) -> None:
        self.rules = vendor_of("openai", "https://api.openai.com/v1").rules
        self.answer = answer
        # what was asked, batch by batch: bodies by id
        self.asked: list[dict[str, dict[str, Any]]] = []
        self.lines: dict[str, list[bytes]] = {}
        self.end: Any = "completed"
        self.counts = BatchCounts()
        self.deleted: list[str] = []
        self._line = line_maker(b'"body":')

    def custom_id(self, key: str) -> str:
        return key

    def line(self, custom_id: str, call: HttpCall) -> bytes:
        return self._line(custom_id, call.body)

    async def upload(self, path: Path, token: str) -> str:
        return f"file-{token}"

    async def create(self, path: Path, upload_id: str | None, token: str) -> Remote:
        rows = {one["custom_id"]: one["body"] for one in map(json.loads, path.read_bytes().splitlines())}  # noqa: ASYNC240 - a small file
        self.asked.append(rows)
        lines = (self.answer(name, body) for name, body in rows.items())
        self.lines[token] = [json.dumps(line).encode() + b"\n" for line in lines if line is not None]
        return Remote(id=token, phase="working", token=token)

    async def look(self, remote_id: str) -> Remote:
        fields: dict[str, Any] = {"counts": self.counts, "ended_at": time.time(), "results": (remote_id,), "token": remote_id}
        return Remote(id=remote_id, phase="ended", end=self.end, **fields)

    async def download(self, source: str, path: Path) -> None:
        path.write_bytes(b"".join(self.lines[source]))  # noqa: ASYNC240 - a small file

    def results(self, path: Path) -> Iterator[BatchResult]:
        return openai_results(path)

    async def forget(self, upload_id: str) -> None:
        self.deleted.append(upload_id)


def said(custom_id: str, text: str, **fields: Any) -> dict[str, Any]:
    """The line of an answer."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 20, "completion_tokens": 8, "total_tokens": 28}
    body = {"id": f"r-{custom_id}", "model": "m-1", "choices": [choice], "usage": usage, **fields}
    return {"custom_id": custom_id, "response": {"status_code": 200, "body": body}, "error": None}


def refused(custom_id: str, status: int, message: str, **error: Any) -> dict[str, Any]:
    """The line of a refusal."""
    body = {"error": {"message": message, "type": "invalid_request_error", **error}}
    return {"custom_id": custom_id, "response": {"status_code": status, "body": body}, "error": None}


def new_store(folder: Path) -> Path:
    path = folder / "runner.db"
    if not path.exists():
        database.prepare(path, create=True)
        open_run(path, folder / "p.jsonl", ANSWER, ANSWER, new=False)
    return path


class Session:
    """One session over some rows."""

    def __init__(self, store: RunStore, items: Sequence[Item], kept: Any) -> None:
        self.store, self.items, self._kept = store, items, kept
        self.stop = Stop()
        self.notes: list[str] = []
        self.entries: list[Entry] = []
        self.passes = 0
        self.changed: Callable[[], None] = lambda: None
        self.batches: Batches
        self.account: str

    async def source(self) -> AsyncGenerator[Item | Outcome, None]:
        """The rows without outcome that do not wait, as the source of an input yields them."""
        self.passes += 1
        for begin in range(0, len(self.items), 1000):
            part = self.items[begin : begin + 1000]
            found = await self.store.settled([item.key for item in part])
            for item in part:
                stored = found.get(item.key)
                if stored is None:
                    yield item
                elif stored.status is None and not stored.waiting:
                    yield structs.replace(item, attempts_before=stored.attempts)

    async def save(
        self, batch_id: int | None, entries: Sequence[Entry], settled: Sequence[str] = (), reasks: Sequence[Reask] = ()
    ) -> Sequence[Entry]:
        if batch_id is None:
            await self.store.save(entries)
        else:
            await self._kept.settle(batch_id, entries, settled, reasks)
        self.entries += entries
        return entries

    async def run(self, **options: Any) -> Left:
        with anyio.fail_after(60):
            await self.batches.recover()
            return await self.batches.run(self.source, **options)

    @property
    def outcomes(self) -> dict[str, Outcome]:
        return {entry.key: entry for entry in self.entries if isinstance(entry, Outcome)}


def price_of(model: str, _bound: Bounds, _at: float) -> Price:
    return Price(model=model, tier=BATCH_TIER, rates=RATES)


@asynccontextmanager
async def session(
    folder: Path,
    url: str,
    dialect: str,
    items: Sequence[Item],
    *,
    key: str = "key-one",
    policy: RetryPolicy | None = None,
    kill: Calls | None = None,
    service: Any = None,
    informed: dict[str, Any] | None = None,
    judge: Judge | None = None,
    clock: Clock | None = None,
    files: Path | None = None,
    **plan: Any,
) -> AsyncIterator[Session]:
    """A session over rows: the store is made if there is none."""
    made = openai.make if dialect == "openai" else anthropic.make
    provider = made(f"{url}/v1", key, version="1", stream=False)
    async with (
        RunStore.own(new_store(folder), 1) as store,
        open_service(dialect, f"{url}/v1", key, provider, Way(version="1")) as opened,
    ):
        service = service or opened
        kept: Any = store.batches if kill is None else Deadly(store.batches, kill, COMMITS)
        one = Session(store, items, kept)
        one.account = service.account
        one.batches = Batches(
            service if kill is None else Deadly(service, kill, REQUESTS),
            kept,
            Informed(provider, tell=one.notes.append, **(informed or {})),
            judge or Judge(model="m"),
            plan=Plan(run_id=1, folder=files or folder / "runner.db.batches", price=price_of, **plan),
            rules=Rules(policy=policy or RetryPolicy(), stop=one.stop, redactor=Redactor(), clock=clock or Fast().clock()),
            told=Told(save=one.save, note=one.notes.append, changed=lambda: one.changed()),
        )
        yield one
