"""Lanes that share their limits, over real sockets."""

import asyncio
import os
import shutil
import socket
import sys
from pathlib import Path

import pytest
from sharing import SAME, Run, ended, token_in
from simulating import until

from runner.engine.limits.headers import Seen
from runner.frames import Link
from runner.sharing import folder, identity, seat
from runner.sharing.elsewhere import VARIABLE, Host, Relay, Way
from runner.sharing.messages import PROTOCOL, Hello, encode
from runner.workers import tokens
from runner.workers.tokens import Token

pytestmark = pytest.mark.anyio


async def two(runtime: Path, slots: int = 10, **first: object) -> tuple[Run, Run]:
    """Return two runs that share their limits; the first one serves, and has learned how many slots there are."""
    one = Run(runtime, **first)  # type: ignore[arg-type]
    await one.with_others(0)
    one.learn(slots)
    other = Run(runtime)
    await other.with_others(2)
    await one.with_others(2)
    return one, other


async def test_a_run_alone_waits_for_nobody(runtime: Path) -> None:
    one = Run(runtime)
    async with ended(one):
        one.send(8)
        await one.out(8)
        assert (one.lane.runs, one.notes) == (0, [])
        assert [path.name for path in (runtime / "runner").glob("*.s")] == [f"{SAME[:16]}.s"]
    assert [path.name for path in (runtime / "runner").iterdir()] == [folder.LOCK]


async def test_all_together_have_the_slots_of_one_in_turn(runtime: Path) -> None:
    one, other = await two(runtime)
    async with ended(one, other):
        one.send(30)
        await one.out(10)
        other.send(30)
        await asyncio.sleep(0.05)
        assert (len(one.permits), len(other.permits)) == (10, 0)
        # what comes free goes to each in turn
        for number in range(1, 11):
            one.answer()
            await until(lambda number=number: len(one.permits) + len(other.permits) == 10)  # type: ignore[misc]
        assert 4 <= len(other.permits) <= 6
        assert (len(one.notes), len(other.notes)) == (1, 1)


async def test_open_requests_count_for_who_comes(runtime: Path) -> None:
    one = Run(runtime)
    await one.with_others(0)
    one.learn(10)
    one.send(10)
    await one.out(10)
    other = Run(runtime)
    async with ended(one, other):
        await other.with_others(2)
        other.send(5)
        await asyncio.sleep(0.05)
        assert other.permits == []
        one.answer()
        await other.out(1)


async def test_who_takes_over_goes_on_with_what_was_learned_and_with_what_is_open(runtime: Path) -> None:
    one, other = await two(runtime)
    third = Run(runtime)
    async with ended(other, third):
        await third.with_others(3)
        other.send(4)
        third.send(4)
        await other.out(4)
        await third.out(4)
        await one.end()
        await other.with_others(2)
        await third.with_others(2)
        # ten slots, eight of which are taken
        other.send(5)
        await until(lambda: len(other.permits) + len(third.permits) == 10)
        await asyncio.sleep(0.05)
        assert len(other.permits) + len(third.permits) == 10
        await third.end()
        await other.with_others(0)
        assert other.lane.slots == 10


async def test_a_newcomer_hears_of_a_pause(runtime: Path) -> None:
    one = Run(runtime)
    await one.with_others(0)
    one.lane.pause(30, "the server said so", asked=True)
    other = Run(runtime)
    async with ended(one, other):
        await until(lambda: other.lane.paused_s > 20)
        assert other.lane.asked_s > 20
        other.send(1)
        await asyncio.sleep(0.05)
        assert other.permits == []


async def test_a_pause_of_one_is_a_pause_of_all(runtime: Path) -> None:
    one, other = await two(runtime)
    async with ended(one, other):
        other.send(1)
        await other.out(1)
        other.lane.throttle(other.permits[0], 20.0, 429)
        await until(lambda: one.lane.paused_s > 10)


async def test_the_smallest_rpm_of_the_present_runs_holds(runtime: Path) -> None:
    one, other = await two(runtime, per_minute={"rpm": 600.0})
    slow = Run(runtime, per_minute={"rpm": 60.0})
    async with ended(one, other):
        await until(lambda: one.lane.state().limits.get("rpm") == 60)
        await slow.end()
        await until(lambda: other.lane.state().limits.get("rpm") == 600)
        await one.end()
        # a limit that nobody has set any more holds no more
        await other.with_others(0)
        assert other.lane.state().limits == {}


async def test_a_run_with_rpm_goes_on_with_it_when_another_has_gone(runtime: Path) -> None:
    one = Run(runtime, per_minute={"rpm": 600.0})
    await one.with_others(0)
    other = Run(runtime)
    async with ended(one):
        await other.with_others(2)
        await other.end()
        await one.with_others(0)
        assert one.lane.state().limits == {"rpm": 600}


