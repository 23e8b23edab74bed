"""Streams of events: one connection to a session for all viewers, nothing twice and nothing missing, and nobody is waited for."""

import asyncio
import errno
import gc
import json
import re
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import pytest
from filling import done, filled
from webbing import BEARER, GUARD_S, TOKEN, Event, Page, Told, events, served_here, session_of, until

from runner.control.client import connect
from runner.web import hub as hubs
from runner.web.events import EventStream, Viewer
from runner.web.ring import MOST_AT_ONCE, Ring, frame


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("runner.web.hub.LOOK_S", 0.02)
    return filled(tmp_path / "runner.db", done("a", 1))


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def guarded() -> None:
        async with asyncio.timeout(GUARD_S):
            await main()

    asyncio.run(guarded())


async def take(stream: AsyncIterator[Event], kind: str, number: int = 1) -> list[Event]:
    """Return the next events up to the so-many-th of a kind."""
    found = list[Event]()
    async for one in stream:
        found.append(one)
        number -= one.kind == kind
        if not number:
            break
    return found


def notes(found: list[Event]) -> list[str]:
    return [one.data["note"] for one in found if one.kind == "note"]


def test_all_viewers_share_one_connection_and_see_the_same(store: Path) -> None:
    async def main() -> None:
        async with session_of(store, 1) as session, served_here(store) as page:
            streams = [events(page, path) for path in ("/api/events", "/api/runs/1/events") * 5]
            for stream in streams:
                await take(stream, "state")
            assert len(session.watchers) == 1
            for _ in range(5):
                session.tell()
            session.tell("text", pieces=[{"text": "ä\n{"}])
            every = [await take(stream, "text") for stream in streams]
            for number, found in enumerate(every):
                assert notes(found) == ["1", "2", "3", "4", "5"]
                assert found[-1].data == {"run": 1, "pieces": [{"text": "ä\n{"}]}
                assert found[-1].id == ("1-1-6" if number % 2 == 0 else "1-6")
            # each connection beside the first one was there for a state, and a state serves for a while
            assert session.subscribed <= 1 + len(streams)
            for stream in streams:
                await stream.aclose()

    run(main)


def test_whoever_comes_back_goes_on_behind_what_it_has_seen(store: Path) -> None:
    async def main() -> None:
        async with session_of(store, 1) as session, served_here(store) as page:
            for path in ("/api/events", "/api/runs/1/events"):
                stream = events(page, path)
                await take(stream, "state")
                for _ in range(3):
                    session.tell()
                found = await take(stream, "note", 2)
                seen, last = int(notes(found)[-1]), found[-1].id
                await stream.aclose()
                session.tell()
                missed = [str(number) for number in range(seen + 1, session.newest + 1)]
                async with aclosing(events(page, path, last)) as again:
                    found = await take(again, "note", len(missed))
                assert notes(found) == missed
                assert "state" not in {one.kind for one in found}

    run(main)


def test_nothing_is_missing_or_doubled_when_the_server_was_started_anew(store: Path) -> None:
    async def main() -> None:
        async with session_of(store, 1) as session:
            last, seen, port = None, list[str](), 0
            for turn in range(4):
                async with served_here(store, port) as page, aclosing(events(page, "/api/events", last)) as stream:
                    port = page.port
                    if turn == 0:
                        await take(stream, "state")
                    for _ in range(3):
                        session.tell()
                    # one of them comes while no server is there
                    found = await take(stream, "note", 3 if turn else 2)
                    assert not turn or "state" not in {one.kind for one in found}
                    seen, last = [*seen, *notes(found)], found[-1].id
            assert seen == [str(number) for number in range(1, len(seen) + 1)]
            assert len(seen) == 11

    run(main)


