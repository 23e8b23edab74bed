"""Workers that join a run at its listener: who is let in, who is not, and that nobody harms the run."""

import asyncio
import json
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import pytest
from asking import PROGRAM_LOOP
from processes import Simulated, Started, assert_clean, at, count, run, runner, simulator
from simulating import until

from runner.errors import UsageError
from runner.frames import Link
from runner.workers import door, joining, tokens
from runner.workers.door import Answer, Challenge, Door
from runner.workers.protocol import encode

pytestmark = pytest.mark.usefixtures("anyio_backend")

KEY = "sk-canary-of-the-workers-0123456789"
SLOW = ("--first-token-s", "0.2", "--chunk-s", "0.02", "--tokens", "8")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return PROGRAM_LOOP


def place_of(process: Started, folder: Path) -> tuple[str, Path]:
    """Return where a run listens, and the file with its token."""
    process.until(lambda: "workers join with" in process.out and list(folder.glob("*.token")), "the listener")
    words = next(line for line in process.out.splitlines() if "workers join with" in line).split()
    return words[words.index("--connect") + 1], Path(words[words.index("--token-file") + 1])


def test_workers_join_and_leave_while_the_run_goes(folder: Path) -> None:
    with (
        simulator(*SLOW, "--key-env", "THE_KEY", env={"THE_KEY": KEY}) as server,
        runner(*at(server, "--listen", "127.0.0.1", "--concurrency", "2"), cwd=folder, env={"OPENAI_API_KEY": KEY}) as process,
    ):
        place, file = place_of(process, folder)
        token = file.read_text().strip()
        assert file.stat().st_mode & 0o777 == 0o600
        join = ("worker", "--connect", place)
        # one without the key, and one with another
        lacks = run(*join, "--token-file", str(file), cwd=folder)
        other = run(*join, cwd=folder, env={"RUNNER_WORKER_TOKEN": token, "OPENAI_API_KEY": "sk-of-somebody-else-0123456789"})
        assert count(folder / "runner.db", "attempts") == 0
        with runner(*join, cwd=folder, env={"RUNNER_WORKER_TOKEN": token, "OPENAI_API_KEY": KEY}) as first:
            process.until(lambda: count(folder / "runner.db"), "an answer")
            first.signal(signal.SIGKILL)
            process.until(lambda: count(folder / "runner.db", "attempts", "error_code = 'worker_lost'"), "the loss")
            # nobody is left, so it waits for the next one
            with runner(*join, "--token-file", str(file), cwd=folder, env={"OPENAI_API_KEY": KEY}) as second:
                ended, last = process.ended(), second.ended()
    assert_clean(ended)
    assert (ended.code, last.code, count(folder / "runner.db", where="status = 'done'")) == (0, 0, 10), (ended, last)
    assert "OPENAI_API_KEY is not set in the environment of the worker" in ended.out
    assert "OPENAI_API_KEY holds another key" in ended.out
    assert (lacks.code, other.code) == (1, 1), (lacks, other)
    assert "OPENAI_API_KEY is not set" in lacks.err
    everything = "".join(path.read_bytes().decode(errors="replace") for path in folder.iterdir() if path.is_file())
    assert KEY not in everything + ended.out + ended.err + lacks.err + other.err
    assert not list(folder.glob("*.token"))


def test_a_run_that_waits_for_workers_ends_at_once_when_it_is_stopped(folder: Path, server: Simulated) -> None:
    with runner(*at(server, "--listen", "127.0.0.1", "--json"), cwd=folder) as process:
        process.until(lambda: "waiting for workers: runner worker --connect" in process.out, "rows that wait")
        process.signal(signal.SIGINT)
        ended = process.ended()
    assert_clean(ended)
    assert (ended.code, count(folder / "runner.db", "attempts", "sent")) == (130, 0), ended
    assert not list(folder.glob("*.token"))


def test_a_worker_sends_to_a_server_beside_it(folder: Path, server: Simulated) -> None:
    """The run itself could not reach its base URL."""
    command = ("run", "prompts.jsonl", "--model", "m", "--base-url", "http://127.0.0.1:9/v1", "--listen", "127.0.0.1")
    with runner(*command, cwd=folder) as process:
        place, file = place_of(process, folder)
        with runner("worker", "--connect", place, "--token-file", str(file), "--base-url", server.openai, cwd=folder) as worker:
            ended, last = process.ended(), worker.ended()
    assert (ended.code, last.code, count(folder / "runner.db", where="status = 'done'")) == (0, 0, 10), (ended, last)


