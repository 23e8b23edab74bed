"""Workers that come late or cannot start, sessions that end before they can tidy up, and what no frame can hold: no hang."""

import asyncio
import shutil
import ssl
from contextlib import suppress
from pathlib import Path

import pytest
from asking import PROGRAM_LOOP
from processes import Simulated, assert_clean, at, count, run, runner
from remote import OneWorker
from several import UNAUTHORIZED, answer, desk
from simulating import until
from test_workers_elsewhere import opened, place_of

from runner.errors import AttemptError, ProviderError
from runner.frames import MOST_BYTES, Link
from runner.model import Completion, HttpCall, Usage
from runner.providers.dialects import openai
from runner.providers.http import Timeouts
from runner.version import __version__
from runner.workers import joining, tokens
from runner.workers.door import Challenge
from runner.workers.process import STILL_S, Worker
from runner.workers.protocol import PROTOCOL, Done, Tries, Welcome, encode, holdable
from runner.workers.token_file import remove_stale

pytestmark = pytest.mark.usefixtures("anyio_backend")

MINE = "import sys\nif sys.argv[0] == '-c': raise RuntimeError('not here')\nfrom runner.providers.dialects.openai import *\n"


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return PROGRAM_LOOP


def test_a_token_that_a_killed_session_has_left_goes_with_the_next_one(folder: Path, server: Simulated) -> None:
    command = at(server, "--listen", "127.0.0.1")
    with runner(*command, cwd=folder) as process:
        _, left = place_of(process, folder)
        process.killed()
    assert left.exists()
    with runner(*command, cwd=folder) as process:
        process.until(lambda: "workers join with" in process.out and not left.exists(), "the end of the file")
        (other,) = folder.glob("*.token")
        # that of a session that goes on stays, whoever looks
        remove_stale(folder / "runner.db")
        assert other.exists()
        process.killed()


def test_a_run_whose_own_workers_cannot_start_waits_for_those_that_join(folder: Path, server: Simulated) -> None:
    # it works where a worker joins by itself, and in no process that the run starts
    (folder / "mine.py").write_text(MINE)
    with runner(*at(server, "--provider", "mine", "--workers", "1", "--listen", "127.0.0.1"), cwd=folder) as process:
        place, file = place_of(process, folder)
        process.until(lambda: "could not start" in process.out, "the worker that fails")
        with runner("worker", "--connect", place, "--token-file", str(file), cwd=folder) as worker:
            ended, last = process.ended(), worker.ended()
    assert_clean(ended)
    assert (ended.code, last.code, count(folder / "runner.db", where="status = 'done'")) == (0, 0, 10), (ended, last)
    assert "not here" in ended.out


@pytest.mark.skipif(shutil.which("faketime") is None, reason="faketime is not installed")
def test_a_worker_whose_clock_is_wrong_works(folder: Path, server: Simulated) -> None:
    with runner(*at(server, "--listen", "127.0.0.1"), cwd=folder) as process:
        place, file = place_of(process, folder)
        library = next(iter(sorted(Path("/usr/lib").rglob("libfaketime.so.1"))))
        env = {"LD_PRELOAD": str(library), "FAKETIME": "-4000d", "DONT_FAKE_MONOTONIC": "1", "RUNNER_TEST_FRESH": "1"}
        last = run("worker", "--connect", place, "--token-file", str(file), cwd=folder, env=env)
        ended = process.ended()
    assert (ended.code, last.code, count(folder / "runner.db", where="status = 'done'")) == (0, 0, 10), (ended, last)


def test_a_list_of_which_nothing_can_be_used_changes_nothing(tmp_path: Path) -> None:
    with desk(tmp_path, UNAUTHORIZED, answer(), number=60) as one:
        listed = tmp_path / "fleet.txt"
        listed.write_text("\n".join(one.urls))
        command = ("run", "prompts.jsonl", "--model", "m", "--db", "r.db", "--base-url", "file:fleet.txt", "--rpm", "60")
        with runner(*command, cwd=tmp_path) as process:
            process.until(lambda: "is left out" in process.out, "the endpoint that is left out")
            listed.write_text(one.urls[0])
            process.until(lambda: "none of the endpoints in the list can be used" in process.out, "the note")
            before = one.asked()[1]
            process.until(lambda: one.asked()[1] > before, "answers of the one that stays")
            process.killed()


