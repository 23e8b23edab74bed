"""Frames over a stream that brings them in whatever pieces it likes."""

import asyncio
import random
import socket

import pytest
from asking import PROGRAM_LOOP
from simulating import until

from runner.frames import Batch, Link, join

pytestmark = pytest.mark.anyio
FRAMES = [b"", b"a", b"b" * 70_000, b"c" * 3, b"d" * 300_000, b"e"]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return PROGRAM_LOOP


def streamed(frame: bytes) -> bytes:
    return len(frame).to_bytes(4, "little") + frame


@pytest.mark.parametrize("most", [1, 2, 5, 70_000, 1_000_000])
def test_frames_are_the_same_in_all_pieces(most: int) -> None:
    # byte by byte, the large ones would take long
    frames = [frame for frame in FRAMES if most > 5 or len(frame) < 5]
    taken: list[bytes] = []
    link, whole, chance = Link(taken.append, lambda _: None), b"".join(map(streamed, frames)), random.Random(most)
    while whole:
        size = chance.randint(1, most)
        link.data_received(whole[:size])
        whole = whole[size:]
    assert taken == frames


def test_what_a_frame_does_wrong_ends_the_link_and_nothing_is_taken_behind_it() -> None:
    def take(frame: bytes) -> None:
        taken.append(frame)
        raise ValueError("no message")

    taken: list[bytes] = []
    link = Link(take, lambda _: None)
    link.data_received(streamed(b"x") + streamed(b"y"))
    assert (taken, link.ended) == ([b"x"], True)


@pytest.mark.parametrize("at_once", [False, True])
async def test_small_and_large_frames_arrive_in_order(at_once: bool) -> None:
    taken: list[bytes] = []
    here, there = Link(taken.append, lambda _: None), Link(lambda _: None, lambda _: None)
    one, other = socket.socketpair()
    await join(here, one)
    await join(there, other, at_once=at_once)
    # more than the system takes before any of it is read
    frames = [*FRAMES, *(b"%d" % number * 20_000 for number in range(20)), *FRAMES]
    for frame in frames:
        there.send(frame)
    assert there.unsent > 0
    await until(lambda: len(taken) == len(frames))
    assert taken == frames
    there.end()
    await asyncio.sleep(0)
    here.end()


async def test_what_goes_out_at_once_is_with_the_other_side_before_the_turn_ends_and_a_full_batch_does() -> None:
    flushed: list[int] = []
    link = Link(lambda _: None, lambda _: None)
    one, other = socket.socketpair()
    await join(link, one, at_once=True)
    batch = Batch(lambda: (flushed.append(len(waiting)), waiting.clear(), link.send(b"full"))[0], link)
    waiting: list[int] = []
    for number in range(2 * Batch.FULL - 1):
        waiting.append(number)
        batch.due(len(waiting))
    other.setblocking(False)
    assert (flushed, other.recv(100)) == ([Batch.FULL], streamed(b"full"))
    await until(lambda: flushed == [Batch.FULL, Batch.FULL - 1])
    link.end()
    other.close()


async def test_a_batch_whose_link_writes_at_the_end_of_a_turn_is_whole() -> None:
    flushed: list[int] = []
    batch = Batch(lambda: flushed.append(1), Link(lambda _: None, lambda _: None))
    for number in range(3 * Batch.FULL):
        batch.due(number + 1)
    assert not flushed
    await until(lambda: flushed == [1])


async def test_a_frame_to_a_side_that_has_ended_loses_nothing_that_it_has_said() -> None:
    taken: list[bytes] = []
    gone: list[str | None] = []
    link = Link(taken.append, gone.append)
    one, other = socket.socketpair()
    await join(link, one, at_once=True)
    other.sendall(streamed(b"the last word"))
    other.close()
    link.send(b"too late")
    await until(lambda: gone == [None])
    assert (taken, link.ended) == ([b"the last word"], True)