@pytest.mark.parametrize(
    ("arguments", "env", "words"),
    [
        ((), {}, "--connect HOST:PORT"),
        (("--connect", "127.0.0.1:8410"), {}, "set RUNNER_WORKER_TOKEN"),
        (("--connect", "127.0.0.1:8410"), {"RUNNER_WORKER_TOKEN": "rw1.abc.def"}, "the token of the worker is none"),
        (("--connect", "127.0.0.1:8410", "--token-file", "missing"), {}, "the token file missing cannot be read"),
        (("--connect", "127.0.0.1"), {"RUNNER_WORKER_TOKEN": tokens.Token(b"a" * 32, b"b" * 32).text}, "must be HOST:PORT"),
    ],
)
def test_what_a_worker_cannot_use_is_one_sentence(
    tmp_path: Path, arguments: tuple[str, ...], env: dict[str, str], words: str
) -> None:
    ended = run("worker", *arguments, cwd=tmp_path, env=env)
    assert (ended.code, words in ended.err, ended.err.count("\n")) == (2, True, 1), ended


def test_an_address_of_no_machine_of_ours_is_one_sentence(folder: Path, server: Simulated) -> None:
    for address, words in (
        ("0.0.0.0", "one address of this machine"),
        ("192.0.2.7:80", "cannot listen at 192.0.2.7:80"),
        ("127.0.0.1:x", "HOST or HOST:PORT"),
    ):
        ended = run(*at(server, "--listen", address), cwd=folder)
        assert (ended.code, words in ended.err) == (2, True), ended
    assert count(folder / "runner.db", "attempts") == 0


# -- at the door


@asynccontextmanager
async def opened() -> AsyncIterator[tuple[Door, tuple[str, int], list[Link]]]:
    """Yield a door that is open, where it is, and the links of those that it has let in."""
    entered: list[Link] = []
    found = Door("127.0.0.1", entered.append)
    where = door.split(await found.open(), "the test")
    try:
        yield found, where, entered
    finally:
        found.close()
        for link in entered:
            link.abort()


async def let_in(where: tuple[str, int], token: tokens.Token) -> Link:
    """Join as a worker does."""
    link = Link(lambda _: None, lambda _: None)
    await joining._let_in(link, where, token)
    return link


async def ended(reader: asyncio.StreamReader) -> bool:
    with suppress(ConnectionError):
        await reader.read()
    return True


async def test_who_knows_the_token_is_let_in_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened() as (found, where, entered):
        link = await let_in(where, found.token)
        assert len(entered) == 1
        with pytest.raises(joining.NotLetInError, match="another one than the token was made for"):
            await let_in(where, found.token._replace(fingerprint=b"x" * 32))
        # such a worker tries again for so long
        monkeypatch.setattr(joining, "WAIT_S", 5.0)
        with pytest.raises(joining.NotLetInError, match="its token may be of another run"):
            await let_in(where, found.token._replace(secret=b"x" * 32))
        assert len(entered) == 1
        link.abort()