# -- what crosses


async def test_a_request_of_more_than_64_mib_gets_through() -> None:
    """A request may hold files; the driver's frames may be larger than those of a worker."""
    size = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal size
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        size = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        await reader.readexactly(size)
        body = b'{"error": {"message": "no"}}'
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 22)
    async with server, OneWorker(Timeouts()) as client:
        provider = openai.make(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "a-test-key", version="0")
        call = HttpCall(url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x", headers={}, body=bytes(MOST_BYTES + 1))
        with pytest.raises(Exception, match="no"):
            await client.stream(call, provider.decoder(), client.exchange(), provider.error)
    assert size == MOST_BYTES + 1


async def test_a_worker_that_was_long_on_its_way_in_does_not_take_that_for_standing_still() -> None:
    """A handshake through a slow tunnel takes longer than a worker may stand still."""
    async with OneWorker(Timeouts()) as client:
        worker = client._worker
        worker._beat_at -= STILL_S + 1
        late = Worker({}, None, "")
        late._beat_at -= STILL_S + 1
        late._take(encode(late_welcome(client)))
        assert not late._ended.done()
        # one that has come in is told from that
        assert worker._hands is not None
        client.member.beat()
        await until(lambda: worker._ended.done())
        assert "it stood still" in worker._ended.result()


@pytest.mark.parametrize("kept", [False, True])
async def test_what_a_worker_has_taken_before_it_stood_still_is_not_sent_after_it(kept: bool) -> None:
    """Its driver has given it to another. kept: over a connection that was there before."""
    bodies = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal bodies
        with suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                bodies += 1
                await reader.readexactly(2)
                writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, OneWorker(Timeouts()) as client:
        worker, provider = client._worker, openai.make(url, "a-test-key", version="0")
        call = HttpCall(url=f"{url}/x", headers={}, body=b"{}")
        if kept:
            with pytest.raises(ProviderError):
                await client.stream(call, provider.decoder(), client.exchange(), provider.error)
        before, hands = bodies, worker._hands
        assert hands is not None
        takes = hands.take

        def takes_and_stands(tries: Tries) -> None:
            takes(tries)
            worker._beat_at -= STILL_S + 1

        hands.take = takes_and_stands  # type: ignore[method-assign]
        exchange = client.exchange()
        with pytest.raises(AttemptError):
            await client.stream(call, provider.decoder(), exchange, provider.error)
        assert not exchange.connected
        assert bodies == before


def late_welcome(client: OneWorker) -> Welcome:
    return Welcome(PROTOCOL, __version__, b"x" * 16, 2, (), client.member._work.setup_now())


def test_an_answer_that_no_frame_can_hold_crosses_as_far_as_it_goes() -> None:
    """A plug-in may decode anything."""
    odd = Completion(text="half a pair \ud800", finish_reason="stop", usage=Usage(input_tokens=2**70, output_tokens=1))
    done = Done(
        number=1, status=200, connected=True, received=1, first_s=None, answered_s=None, tail_lost=False, stage=1, ended=True,
        started=True, chars=1, answer=odd,
    )  # fmt: skip
    with pytest.raises((UnicodeEncodeError, OverflowError)):
        encode(done)
    answer = holdable(done).answer
    assert answer is not None
    assert answer.text.startswith("half a pair ")


async def test_a_worker_proves_nothing_to_a_driver_with_another_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says its challenge at once, so that an answer could be passed on to the real one."""
    monkeypatch.setattr(joining, "WAIT_S", 1.0)
    said = b""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal said
        frame = encode(Challenge(tokens.drawn()))
        writer.write(len(frame).to_bytes(4, "little") + frame)
        try:
            said += await reader.read()
        except (ConnectionError, ssl.SSLError):
            return
        finally:
            writer.transport.abort()

    async with opened() as (found, _, entered):
        _, other = tokens.for_driver()
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=other)
        async with server:
            link = Link(lambda _: None, lambda _: None)
            with pytest.raises(joining.NotLetInError):
                await joining._let_in(link, server.sockets[0].getsockname()[:2], found.token)
        assert (said, entered) == (b"", [])
