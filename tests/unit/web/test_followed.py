"""Which sessions are followed for whom, what is kept of them, and what a state already holds."""

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest
from filling import done, filled
from webbing import GUARD_S, events, served_here, session_of, until

from runner.web import ring
from runner.web.events import _is_behind
from runner.web.ring import Frame, Ring, frame
from runner.web.running import running


def test_a_session_that_nobody_looks_at_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.web.hub.LOOK_S", 0.01)
    store = filled(filled(tmp_path / "runner.db", done("a", 1)), done("b", 1))

    async def main() -> None:
        async with (
            asyncio.timeout(GUARD_S),
            session_of(store, 1) as one,
            session_of(store, 2) as other,
            served_here(store) as page,
            aclosing(events(page, "/api/runs/1/events")) as stream,
        ):
            assert (await anext(stream)).kind == "state"
            looks, look = list[Path](), page.hub._running
            page.hub._running = lambda where: (looks.append(where), look(where))[1]  # type: ignore[method-assign]
            await until(lambda: len(looks) > 3)
            assert (page.hub.active, [*page.hub.followed]) == ([2, 1], [1])
            assert (len(one.watchers), other.subscribed) == (1, 0)
            one.tell()
            other.tell()
            one.tell()
            assert [(await anext(stream)).data for _ in range(2)] == [{"run": 1, "note": "1"}, {"run": 1, "note": "2"}]

    asyncio.run(main())


def test_a_session_that_has_said_its_last_word_is_not_told_as_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.web.hub.LOOK_S", 0.01)
    store = filled(tmp_path / "runner.db", done("a", 1))

    async def main() -> None:
        kinds = list[str]()
        async with asyncio.timeout(GUARD_S), served_here(store) as page, aclosing(events(page)) as stream:
            async with session_of(store, 1) as session:
                while "state" not in kinds:
                    kinds.append((await anext(stream)).kind)
                session.tell("finished", done=1)
            async with session_of(store, 1, session=2):
                async for one in stream:
                    kinds.append(one.kind)
                    if one.kind == "state" and one.data["session"] == 2:
                        break
        assert "finished" in kinds
        assert "gone" not in kinds

    asyncio.run(main())


def test_who_comes_back_to_a_new_server_goes_on_in_one_run_and_begins_with_the_state_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.web.hub.LOOK_S", 0.01)
    store = filled(filled(tmp_path / "runner.db", done("a", 1)), done("b", 1))

    async def main() -> None:
        async with asyncio.timeout(GUARD_S), session_of(store, 1) as one, session_of(store, 2) as other:
            for session in (one, one, other, other):
                session.tell()
            async with served_here(store) as page, aclosing(events(page, "/api/events", "1-1-1")) as stream:
                found = list[tuple[int, str]]()
                async for told in stream:
                    found += [(told.data["run"], told.kind)] if told.kind != "runs" else []
                    if len(found) == 2:
                        break
        assert sorted(found) == [(1, "note"), (2, "state")]

    asyncio.run(main())


def test_stretches_that_were_told_are_kept_for_those_who_are_as_far_and_not_for_ever() -> None:
    kept = Ring()
    for number in range(1, 100):
        kept.add(frame(1 + number % 2, 1, number, "note", b"{}"))
        first = kept.told(0, 1)
        # the same bytes, and not only equal ones
        assert kept.told(0, 1) is first
        assert ('"run":2' in repr(first), repr(first).count("event: note")) == (False, number // 2)
    assert len(kept._told) <= ring._MOST_TOLD


def test_nobody_goes_on_behind_a_frame_that_was_not_kept() -> None:
    kept = Ring()
    for number in (3, 5):
        kept.add(frame(1, 1, number, "note", b"{}"))
    kept.add(frame(2, 1, 9, "note", b"{}"))
    assert [kept.behind(1, 1, number) for number in range(2, 7)] == [None, 1, None, 2, None]
    assert kept.behind(1, 2, 5) is kept.behind(3, 1, 5) is None


@pytest.mark.parametrize(
    ("session", "number", "begins", "behind"),
    [
        (2, 5, False, True),
        (2, 6, False, False),
        (3, 1, False, False),
        (1, 9, False, True),
        (2, 0, False, False),
        (1, 0, False, True),
    ],
)
def test_what_a_state_holds_is_not_told_again(session: int, number: int, begins: bool, behind: bool) -> None:
    one = Frame(1, session, number, b"x", begins=begins)
    assert _is_behind(one, (2, 5)) == behind
    assert not _is_behind(one, None)


def test_a_session_that_is_followed_is_not_knocked_at(tmp_path: Path) -> None:
    store = filled(filled(tmp_path / "runner.db", done("a", 1)), done("b", 1))
    assert running(store, frozenset({1})) == [1]
    assert running(store, frozenset()) == running(tmp_path / "none.db", frozenset({1})) == []