async def test_a_driver_that_does_not_know_the_token_gets_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the certificate, and lets everybody in."""
    monkeypatch.setattr(joining, "WAIT_S", 1.0)
    async with opened() as (found, where, entered):
        token = found.token
        found.token = token._replace(secret=b"x" * 32)
        with pytest.raises(joining.NotLetInError):
            await let_in(where, token)
        assert not entered


async def test_an_answer_that_was_heard_once_lets_nobody_in_again() -> None:
    async with opened() as (found, where, entered):
        context = tokens.for_worker()
        answers = []
        for _ in range(2):
            reader, writer = await asyncio.open_connection(*where, ssl=context)
            size = int.from_bytes(await reader.readexactly(4), "little")
            challenge = msgspec.msgpack.decode(await reader.readexactly(size), type=Challenge)
            mine = tokens.drawn()
            answers.append(encode(Answer(found.token.proof("worker", challenge.drawn, mine), mine)))
            # the second time, the first answer
            writer.write(len(answers[0]).to_bytes(4, "little") + answers[0])
            if len(answers) == 1:
                await until(lambda: len(entered) == 1)
            else:
                assert await ended(reader)
            writer.transport.abort()
        assert len(entered) == 1


@pytest.mark.parametrize(
    "said",
    [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64, b"\xff" * 5000],
    ids=["plain HTTP", "half a hello", "rubbish"],
)
async def test_rubbish_is_cut_off(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "PATIENCE_S", 1.0)
    async with opened() as (found, where, entered):
        reader, writer = await asyncio.open_connection(*where)
        writer.write(said)
        assert await ended(reader)
        writer.transport.abort()
        link = await let_in(where, found.token)
        assert len(entered) == 1
        link.abort()


async def test_a_frame_that_is_too_large_before_anybody_is_known() -> None:
    async with opened() as (_, where, entered):
        reader, writer = await asyncio.open_connection(*where, ssl=tokens.for_worker())
        writer.write((1 << 26).to_bytes(4, "little"))
        assert await ended(reader)
        writer.transport.abort()
        assert not entered


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are counted in /proc")
async def test_a_flood_of_half_hellos_costs_a_few_files_and_lets_a_worker_in() -> None:
    async with opened() as (found, where, entered):
        before, ends = open_files(), list[asyncio.StreamWriter]()
        for _ in range(200):
            ends.append((await asyncio.open_connection(*where))[1])
            ends[-1].write(b"\x16\x03\x01")
        assert open_files() - before <= len(ends) + door.MOST_STRANGERS + 8
        link = await let_in(where, found.token)
        assert len(entered) == 1
        for end in ends:
            end.transport.abort()
        await until(lambda: open_files() <= before + 4)
        link.abort()


def test_a_token_is_one_line_and_shows_itself_to_nobody() -> None:
    token = tokens.Token(tokens.drawn(), tokens.drawn())
    assert tokens.read(f" {token.text}\n") == token
    assert token.text.isascii()
    assert len(token.text.split()) == 1
    assert repr(token) == "Token()"
    for wrong in ("", "rw1", token.text[:-1], token.text.replace("rw1", "rw2"), f"{token.text}.x", "rw1.é.é"):
        with pytest.raises(UsageError, match="the token of the worker is none"):
            tokens.read(wrong)


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("127.0.0.1", ("127.0.0.1", 0)),
        ("node7:8410", ("node7", 8410)),
        ("[::1]:8410", ("::1", 8410)),
        ("::1", ("::1", 0)),
        ("[::1]", ("::1", 0)),
    ],
)
def test_addresses(address: str, found: tuple[str, int]) -> None:
    assert door.split(address, "listen") == found
    if found[1]:
        assert door.joined(*found) == address


async def test_tls_older_than_1_3_is_refused() -> None:
    async with opened() as (_, where, entered):
        old = tokens.for_worker()
        old.minimum_version = ssl.TLSVersion.TLSv1_2
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection(*where, ssl=old)
        assert not entered


def test_no_request_uses_up_a_limit_while_no_worker_can_send_it(folder: Path, server: Simulated) -> None:
    """Of 4 requests a minute, each is there for the worker that comes late, and none was taken before."""
    with runner(*at(server, "--listen", "127.0.0.1", "--rpm", "4", "--json"), cwd=folder) as process:
        process.until(lambda: "waiting for workers: runner worker --connect" in process.out, "rows that wait")
        (file,) = folder.glob("*.token")
        place = f"127.0.0.1:{file.suffixes[-2].removeprefix('.')}"
        waiting = [json.loads(line) for line in process.out.splitlines()]
        lanes = [lane for event in waiting if event["event"] == "progress" for lane in event["pace"]["lanes"]]
        assert {lane["in_flight"] for lane in lanes} == {0}
        with runner("worker", "--connect", place, "--token-file", str(file), cwd=folder) as worker:
            process.until(lambda: count(folder / "runner.db") >= 1, "an answer")
            worker.signal(signal.SIGKILL)
            worker.ended()
            process.until(lambda: '"live":0,"starting":0,"silent":0,"lost":1' in process.out, "the loss")
        before = len(process.out)
        process.until(lambda: process.out.count('"event":"progress"', before) > 2, "progress")
        last = json.loads(process.out.splitlines()[-2 if not process.out.endswith("\n") else -1])
        assert [lane["in_flight"] for lane in last["pace"]["lanes"]] == [0]
        process.signal(signal.SIGINT)
        assert process.ended().code == 130