async def test_what_the_server_reports_is_known_to_all(runtime: Path) -> None:
    one, other = await two(runtime)
    async with ended(other):
        one.send(1)
        await one.out(1)
        one.lane.heard(one.permits[0], 200, [(b"date", b"x"), (b"x-ratelimit-limit-requests", b"120")])
        await until(lambda: other.lane.state().limits.get("rpm") == 120)
        await one.end()
        await other.with_others(0)
        assert other.lane.state().limits == {"rpm": 120}
        other.lane.own_rates.learn("rpm", Seen(limit=240))
        assert other.lane.state().limits == {"rpm": 240}


async def test_a_fixed_number_of_slots_is_a_matter_of_its_run(runtime: Path) -> None:
    one, other = await two(runtime)
    fixed = Run(runtime, slots=3, tuned=False)
    async with ended(one, other, fixed):
        await fixed.with_others(3)
        one.send(12)
        fixed.send(12)
        await one.out(10)
        await fixed.out(3)
        await asyncio.sleep(0.05)
        assert (len(one.permits), len(fixed.permits)) == (10, 3)


async def test_a_row_that_is_cancelled_leaves_no_ticket_behind(runtime: Path) -> None:
    one, other = await two(runtime, slots=2)
    async with ended(one, other):
        one.send(2)
        await one.out(2)
        other.send(5)
        await asyncio.sleep(0.05)
        for row in other._rows:
            row.cancel()
        one.answer()
        one.answer()
        one.send(2)
        await one.out(2)


@pytest.mark.parametrize("whole", [False, True])
async def test_a_socket_that_is_deleted_is_made_again(runtime: Path, whole: bool) -> None:
    one, other = await two(runtime)
    third = None
    async with ended(one, other):
        if whole:
            shutil.rmtree(runtime / "runner")
        else:
            next((runtime / "runner").glob("*.s")).unlink()
        await until(lambda: any((runtime / "runner").glob("*.s")))
        third = Run(runtime)
        await third.with_others(3)
        await other.with_others(3)
        await third.end()


async def test_two_that_serve_find_each_other(runtime: Path) -> None:
    """The second one has begun while the socket of the first was away."""
    one = Run(runtime)
    await one.with_others(0)
    next((runtime / "runner").glob("*.s")).unlink()
    other = Run(runtime)
    async with ended(one, other):
        await one.with_others(2)
        await other.with_others(2)


async def test_another_endpoint_model_or_key_shares_nothing(runtime: Path) -> None:
    one, other = Run(runtime), Run(runtime, same="cd" * 32)
    async with ended(one, other):
        await one.with_others(0)
        await other.with_others(0)
        await asyncio.sleep(0.6)
        assert one.lane.runs == other.lane.runs == 0
    own = [("http://a/v1", "m", "k"), ("http://b/v1", "m", "k"), ("http://a/v1", "n", "k"), ("http://a/v1", "m", "l")]
    assert len({*(identity.of(*values, []) for values in own), identity.of(*own[0], [("Org", "x")])}) == 5
    assert "canary" not in identity.of("http://a/v1", "m", "canary", [])


async def test_garbage_at_the_socket_harms_nobody(runtime: Path) -> None:
    one = Run(runtime)
    await one.with_others(0)
    path = next((runtime / "runner").glob("*.s"))
    for said in (b"", b"GET / HTTP/1.1\r\n\r\n", (5).to_bytes(4, "little") + b"hello", b"\xff" * 100):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(said)
        if len(said) > 8:
            # at most a word of farewell
            await reader.read()
        writer.close()
    other = Run(runtime)
    async with ended(one, other):
        await other.with_others(2)
        one.send(1)
        await one.out(1)