@pytest.mark.parametrize("last", ["1-1-900", "1-2-3", "7-1-1", "nonsense", "1-1-99999999999999", "", "-1-1-1"])
def test_what_cannot_be_gone_on_behind_begins_with_the_state(store: Path, last: str) -> None:
    async def main() -> None:
        async with session_of(store, 1) as session, served_here(store) as page:
            session.tell()
            async with aclosing(events(page, "/api/events", last)) as stream:
                (state,) = [one for one in await take(stream, "state") if one.kind == "state"]
                assert (state.id, state.data["upto"]) == ("1-1-1", 1)

    run(main)


def test_a_state_that_comes_late_is_followed_by_what_it_does_not_hold(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames that the hub gets while a viewer's state is made are in it, or come behind it."""

    async def main() -> None:
        async with session_of(store, 1) as session, served_here(store) as page:
            monkeypatch.setattr("runner.web.hub._FRESH_S", 0.0)
            first = events(page)
            await take(first, "state")
            for _ in range(20):
                telling = asyncio.create_task(_tell_often(session))
                async with aclosing(events(page)) as stream:
                    found = await take(stream, "note", 3)
                telling.cancel()
                upto = next(one.data["upto"] for one in found if one.kind == "state")
                assert notes(found) == [str(upto + 1), str(upto + 2), str(upto + 3)]
            await first.aclose()

    run(main)


async def _tell_often(session: Told) -> None:
    while True:
        session.tell()
        await asyncio.sleep(0.001)


def test_runs_that_begin_end_and_die_are_told(store: Path) -> None:
    async def main() -> None:
        async with (
            served_here(store) as page,
            aclosing(events(page)) as stream,
            aclosing(events(page, "/api/runs/1/events")) as own,
        ):
            (runs,) = await take(stream, "runs")
            assert runs.data == {"running": []}
            (nobody,) = await take(own, "no_session")
            assert nobody.data == {"run": 1}
            async with session_of(store, 1) as session:
                found = await take(stream, "state")
                assert found[0].data == {"running": [1]}
                assert (await take(own, "state"))[-1].data["session"] == 1
                await until(lambda: bool(session.watchers))
                session.tell("finished", done=1)
                assert (await take(stream, "finished"))[-1].data == {"run": 1, "done": 1}
            # one that is gone without a word
            async with session_of(store, 1, session=2) as session:
                found = await take(stream, "state")
                assert (found[-1].data["session"], "gone") not in [(one.data.get("session"), one.kind) for one in found]
            found = await take(stream, "gone")
            assert "killed" in found[-1].data["reason"]
            assert (await take(own, "gone"))[-1].data["run"] == 1

    run(main)


def test_a_viewer_that_is_too_slow_is_told_and_holds_nobody_up(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.web.events.PING_S", 0.01)

    async def main() -> None:
        async with session_of(store, 1) as session, served_here(store) as page:
            page.hub.ring = Ring(most_frames=50)
            slow, stream = await _unread(page), events(page)
            await take(stream, "state")
            for number in range(400):
                session.tell("text", pieces=[{"text": "x" * 20_000}])
                assert (await take(stream, "text"))[-1].id == f"1-1-{number + 1}"
            # what the slow one has not read is the system's, and no more
            received = await _read_rest(slow, lambda text: text.rfind(b"event: state") > text.find(b"event: skipped") > 0)
            assert received.count(b"event: text") < 400
            # no heartbeat is within an event
            body = re.sub(rb"\r\n[0-9a-f]+\r\n", b"", received)
            for line in body[: body.rindex(b"\n\n")].split(b"\n"):
                assert not line.startswith(b"data: ") or json.loads(line[6:]) is not None
            await stream.aclose()
            await until(lambda: not page.hub.watched)

    run(main)


def test_a_viewer_that_never_reads_is_dropped(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.web.events.STUCK_S", 0.2)

    async def main() -> None:
        async with session_of(store, 1) as session, served_here(store) as page:
            stuck = await _unread(page)
            await until(lambda: bool(session.watchers))
            while page.hub.watched:
                session.tell("text", pieces=[{"text": "x" * 100_000}])
                await asyncio.sleep(0.005)
            # its connection is not only left, but ended
            loop = asyncio.get_running_loop()
            with suppress(ConnectionError):
                while await loop.sock_recv(stuck, 1 << 20):
                    pass
            stuck.close()

    run(main)


async def _unread(page: Page) -> socket.socket:
    """Return a connection with a stream of which nothing is read."""
    end = socket.socket()
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    end.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(end, ("127.0.0.1", page.port))
    await loop.sock_sendall(end, f"GET /api/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
    await until(lambda: page.hub.watched > 0)
    return end


async def _read_rest(end: socket.socket, is_all: Callable[[bytes], bool]) -> bytes:
    received, loop = b"", asyncio.get_running_loop()
    while not is_all(received):
        received += await loop.sock_recv(end, 1 << 20)
    end.close()
    return received


def test_two_hundred_viewers_come_and_go_and_nothing_is_left_of_them(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.web.hub.LINGER_S", 0.1)

    async def main() -> None:
        async with session_of(store, 1) as session, served_here(store) as page:
            (await _unread(page)).close()
            await until(lambda: not page.hub.watched and not page.hub.followed)
            before = len(asyncio.all_tasks())
            ends = [await _unread(page) for _ in range(200)]
            await until(lambda: page.hub.watched == 200)
            session.tell()
            loop = asyncio.get_running_loop()
            for end in ends:
                received = b""
                while b"event: note" not in received:
                    received += await loop.sock_recv(end, 1 << 16)
            for number, end in enumerate(ends):
                if number % 2:
                    # as a machine that loses power, as far as that can be had here
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                end.close()
            await until(lambda: not page.hub.watched and not session.watchers and not page.hub.followed)
            await until(lambda: len(asyncio.all_tasks()) <= before)
            assert not page.hub.viewers

    run(main)


def test_what_viewers_leave_behind_is_taken_away_and_is_small(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that is cancelled leaves frames that refer to each other, with what was being sent."""
    monkeypatch.setattr(hubs, "_SWEEP_S", 0.1)
    monkeypatch.setattr(hubs, "_MOST_LEFT", 6)

    async def main() -> None:
        async with session_of(store, 1) as session, served_here(store) as page:
            for number in range(200):
                session.tell(note=f"{number} " + "x" * 1_000)
            pieces, viewer = [], Viewer(page.hub, 1, (1, 1, 1))
            async with aclosing(viewer.events()) as told:
                while b"199 x" not in b"".join(pieces[-2:]):
                    pieces.append(await anext(told))
            assert (max(map(len, pieces)), notes_in(b"".join(pieces))) == (1 << 14, [*range(1, 200)])
            # a heartbeat of the library would come between two pieces of an event
            assert EventStream(viewer).ping_interval == 0
            gc.disable()
            try:
                for _ in range(5):
                    async with aclosing(events(page)) as stream:
                        await take(stream, "state")
                await until(lambda: not page.hub.viewers and not page.hub._left)
                # the last ones may still have been ending
                assert len([one for one in gc.get_objects() if isinstance(one, Viewer) and one is not viewer]) <= 2
            finally:
                gc.enable()

    run(main)


def notes_in(told: bytes) -> list[int]:
    return [int(number) for number in re.findall(rb'"note": "(\d+) ', told)]


def test_there_is_a_most_of_viewers(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.web.events.MOST_VIEWERS", 2)

    async def main() -> None:
        async with served_here(store) as page:
            streams = [events(page) for _ in range(2)]
            for stream in streams:
                await take(stream, "runs")
            with pytest.raises(AssertionError, match="there can be no more"):
                await take(events(page), "runs")
            await streams[0].aclose()
            await until(lambda: page.hub.watched == 1)
            async with aclosing(events(page)) as stream:
                await take(stream, "runs")
            await streams[1].aclose()

    run(main)


def test_a_stream_says_what_proxies_must_know_and_beats(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.web.events.PING_S", 0.05)

    async def main() -> None:
        async with served_here(store) as page:
            reader, writer = await asyncio.open_connection("127.0.0.1", page.port)
            head = {**BEARER, "Host": "localhost", "Accept-Encoding": "gzip, br", "Accept": "text/event-stream"}
            writer.write(b"GET /api/events HTTP/1.1\r\n")
            writer.write("".join(f"{name}: {value}\r\n" for name, value in head.items()).encode() + b"\r\n")
            answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            for line in ("200 ok", "cache-control: no-store", "x-accel-buffering: no", "content-type: text/event-stream"):
                assert line in answer
            assert "content-encoding" not in answer
            assert (await reader.readuntil(b"retry: 1000\n\n")) != b""
            for _ in range(2):
                await reader.readuntil(b": ping")
            writer.close()

    run(main)


def test_the_end_of_the_server_ends_all_streams(store: Path) -> None:
    async def main() -> None:
        async with session_of(store, 1):
            async with served_here(store) as page:
                streams = [events(page) for _ in range(20)]
                for stream in streams:
                    await take(stream, "state")
            for stream in streams:
                assert [one async for one in stream] == []
            assert page.hub.closed

    run(main)


def test_a_session_that_was_left_is_no_longer_watched_and_is_found_again(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.web.hub.LINGER_S", 0.05)

    async def main() -> None:
        async with session_of(store, 1) as session, served_here(store) as page:
            for _ in range(3):
                async with aclosing(events(page)) as stream:
                    await take(stream, "state")
                    assert session.watchers
                await until(lambda: not session.watchers)

    run(main)


def test_a_session_that_cannot_be_connected_to_for_a_moment_is_found_later(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    async def full(where: Path, run: int) -> Any:
        asked.append(run)
        if len(asked) < 3:
            raise OSError(errno.EMFILE, "Too many open files")
        return await connect(where, run)

    monkeypatch.setattr("runner.web.hub.connect", full)

    async def main() -> None:
        async with session_of(store, 1), served_here(store) as page, aclosing(events(page)) as stream:
            assert "gone" not in {one.kind for one in await take(stream, "state")}

    run(main)


def test_a_hub_goes_on_while_the_store_cannot_be_read(store: Path) -> None:
    elsewhere = store.with_name("elsewhere.db")

    async def main() -> None:
        async with session_of(store, 1) as session, served_here(store) as page, aclosing(events(page)) as stream:
            await take(stream, "state")
            store.rename(elsewhere)  # noqa: ASYNC240 - small
            store.write_bytes(b"no database at all, but of the length of a header of one" * 10)  # noqa: ASYNC240 - small
            await asyncio.sleep(3 * hubs.LOOK_S)
            session.tell()
            assert notes(await take(stream, "note")) == ["1"]

    run(main)


def test_a_ring_keeps_a_bounded_number_of_bytes() -> None:
    ring = Ring(most_frames=1000, most_bytes=10_000)
    for number in range(1, 200):
        ring.add(frame(1, 1, number, "note", json.dumps({"note": "x" * 500}).encode()))
    kept = list(ring.since(ring.begin))
    assert sum(len(one.body) for one in kept) <= 10_000
    assert ring.behind(1, 1, kept[0].number) == ring.begin + 1
    assert ring.behind(1, 1, kept[0].number - 1) is None
    assert ring.behind(1, 1, 199) == ring.end
    assert frame(1, 1, 1, "skipped", b"{}").body == b'event: skipped\ndata: {"run":1}\n\n'


def test_a_viewer_gets_much_in_parts() -> None:
    ring, data = Ring(), json.dumps({"note": "x" * 100_000}).encode()
    large = json.dumps({"note": "x" * MOST_AT_ONCE}).encode()
    for number in range(1, 31):
        ring.add(frame(1 + number % 2, 1, number, "note", large if number == 10 else data))
    for run_, wanted in ((0, 30), (1, 15)):
        place, parts = 0, list[bytes]()
        while place < ring.end:
            part, place = ring.told(place, run_)
            parts.append(part)
        assert b"".join(parts).count(b"event: note") == wanted
        assert all(len(part) < MOST_AT_ONCE + 100 for part in parts if part.count(b"event: note") > 1)
