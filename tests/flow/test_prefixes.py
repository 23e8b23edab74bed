"""Shared prefixes end to end: what three kinds of provider find in their caches, what that saves, and what stays as it is."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest
from processes import rows, run, simulator
from processes import runner as started
from raw_server import RawServer, Received, Reply, delta, finish, in_thread, openai_answer, stream, whole
from simulating import quick

import runner
from benchmarks import prefixes as figure
from runner.config.job import load_job
from runner.event_types import Started
from runner.session import prefixes
from runner.session.opening import template_of
from runner.simulator import Price, Simulator

pytestmark = pytest.mark.anyio

LONG = "word " * 1_100
"""About 1,400 tokens."""
PRICES = {"m": {"input": 2.0, "output": 8.0, "cached_input": 0.2, "cache_write": 2.5}}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def cached() -> AsyncIterator[Simulator]:
    price = Price(**{name: Decimal(str(value)) for name, value in PRICES["m"].items()})
    async with quick(cache="openai", first_token_s=0.02, prices={"m": price}) as server:
        yield server


def write(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def asked(number: int) -> list[dict[str, Any]]:
    return [{"id": f"r{row}", "text": f"text {row}"} for row in range(number)]


def told(folder: Path, server: Simulator, **more: Any) -> dict[str, Any]:
    return {"db": folder / "r.db", "model": "m", "base_url": f"{server.url}/v1", "prices": PRICES, **more}


@pytest.mark.parametrize("kind", figure.KINDS)
async def test_a_run_gets_what_is_reachable(kind: Any) -> None:
    found = await figure.measure(kind, 5, 100, concurrency=32)
    assert found.requests == 100
    assert found.share >= figure.GOAL


async def test_a_long_head_of_a_template_is_warmed_by_itself(tmp_path: Path, cached: Simulator) -> None:
    path = write(tmp_path / "p.jsonl", asked(60))
    summary = await runner.arun(path, **told(tmp_path, cached, prompt=LONG + "{{ text }}", concurrency=30))
    bill = cached.invoice()
    # 1,408 tokens in steps of 128, for each row but the first
    assert bill.cached_tokens == 59 * 1_280 or bill.cached_tokens == 59 * 1_408
    assert (summary.done, bill.requests) == (60, 60)
    # what the cache saved is the difference to the whole price, and the books are the bill
    assert summary.cost == pytest.approx(float(bill.amount))
    assert summary.cost_saved_by_cache == pytest.approx(bill.cached_tokens * 1.8e-6)
    _, books = runner.status(db=tmp_path / "r.db")
    assert (books.cost_saved_by_cache, books.cached_tokens) == (summary.cost_saved_by_cache, bill.cached_tokens)
    shown = await anyio.to_thread.run_sync(lambda: run("status", "1", "--db", "r.db", cwd=tmp_path).out)
    assert "caches saved $0." in shown


async def test_what_was_written_in_vain_is_said(tmp_path: Path) -> None:
    price = Price(**{name: Decimal(str(value)) for name, value in PRICES["m"].items()})
    path = write(tmp_path / "p.jsonl", [{"prompt": f"p {number}"} for number in range(2)])
    async with quick(cache="anthropic", prices={"m": price}) as server:
        # each row has another system text, with a mark of its own
        extra = {"system": [{"type": "text", "text": LONG, "cache_control": {"type": "ephemeral"}}]}
        settings = told(tmp_path, server, provider="anthropic", extra_body=extra)
        summary = await runner.arun(path, limit=1, **{**settings, "base_url": server.url})
        written = server.invoice().written_tokens
    assert summary.cost_saved_by_cache == pytest.approx(-written * 0.5e-6)
    shown = await anyio.to_thread.run_sync(lambda: run("status", "1", "--db", "r.db", cwd=tmp_path).out)
    assert "writing to caches cost $0.00" in shown


@pytest.mark.parametrize("more", [{}, {"warm_prefix": True, "cache_prefix": True}, {"stream": False}])
async def test_a_mark_in_a_system_message_is_read_from_the_cache(tmp_path: Path, more: dict[str, Any]) -> None:
    price = Price(**{name: Decimal(str(value)) for name, value in PRICES["m"].items()})
    head = [{"type": "text", "text": LONG, "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "Be brief."}]
    lines = [{"messages": [{"role": "system", "content": head}, {"role": "user", "content": f"q{row}"}]} for row in range(6)]
    path = write(tmp_path / "p.jsonl", lines)
    async with quick(cache="anthropic", prices={"m": price}) as server:
        settings = {**told(tmp_path, server, provider="anthropic", concurrency=1, **more), "base_url": server.url}
        summary = await runner.arun(path, **settings)
        bill = server.invoice()
    assert summary.done == 6
    assert bill.cached_tokens == 5 * bill.written_tokens > 5 * 1_024
    assert summary.cost == pytest.approx(float(bill.amount))


def test_only_a_beginning_that_a_provider_would_cache_is_worth_a_wait(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", asked(2))

    def is_warmed(**settings: Any) -> bool:
        job = load_job(path, {"model": "m", **settings}, {})
        return prefixes.warming(job, template_of(job)) is not None

    assert is_warmed(prompt=LONG + "{{ text }}")
    assert is_warmed(prompt="{{ text }}", system=LONG)
    assert is_warmed(system=LONG)
    assert not is_warmed()
    assert not is_warmed(prompt="Sum up: {{ text }}", system="Be brief.")
    assert not is_warmed(prompt="{{ text }}" + LONG)
    assert not is_warmed(prompt=LONG + "{{ text }}", warm_prefix=False)
    assert is_warmed(prompt="{{ text }}", warm_prefix=True)
    # what has to be marked is not cached without a mark
    assert not is_warmed(prompt=LONG + "{{ text }}", provider="anthropic")
    assert is_warmed(prompt=LONG + "{{ text }}", provider="anthropic", cache_prefix=True)


async def test_marks_that_nothing_gets_are_told(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", [{"topic": f"{number % 2} {LONG}", "text": f"t{number}"} for number in range(6)])
    notes: list[str] = []

    def observe(event: object) -> None:
        notes.extend(event.notes if isinstance(event, Started) else ())

    async def told_of(prompt: str, **settings: Any) -> list[str]:
        notes.clear()
        async with quick() as server:
            settings |= {"provider": "anthropic", "base_url": server.url, "model": "m", "cache_prefix": True, "prompt": prompt}
            await runner.arun(path, db=tmp_path / "r.db", new=True, observe=observe, **settings)
            remarks = (await anyio.to_thread.run_sync(lambda: runner.check(path, **settings))).remarks
        found = [note for note in notes if "--cache-prefix" in note]
        assert found == [remark for remark in remarks if "--cache-prefix" in remark]
        return found

    (said,) = await told_of("{{ topic }} Now: {{ text }}", warm_prefix=True)
    assert "marks nothing: no two of the first 6 rows" in said
    assert "--system '{{ topic }}'" in said
    assert await told_of("{{ text }}", system="{{ topic }}") == []
    assert await told_of(f"{LONG} {{{{ text }}}}") == []
    (short,) = await told_of("{{ text }}", system="Be brief.")
    assert "1,024 tokens or more" in short
    own = {"system": [{"type": "text", "text": LONG, "cache_control": {"type": "ephemeral"}}]}
    assert await told_of("{{ text }}", extra_body=own) == []


async def test_a_run_that_is_resumed_has_each_row_once_and_in_its_place(tmp_path: Path, cached: Simulator) -> None:
    lines = [
        {
            "id": f"r{number}",
            "messages": [{"role": "system", "content": f"{number % 3} {LONG}"}, {"role": "user", "content": "q"}],
        }
        for number in range(30)
    ]
    path = write(tmp_path / "p.jsonl", lines)
    settings = told(tmp_path, cached, warm_prefix=True)
    first = await runner.arun(path, limit=10, **settings)
    # the first ten rows, whatever their order was
    assert [key for (key,) in rows(tmp_path / "r.db", "SELECT key FROM items ORDER BY position")] == [f"r{n}" for n in range(10)]
    second = await runner.arun(path, **settings)
    assert (first.done, second.skipped, second.done, cached.invoice().requests) == (10, 10, 30, 30)
    assert [result.id for result in runner.results(db=tmp_path / "r.db")] == [f"r{number}" for number in range(30)]


class Gate:
    """A server whose answer to the first request of a prefix fails or breaks off, and that counts what is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, request: Received) -> Reply:
        self.asked.append(request.json["messages"][-1]["content"])
        if len(self.asked) == 1:
            return whole("500 Internal Server Error", {"error": {"message": "broken", "type": "server_error"}})
        return openai_answer("yes")


