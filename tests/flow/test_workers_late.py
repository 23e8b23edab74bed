"""What workers know later than their driver: of answers that it has ended, and of requests that it has given up."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from following import followed
from processes import assert_clean, count, rows, runner, until
from raw_server import (
    BLOCK_STOP,
    DONE,
    HANG,
    LAST,
    MESSAGE_STOP,
    STREAM,
    USAGE,
    RawServer,
    Received,
    Reply,
    Step,
    block_delta,
    chunk,
    delta,
    events,
    finish,
    in_thread,
    message_delta,
)
from several import answer, desk
from test_workers import workers_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the processes are found in /proc")

PRICES = {"m": {"input": 1, "output": 1}, "big": {"input": 100, "output": 100}}
JOB = """
model = "m"
workers = 1
concurrency = 1
{limit}

[params]
max_tokens = 50

[[endpoints]]
base_url = "{first}"
{turn}

[[endpoints]]
base_url = "{second}"
model = "big"
{other}
"""


class Held:
    """Replies that wait at one place until a test lets them go on."""

    def __init__(self) -> None:
        self._go: list[Callable[[], object]] = []

    def here(self) -> Step:
        """Return the step that waits. Called in the loop of the server."""
        event, loop = asyncio.Event(), asyncio.get_running_loop()
        self._go.append(lambda: loop.call_soon_threadsafe(event.set))
        return event

    def go_on(self) -> None:
        for go in self._go:
            go()


def begun_and_rest(dialect: str) -> tuple[tuple[bytes, ...], bytes, tuple[bytes, ...]]:
    """Return how an answer begins, what makes it one that is not wanted, and the rest of it."""
    if dialect == "openai":
        return (delta("I am "),), delta("an AI"), (delta(" model"), finish(), USAGE, DONE)
    opening = events("anthropic", "I am ")[:3]
    return opening, block_delta("an AI"), (block_delta(" model"), BLOCK_STOP, message_delta(), MESSAGE_STOP)


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_what_an_answer_has_cost_that_had_come_when_it_was_ended_is_known(tmp_path: Path, dialect: str) -> None:
    """The driver stands still, so that its worker has all of the answer before it is told to end it."""
    held = Held()
    opening, bad, rest = begun_and_rest(dialect)

    def reply(_: Received) -> Reply:
        more = (chunk(bad), 0.1, chunk(b"".join(rest)), LAST)
        return Reply((STREAM, *map(chunk, opening), held.here(), *more))

    (tmp_path / "prompts.jsonl").write_text('{"prompt": "who are you?"}\n')
    with in_thread(RawServer(reply)) as server:
        command = ("run", "prompts.jsonl", "--provider", dialect, "--base-url", server.base_url, "--model", "m", "--db", "r.db")
        more = ("--workers", "1", "--stop-when", "an AI", "--prices", json.dumps(PRICES), "--json")
        with runner(*command, *more, cwd=tmp_path) as process:
            process.until(lambda: server.requests, "the request")
            process.signal(signal.SIGSTOP)
            held.go_on()
            until(lambda: server.requests[0].played, "all of the answer")
            process.signal(signal.SIGCONT)
            ended = process.ended()
    assert_clean(ended)
    found = rows(tmp_path / "r.db", "SELECT error_code, sent, input_tokens, output_tokens, input_bound FROM attempts")
    assert found == [("stopped_by_rule", 1, 7, 3, None)]
    assert rows(tmp_path / "r.db", "SELECT status, text FROM items") == [("failed", "I am an AI model")]
    summary = json.loads(ended.out.splitlines()[-1])
    # nothing was saved by it, and nothing is left open of what it cost
    assert (summary["ended_early"], summary["cost"], summary["cost_perhaps"]) == (0, 10e-6, 0)


@pytest.mark.parametrize("where", ["out at the other endpoint", "waits for a limit"])
def test_a_late_answer_is_that_of_its_row_with_several_endpoints(tmp_path: Path, where: str) -> None:
    """The row of a worker that stands still has been sent to another endpoint, or waits to be, when the worker wakes."""
    held, out = Held(), where.startswith("out")

    def reply(_: Received) -> Reply:
        return Reply((held.here(), *answer("openai", "from the first").steps))

    with desk(tmp_path, reply, Reply((HANG,)), number=1) as one:
        first, second = one.urls
        kinds = ("", "weight = 1", "weight = 1") if out else ('rpm = 1\nfallback_on = "outage"', "", "fallback = true")
        words = dict(zip(("limit", "turn", "other"), kinds, strict=True))
        (tmp_path / "prompts.toml").write_text(JOB.format(first=first, second=second, **words))
        command = ("run", "prompts.jsonl", "--db", "r.db", "--trust", "--prices", json.dumps(PRICES), "-o", "a.jsonl", "--json")
        # whoever watches is told each request once, and the answer with that which was lost
        with followed(one.store) as watcher, runner(*command, cwd=tmp_path) as process:
            process.until(lambda: sum(one.asked()) == 1 and watcher.open, "the request")
            (frozen,) = workers_of(process)
            os.kill(frozen, signal.SIGSTOP)
            try:
                held.go_on()
                process.until(lambda: count(one.store, "attempts") == 1 and one.asked()[1] == out, "the loss")
            finally:
                os.kill(frozen, signal.SIGCONT)
            ended = process.ended()
    assert_clean(ended)
    assert ended.code == 0, ended
    kept = rows(one.store, "SELECT error_code, sent, endpoint, p.model, input_tokens, output_tokens FROM attempts a"
                " JOIN prices p ON p.id = a.price_id ORDER BY number")  # fmt: skip
    other = [("cancelled", 1, second, "big", None, None)] if out else []
    assert kept == [("worker_lost", 0, first, "m", None, None), *other, (None, 1, first, "m", 7, 3)]
    (result,) = map(json.loads, (tmp_path / "a.jsonl").read_text().splitlines())
    assert (result["text"], result["endpoint"], result["cost"]) == ("from the first", first, 10e-6)
    assert [*watcher.codes.values()] == [code for code, *_ in kept]
    assert ([*watcher.ended.values()][-1], watcher.open, watcher.last["done"]) == (["from the first", ""], {}, 1)
    # the other request may have been billed
    assert bool(result["cost_perhaps"]) is out
    assert sum(one.asked()) == 1 + out
