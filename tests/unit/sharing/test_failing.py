"""Whatever goes wrong between two runs, each of them finishes its rows, and says once why."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sharing import SAME, Run, ended, token_in
from simulating import until

from runner.engine.limits.learned import Learned
from runner.sharing import seat
from runner.sharing.elsewhere import VARIABLE, Host, Way
from runner.sharing.messages import PROTOCOL, Bye, Grant, Known, Note, decode_to_run, encode

pytestmark = pytest.mark.anyio
IN_VAIN = "limits are not shared for now: the run that has the same endpoint, model and key lets nobody in"
FEW = 5
"""Visits of a run to one that lets nobody in: two, and some more on a machine that is so slow that it looks again."""
OTHER_VERSION = "the run that has the same endpoint, model and key is of another version of runner"


def framed(frame: bytes) -> bytes:
    return len(frame).to_bytes(4, "little") + frame


@asynccontextmanager
async def listener(runtime: Path, said: bytes) -> AsyncIterator[list[int]]:
    """Listen in the place of a run, say something to whoever comes, and close. Yields a list that grows with each visit."""
    visits: list[int] = []

    async def let_in(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits.append(1)
        writer.write(said)
        writer.close()

    path = seat.path_of(SAME, {"XDG_RUNTIME_DIR": str(runtime)})
    async with await asyncio.start_unix_server(let_in, path):
        yield visits


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xff" * 100, id="garbage"),
        pytest.param(framed(encode([])), id="no-message"),
        pytest.param(framed(encode([(99, "what is new")])), id="new-message"),
        pytest.param(framed(encode([Bye()])), id="farewell"),
        pytest.param(framed(encode([Grant([1], 5)])), id="no-welcome"),
    ],
)
async def test_a_connection_that_is_cut_before_the_welcome_holds_up_no_rows(runtime: Path, said: bytes) -> None:
    async with listener(runtime, said) as visits:
        one = Run(runtime)
        async with ended(one):
            one.send(3)
            await one.out(3)
            await until(lambda: len(one.notes) == 1)
            assert one.notes == [IN_VAIN]
            assert len(visits) <= FEW


async def test_a_welcome_that_is_followed_by_nothing_is_in_vain_too(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.sharing.share._SHORT_S", 600.0)
    known = Known(2, 5, Learned(5), {}, {}, serves="the run of process 1")
    async with listener(runtime, framed(encode([known]))) as visits:
        one = Run(runtime)
        async with ended(one):
            one.send(3)
            await one.out(3)
            assert one.notes[1:] == [IN_VAIN]
            assert len(visits) <= FEW


async def test_another_machine_that_lets_nobody_in_is_not_asked_again_and_again(runtime: Path) -> None:
    told: list[str] = []
    host = Host("127.0.0.1", runtime / "runner.db", {"XDG_RUNTIME_DIR": str(runtime)}, told.append)
    await host.open()
    async with listener(runtime, b"") as visits:
        one = Run(Way(told[0].rpartition(" ")[2], {VARIABLE: token_in(runtime)[1]}))
        async with ended(one):
            one.send(3)
            await one.out(3)
            await until(lambda: len(one.notes) == 1)
            assert one.notes == [IN_VAIN]
            assert len(visits) <= FEW
    host.close()


async def test_runs_of_two_versions_share_nothing(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Run(runtime)
    await one.with_others(0)
    # the later version has other fields, which this one cannot read
    reader, writer = await asyncio.open_unix_connection(seat.path_of(SAME, {"XDG_RUNTIME_DIR": str(runtime)}))
    writer.write(framed(encode([(0, PROTOCOL + 1, {"fields": "others"})])))
    said = await reader.read()
    writer.close()
    assert decode_to_run(said[4:]) == [Bye(OTHER_VERSION)]
    # and it can read this word
    monkeypatch.setattr("runner.sharing.hand.PROTOCOL", PROTOCOL + 1)
    later = Run(runtime)
    async with ended(one, later):
        later.send(3)
        await later.out(3)
        assert later.notes == [f"limits are not shared: {OTHER_VERSION}"]
        one.send(3)
        await one.out(3)
        assert one.notes == []


async def test_a_later_version_elsewhere_hears_why_it_is_not_let_in(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    host = Host("127.0.0.1", runtime / "runner.db", {"XDG_RUNTIME_DIR": str(runtime)}, told.append)
    await host.open()
    monkeypatch.setattr("runner.sharing.hand.PROTOCOL", PROTOCOL + 1)
    token = token_in(runtime)[1]
    later = Run(Way(told[0].rpartition(" ")[2], {VARIABLE: token}))
    async with ended(later):
        later.send(3)
        await later.out(3)
        assert later.notes == [f"limits are not shared: {OTHER_VERSION}"]
        host.close()


async def both(runtime: Path) -> tuple[Run, Run]:
    """Return two runs that share their limits; the first one serves."""
    one = Run(runtime)
    await one.with_others(0)
    other = Run(runtime)
    await other.with_others(2)
    await one.with_others(2)
    return one, other


@pytest.mark.parametrize("serves", [False, True])
async def test_what_cannot_be_sent_ends_the_sharing_and_not_the_run(runtime: Path, serves: bool) -> None:
    one, other = await both(runtime)
    run, partner = (one, other) if serves else (other, one)

    async with ended(one, other):
        # it is neither sent nor understood
        run.share._hand._say(object())  # type: ignore[arg-type]
        if serves:
            run.share._hand._send = lambda said: encode(said) and None
        run.send(3)
        await run.out(3)
        assert len([note for note in run.notes if note.startswith("limits are no longer shared with other runs: TypeError")]) == 1
        await partner.with_others(0)
        partner.send(3)
        await partner.out(3)


async def test_what_the_run_that_serves_cannot_take_from_itself_ends_the_sharing(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = await both(runtime)

    def broken(*_: object, **__: object) -> None:
        raise ValueError("a mistake")

    async with ended(one, other):
        monkeypatch.setattr(one.share._hand, "told", broken)
        one.send(3)
        await one.out(3)
        await until(lambda: one.notes[-1] == "limits are no longer shared with other runs: ValueError: a mistake")
        await other.with_others(0)
        assert one.lane.runs == 0
        other.send(3)
        await other.out(3)


async def test_what_cannot_be_sent_to_one_run_concerns_that_one_alone(runtime: Path) -> None:
    one, other = await both(runtime)
    async with ended(one, other):
        serving = one.share._serving
        assert serving is not None
        guest = next(guest for guest in serving._office.guests if guest is not serving._own)  # type: ignore[union-attr]
        guest.tell(Note("\ud800"))
        await until(lambda: any("UnicodeEncodeError" in note for note in one.notes))
        await other.with_others(2)
        other.send(3)
        await other.out(3)


async def test_sizes_and_words_that_no_message_can_hold_are_shared_all_the_same(runtime: Path) -> None:
    one, other = await both(runtime)
    async with ended(one, other):
        for run in (one, other):
            run.send(2, most=10**20)
            await run.out(2)
        other.lane.pause(30, "a lone \ud800 surrogate", asked=False)
        await until(lambda: one.lane.paused_s > 10)
        one.lane.pause(60, "another \ud800", asked=False)
        await until(lambda: other.lane.paused_s > 40)
        assert (one.lane.runs, len(one.notes), len(other.notes)) == (2, 1, 1)


async def test_rows_do_not_wait_for_another_machine_that_stands_still(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr("runner.sharing.elsewhere.FIRST_JOIN_S", 0.5)
    host = Host("127.0.0.1", runtime / "runner.db", {"XDG_RUNTIME_DIR": str(runtime)}, told.append)
    await host.open()
    address, token = told[0].rpartition(" ")[2], token_in(runtime)[1]
    one = Run(runtime)
    await one.with_others(0)
    # it takes connections, and says nothing
    async with await asyncio.start_server(silent, "127.0.0.1", 0) as still:
        port = still.sockets[0].getsockname()[1]
        first, later = Run(Way(f"127.0.0.1:{port}", {VARIABLE: token})), Run(Way(address, {VARIABLE: token}))
        async with ended(one, first, later):
            await later.with_others(2)
            # it takes as long to come as it likes: nobody waits for that any more
            monkeypatch.setattr("runner.sharing.elsewhere.JOIN_S", 600.0)
            later.share._place._port = port  # type: ignore[union-attr]
            host.close()
            later.send(3)
            await later.out(3)
            first.send(3)
            await first.out(3)
            assert "it does not answer" in first.notes[0]
            await later.with_others(0)


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    await reader.read()
    writer.close()