def test_a_first_row_that_fails_does_not_hold_up_the_others(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", asked(8))
    with in_thread(RawServer(gate := Gate())) as server:
        settings = {"db": tmp_path / "r.db", "model": "m", "base_url": server.base_url, "attempts": 2}
        summary = runner.run(path, prompt=LONG + "{{ text }}", **settings)
    assert (summary.done, summary.failed) == (8, 0)
    assert len(gate.asked) == 9


class Slow:
    """A server whose first answer begins at once, and ends when all rows have been asked."""

    def __init__(self, number: int) -> None:
        self.number, self.all_asked = number, asyncio.Event()
        self.asked = 0

    def __call__(self, request: Received) -> Reply:
        self.asked += 1
        if self.asked == self.number:
            self.all_asked.set()
        return stream(delta("yes"), self.all_asked, finish()) if self.asked == 1 else openai_answer("yes")


def test_the_others_go_as_soon_as_the_first_answer_begins(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", asked(8))
    with in_thread(RawServer(Slow(8))) as server:
        settings = {"db": tmp_path / "r.db", "model": "m", "base_url": server.base_url, "silence_s": 5.0}
        summary = runner.run(path, prompt=LONG + "{{ text }}", **settings)
    assert (summary.done, summary.attempts_now) == (8, 8)


def test_a_stop_ends_the_wait(tmp_path: Path) -> None:
    write(tmp_path / "p.jsonl", asked(50))
    (tmp_path / "ask.txt").write_text(LONG + "{{ text }}")
    options = ("run", "p.jsonl", "--model", "m", "--prompt-file", "ask.txt", "--db", "r.db")
    with simulator("--first-token-s", "3600") as server:
        with started(*options, "--base-url", server.openai, cwd=tmp_path) as process:
            process.until(server.sent, "the first request")
            process.signal(signal.SIGINT)
            process.until(lambda: "Ctrl-C" in process.out, "the stop")
            process.signal(signal.SIGINT)
            assert process.ended().code == 130
        # the others waited for it
        assert server.sent() == 1
    assert rows(tmp_path / "r.db", "SELECT count(*) FROM items") == [(0,)]


def test_check_tells_of_a_field_in_front_of_a_long_text(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", asked(3))
    found = runner.check(path, model="m", prompt="{{ text }}\n" + LONG, provider="simulator")
    words = "about 1,300 tokens of the template are the same for all rows but stand behind {{ text }}"
    assert [remark for remark in found.remarks if remark.startswith(words)]
    for prompt in (LONG + "{{ text }}", "{{ text }} what?"):
        assert not any("tokens of the template" in one for one in runner.check(path, model="m", prompt=prompt).remarks)


def test_marks_are_refused_where_a_provider_has_none(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", asked(3))
    with pytest.raises(runner.UsageError, match="provider openai has no marks for a cache"):
        runner.run(path, db=tmp_path / "r.db", model="m", prompt="{{ text }}", base_url="http://127.0.0.1:9", cache_prefix=True)
