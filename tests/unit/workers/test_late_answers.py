"""What has come late is written down once."""

import asyncio
from collections.abc import Sequence

import pytest
from peers import paired
from simulating import until

from runner.entries import LateUsage
from runner.errors import StoreError
from runner.workers.late import LateAnswers
from runner.workers.states import State

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("fails", [False, True])
async def test_what_has_come_late_is_booked_once(fails: bool) -> None:
    booked: list[list[LateUsage]] = []

    async def book(found: Sequence[LateUsage]) -> None:
        booked.append([*found])
        if fails:
            raise StoreError("the disk is full")

    late, more = LateUsage("row", 1, None), LateUsage("row", 2, None)
    answers = LateAnswers(book)
    answers.waiting.append(late)
    await answers.book()
    assert answers.waiting == []
    answers.waiting.append(more)
    await answers.book()
    assert booked == [[late], [more]]


async def test_who_waits_for_a_worker_looks_again_each_time_there_may_be_one_and_not_in_between() -> None:
    async with paired() as peer:
        await peer.greet()
        await until(lambda: peer.member.state is State.LIVE)
        peer.member._files = 0
        waiting = asyncio.ensure_future(peer.crew.freed())
        await until(lambda: peer.crew._changed is not None)
        for _ in range(2):
            before = peer.crew._changed
            peer.crew.room()
            await until(lambda before=before: peer.crew._changed not in (None, before))  # type: ignore[misc]
            assert peer.crew._changed is not None
            assert not peer.crew._changed.is_set()
        peer.member._files = 1
        peer.crew.room()
        assert await waiting is peer.member
