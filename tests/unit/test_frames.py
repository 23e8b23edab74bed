"""Frames over a stream that brings them in whatever pieces it likes."""

import asyncio
import random
import socket

import pytest
from asking import PROGRAM_LOOP
from simulating import until

from runner.frames import Link, join

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


async def test_small_and_large_frames_arrive_in_order() -> None:
    taken: list[bytes] = []
    here, there = Link(taken.append, lambda _: None), Link(lambda _: None, lambda _: None)
    one, other = socket.socketpair()
    await join(here, one)
    await join(there, other)
    for frame in FRAMES:
        there.send(frame)
    await until(lambda: len(taken) == len(FRAMES))
    assert taken == FRAMES
    there.end()
    await asyncio.sleep(0)
    here.end()
