"""What a timeout may end and what it may not: over real sockets, and with a process that stands still."""

import gzip
import json
import re
import signal
import time
from pathlib import Path
from typing import Any

import anyio
import pytest
from asking import BOTH_LOOPS, CALM, DIALECTS, PROGRAM_LOOP, ask, provider
from asking import until as heard_until
from processes import count, rows, runner, until, write_prompts
from raw_server import (
    BLOCK_START,
    DONE,
    HANG,
    LAST,
    MESSAGE_START,
    PING,
    STREAM,
    RawServer,
    Received,
    Reply,
    chunk,
    delta,
    events,
    finish,
    head,
    in_thread,
    sse,
    stream,
    whole,
)
from test_client_faults import ANTHROPIC_JSON, OPENAI_JSON

import runner as api
from runner.errors import AttemptTimeoutError, ProviderError, StreamError
from runner.model import Request
from runner.providers.http import HttpClient, Timeouts

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return PROGRAM_LOOP


ROLE = sse({"id": "c-1", "model": "m-1", "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
SHORT_SILENCE = Timeouts(connect_s=5.0, first_byte_s=8.0, silence_s=0.4, attempt_s=20.0)


def slow(gap_s: float, *sent: bytes) -> Reply:
    return stream(*(step for event in sent for step in (event, gap_s)))


@DIALECTS
@BOTH_LOOPS
async def test_each_byte_restarts_the_silence_timeout(dialect: str) -> None:
    """An answer may take many times as long as a silence."""
    got = await ask(slow(0.15, *events(dialect, *"abcdefgh")), dialect, timeouts=SHORT_SILENCE)
    assert got.completion.text == "abcdefgh"
    assert got.exchange.answered_s is not None
    assert got.exchange.answered_s > 2 * SHORT_SILENCE.silence_s


BEFORE_TEXT = {
    "nothing": ("openai", ()),
    "the role": ("openai", (ROLE,)),
    "a comment": ("openai", (b": processing\n\n",)),
    "the start": ("anthropic", (MESSAGE_START,)),
    "an empty block": ("anthropic", (MESSAGE_START, BLOCK_START)),
    "a ping": ("anthropic", (MESSAGE_START, PING)),
}


@BOTH_LOOPS
@pytest.mark.parametrize(("dialect", "first"), BEFORE_TEXT.values(), ids=BEFORE_TEXT)
async def test_a_model_that_thinks_before_its_first_piece_is_given_the_time(dialect: str, first: tuple[bytes, ...]) -> None:
    rest = [event for event in events(dialect, "Hello") if event not in first]
    got = await ask(stream(*first, 1.2, *rest), dialect, timeouts=SHORT_SILENCE)
    assert got.completion.text == "Hello"


@pytest.mark.parametrize(("dialect", "first"), BEFORE_TEXT.values(), ids=BEFORE_TEXT)
async def test_and_no_more_than_that(dialect: str, first: tuple[bytes, ...]) -> None:
    got = await ask(stream(*first, end=(HANG,)), dialect, timeouts=Timeouts(first_byte_s=0.3, silence_s=9.0))
    got.is_(AttemptTimeoutError, "timeout_first_byte", "retry")


def test_the_defaults_suit_a_model_that_thinks_for_minutes() -> None:
    assert Timeouts().first_byte_s >= 2 * 130
    assert Timeouts().first_byte_s < Timeouts().attempt_s


@BOTH_LOOPS
async def test_a_cancellation_does_not_cut_an_error_body_short() -> None:
    """The status is known, and the words say what to do: the reading is shielded."""
    body = json.dumps({"error": {"type": "invalid_request_error", "message": "the words that count"}}).encode()
    reply = Reply((head("400 Bad Request", {"content-length": str(len(body))}), body[:20], 0.4, body[20:]))
    caught: list[ProviderError] = []
    async with RawServer(reply) as server, HttpClient(CALM) as client:
        made = provider(server.base_url)
        exchange, decoder = client.exchange(), made.decoder()
        request = made.encode(Request(model="m", messages=({"role": "user", "content": "Hi"},)))
        scope = anyio.CancelScope()

        async def one() -> None:
            with scope:
                try:
                    await client.stream(request, decoder, exchange, made.error)
                except ProviderError as error:
                    caught.append(error)

        async with anyio.create_task_group() as group:
            group.start_soon(one)
            await heard_until(lambda: exchange.status is not None)
            scope.cancel()
    (error,) = caught
    assert "the words that count" in str(error)


# -- a process that stands still


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no such signal here")
@pytest.mark.parametrize("phase", ["silence", "first_byte", "attempt"])
def test_answers_that_came_while_the_process_stood_still_are_kept(tmp_path: Path, phase: str) -> None:
    """Each of them is paid for, and lies in the buffers of the kernel."""
    write_prompts(tmp_path / "prompts.jsonl", range(8))
    store, limits = tmp_path / "runner.db", {"silence_s": "60", "first_byte_s": "60", "attempt_s": "60", f"{phase}_s": "1.5"}
    options = [part for name, value in limits.items() for part in (f"--{name.replace('_', '-')}", value)]

    def answers(request: Received) -> Reply:
        text = request.json["messages"][0]["content"]
        begun = () if phase == "first_byte" else (chunk(delta("so: ")), 0.9)
        steps = (STREAM, *begun, 0.4, *map(chunk, (delta(text), finish(), DONE)), LAST)
        return Reply(steps)

    with in_thread(RawServer(answers)) as server:
        command = ("run", "prompts.jsonl", "--model", "m", "--base-url", server.base_url, "--concurrency", "8", *options)
        with runner(*command, cwd=tmp_path) as process:
            process.until(lambda: len(server.requests) == 8, "all requests")
            process.signal(signal.SIGSTOP)
            # longer than any of the timeouts, and than it takes to see that the timer is late
            until(lambda: all(request.played for request in server.requests), "all answers")
            time.sleep(3.0)
            process.signal(signal.SIGCONT)
            ended = process.ended()
        assert ended.code == 0, ended
        assert len(server.requests) == 8
    assert count(store) == 8
    assert rows(store, "SELECT DISTINCT error_code FROM attempts") == [(None,)]


# -- what a hostile answer may cost

LIMIT_KIB = 400 * 1024


def tool_bomb() -> bytes:
    """Return a stream of tool calls without arguments, each with an id and a name of some length, until a cap ends it."""
    call = {"type": "function", "function": {"name": "n" * 200, "arguments": ""}}
    events = []
    for at in range(1500):
        calls = [{**call, "index": at * 40 + number, "id": f"call-{at}-{number}-" + "i" * 200} for number in range(40)]
        events.append(sse({"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"tool_calls": calls}}]}))
    return gzip.compress(b"".join([*events, finish("tool_calls"), DONE]), 6)


BOMBS: dict[str, Any] = {
    "tool calls": tool_bomb,
    "small parts": lambda: gzip.compress(
        sse({"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"content": ["x"] * 200_000}}]}) * 60 + finish() + DONE
    ),
    "names": lambda: gzip.compress(
        b"".join(sse({"choices": [{"index": 0, "delta": {}, "finish_reason": f"{n}" + "r" * 900_000}]}) for n in range(60))
    ),
}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process cannot be read here")
@pytest.mark.parametrize("kind", BOMBS)
def test_a_hostile_server_fills_no_memory(tmp_path: Path, kind: str) -> None:
    """Four answers at a time, each a bomb: the process stays small."""
    write_prompts(tmp_path / "prompts.jsonl", range(4))
    bomb = BOMBS[kind]()
    reply = whole("200 OK", bomb, kind="text/event-stream", content_encoding="gzip")
    peak = 0
    with in_thread(RawServer(reply)) as server:
        command = ("run", "prompts.jsonl", "--model", "m", "--base-url", server.base_url, "--concurrency", "4")
        with runner(*command, cwd=tmp_path, fresh=True) as process:
            while process.alive:
                peak = max(peak, _peak_kib(process.pid))
                time.sleep(0.01)
            ended = process.ended()
    assert ended.code in (0, 1), ended
    assert 0 < peak < LIMIT_KIB
    if ended.code == 1:
        codes = rows(tmp_path / "runner.db", "SELECT DISTINCT error_code FROM items WHERE status = 'failed'")
        assert codes == [("size_cap",)]


def _peak_kib(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) if found else 0


@pytest.mark.parametrize(
    ("dialect", "sent"),
    [
        (
            "openai",
            [
                sse({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": n, "function": {"name": "f"}}]}}]})
                for n in range(1100)
            ],
        ),
        (
            "anthropic",
            [
                MESSAGE_START,
                *(
                    sse({"type": "content_block_start", "index": n, "content_block": {"type": "text"}}, "content_block_start")
                    for n in range(1100)
                ),
            ],
        ),
    ],
)
async def test_parts_of_an_answer_are_counted(dialect: str, sent: list[bytes]) -> None:
    (await ask(stream(b"".join(sent), *events(dialect, "Hello")[1:]), dialect)).is_(StreamError, "size_cap", "fail")


@pytest.mark.parametrize("field", ["id", "model"])
async def test_names_count_as_text(field: str) -> None:
    large = sse({"id": "i", "model": "m", field: "x" * 900_000, "choices": []})
    (await ask(stream(large, *events("openai", "Hello")))).is_(StreamError, "size_cap", "fail")


# -- answers in one piece


def ask_for_all(folder: Path, server: RawServer, dialect: str, **settings: Any) -> Any:
    write_prompts(folder / "prompts.jsonl", range(3))
    address = server.base_url if dialect == "openai" else server.origin
    return api.run(folder / "prompts.jsonl", db=folder / "runner.db", provider=dialect, model="m", base_url=address, **settings)


JSONS = {"openai": OPENAI_JSON, "anthropic": ANTHROPIC_JSON}


@DIALECTS
def test_stream_false_asks_for_one_piece_and_waits_for_all_of_it(tmp_path: Path, dialect: str) -> None:
    """Without a stream, no byte comes before all of the answer has been generated."""
    body = json.dumps(JSONS[dialect]).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body))}
    late = Reply((head(headers=headers), 0.2, body[:9], 0.2, body[9:]))
    with in_thread(RawServer(late)) as server:
        summary = ask_for_all(tmp_path, server, dialect, stream=False)
    assert (summary.done, len(server.requests)) == (3, 3)
    for request in server.requests:
        assert request.json["stream"] is False
        assert "stream_options" not in request.json
        assert request.headers["accept"] == "application/json"
    assert {text for (text,) in rows(tmp_path / "runner.db", "SELECT text FROM items")} == {"Hello"}


@DIALECTS
def test_a_stream_that_nobody_asked_for_is_read_all_the_same(tmp_path: Path, dialect: str) -> None:
    with in_thread(RawServer(stream(*events(dialect, "Hello")))) as server:
        assert ask_for_all(tmp_path, server, dialect, stream=False).done == 3


def test_the_job_file_the_environment_and_the_option_say_stream(tmp_path: Path) -> None:
    write_prompts(tmp_path / "prompts.jsonl", range(1))
    with in_thread(RawServer(lambda request: whole("200 OK", OPENAI_JSON))) as server:
        given = f'input = "prompts.jsonl"\nmodel = "m"\nbase_url = "{server.base_url}"\nstream = false\n'
        (tmp_path / "job.toml").write_text(given)
        asked: list[bool] = []
        for number, (env, options) in enumerate(
            [({}, ()), ({"RUNNER_STREAM": "true"}, ()), ({"RUNNER_STREAM": "no"}, ("--stream",)), ({}, ("--no-stream",))]
        ):
            with runner("run", "job.toml", "--db", f"{number}.db", *options, cwd=tmp_path, env=env) as process:
                assert process.ended().code == 0, process.err
            asked.append(server.requests[-1].json["stream"])
        assert asked == [False, True, True, False]
        with runner("run", "job.toml", "--db", "5.db", cwd=tmp_path, env={"RUNNER_STREAM": "perhaps"}) as process:
            ended = process.ended()
        assert ended.code == 2
        assert "stream must be true or false, not 'perhaps'" in ended.err


def test_a_provider_that_only_streams_refuses_in_one_sentence(tmp_path: Path) -> None:
    write_prompts(tmp_path / "prompts.jsonl", range(1))
    (tmp_path / "murmur.py").write_text(
        'DEFAULT_BASE_URL, KEY_ENV, BASE_URL_ENV = "https://murmur.example/v1", "MURMUR_KEY", "MURMUR_URL"\n'
        "def make(base_url, key, *, version):\n    ...\n"
    )
    command = (
        "run",
        "prompts.jsonl",
        "--provider",
        "murmur",
        "--base-url",
        "http://127.0.0.1:9/v1",
        "--model",
        "m",
        "--no-stream",
    )
    with runner(*command, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, fresh=True) as process:
        ended = process.ended()
    assert ended.code == 2, ended
    assert "provider murmur" in ended.err