async def test_a_run_goes_on_by_itself_where_there_is_no_folder(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(_: object) -> Path:
        raise folder.NoFolderError("/tmp/runner-1 is not a folder of this user alone (mode 0700)")

    monkeypatch.setattr(folder, "of", nothing)
    one = Run(runtime)
    async with ended(one):
        one.send(3)
        await one.out(3)
        assert one.notes == [
            "limits are not shared with other runs: /tmp/runner-1 is not a folder of this user alone (mode 0700)"
        ]


def test_the_folder_is_that_of_this_user_alone(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "_ROOT", runtime)
    monkeypatch.setattr(folder, "_LOGINS", runtime / "user")
    other = runtime / f"runner-{os.getuid()}"
    assert folder.of({"XDG_RUNTIME_DIR": str(runtime)}) == runtime / "runner"
    assert (runtime / "runner").stat().st_mode & 0o777 == 0o700
    # a path that is too long, one that is none, one that others can enter, and one of somebody else
    deep = runtime / ("long" * 25)
    deep.mkdir(mode=0o700)
    open_ = runtime / "open"
    open_.mkdir(mode=0o755)
    open_.chmod(0o755)
    link = runtime / "link"
    link.symlink_to(runtime)
    for given in (str(deep), "", "relative", str(runtime / "missing"), str(open_), str(link)):
        assert folder.of({"XDG_RUNTIME_DIR": given}) == other
        assert len(os.fsencode(seat.path_of(SAME, {"XDG_RUNTIME_DIR": given}))) <= folder.MOST
    # that of a login counts where nothing is said, if it is this user's alone
    login = runtime / "user" / str(os.getuid())
    login.mkdir(mode=0o755, parents=True)
    login.chmod(0o755)
    assert folder.of({}) == other
    login.chmod(0o700)
    assert folder.of({}) == folder.of({"XDG_RUNTIME_DIR": ""}) == folder.of({"XDG_RUNTIME_DIR": str(login)}) == login / "runner"
    assert folder.of({"XDG_RUNTIME_DIR": str(open_)}) == other
    uid = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    with pytest.raises(folder.NoFolderError):
        # made by this user, and asked for by another one
        folder._made(runtime)


def test_a_socket_of_a_run_that_was_killed_is_taken_away(runtime: Path) -> None:
    where = {"XDG_RUNTIME_DIR": str(runtime)}
    first = seat.Seat("11" * 32, where).find()
    first.end.close()
    found = seat.Seat("22" * 32, where).find()
    assert found.serves
    assert [path.name for path in (runtime / "runner").glob("*.s")] == ["2222222222222222.s"]
    found.end.close()


@pytest.mark.skipif(sys.platform != "linux", reason="the folder alone decides elsewhere")
def test_a_connection_of_another_user_is_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = socket.socketpair()
    with one, other:
        assert seat.is_own(one)
        uid = os.getuid()
        monkeypatch.setattr(os, "getuid", lambda: uid + 1)
        assert not seat.is_own(one)


def test_a_forked_child_keeps_no_socket(runtime: Path) -> None:
    found = seat.Seat(SAME, {"XDG_RUNTIME_DIR": str(runtime)}).find()
    number = found.end.fileno()
    child = os.fork()
    if child == 0:
        try:
            os.fstat(number)
        except OSError:
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert os.fstat(number)
    found.end.close()


async def test_a_run_elsewhere_shares_as_long_as_somebody_lets_it_in(runtime: Path) -> None:
    told: list[str] = []
    host = Host("127.0.0.1", runtime / "runner.db", {"XDG_RUNTIME_DIR": str(runtime)}, told.append)
    await host.open()
    address, (file, token) = told[0].rpartition(" ")[2], token_in(runtime)
    one, other = Run(runtime), Run(Way(address, {VARIABLE: token}))
    # the secret of another session, and an identity that nobody has here
    stranger = Run(Way(address, {VARIABLE: Token(b"x" * 32, tokens.read(token).fingerprint).text}))
    third = Run(Way(address, {VARIABLE: token}), same="cd" * 32)
    async with ended(one, other, stranger, third):
        await one.with_others(2)
        await other.with_others(2)
        other.send(2)
        await other.out(2)
        for alone, words in ((stranger, "its token may be of another run"), (third, "no run at this address has the same")):
            await until(lambda alone=alone: len(alone.notes) == 1)  # type: ignore[misc]
            assert words in alone.notes[0]
            alone.send(1)
            await alone.out(1)
        host.close()
        assert not file.exists()
        await other.with_others(0)
        other.send(3)
        await other.out(5)
        assert "limits are not shared for now" in other.notes[-1]


def tokens_in(folder_: Path) -> list[str]:
    return [path.name for path in folder_.glob("*.token")]


async def test_a_token_that_a_killed_session_has_left_is_removed_and_one_in_use_is_not(runtime: Path) -> None:
    store = runtime / "runner.db"
    left = runtime / "runner.db.1.token"
    left.write_text("of a session that was killed")
    told: list[str] = []
    hosts = [Host("127.0.0.1", store, {"XDG_RUNTIME_DIR": str(runtime)}, told.append) for _ in range(2)]
    for host in hosts:
        await host.open()
    # the second one has found the first one's in use
    files = tokens_in(runtime)
    assert (left.name in files, len(files)) == (False, 2)
    assert all(f"to the line in {runtime / name}," in "".join(told) for name in files)
    for host in hosts:
        host.close()
    assert tokens_in(runtime) == []


async def test_a_run_that_looks_for_another_one_shares_with_nobody(runtime: Path) -> None:
    one, other = await two(runtime)
    async with ended(other):
        await one.end()
        other.share._hand.begin(None)
        assert other.lane.state().shared == 0
        await other.with_others(0)


async def test_an_identity_that_is_none_is_no_path(runtime: Path) -> None:
    link = Link(lambda _: None, lambda _: None)
    gone: list[Relay] = []
    relay = Relay(link, {"XDG_RUNTIME_DIR": str(runtime)}, gone.append)
    link.take(encode([Hello(PROTOCOL, "../" * 20 + "aaaa", "x")]))
    assert gone == [relay]
    assert link.ended
