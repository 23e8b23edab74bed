"""Making requests with files: an outline first, the whole for each attempt, and room in memory for a few of them."""

import json
from typing import Any, NamedTuple

import anyio
import pytest
from msgspec import structs

from runner.admission import Standing
from runner.engine import sending
from runner.engine.limits.estimate import BYTES_PER_TOKEN
from runner.engine.sending import Sender, expected
from runner.engine.stop import Stop
from runner.engine.task import Files, Task
from runner.errors import AttachmentError
from runner.model import HttpCall, Item, Request

PLAIN = Request(model="m", messages=({"role": "user", "content": "hi"},))
NAMED = structs.replace(PLAIN, media=True)


class Seen(NamedTuple):
    request: Request
    tokens: int
    size: int


class Provider:
    """Encodes messages as they are, and has files of 3,000 bytes."""

    revision = 0
    attachments: Any = None

    def __init__(self, *, files: bool = True) -> None:
        self.read = 0
        self.attachments = self if files else None

    def outlined(self, request: Request) -> Seen:
        return Seen(structs.replace(request, media=False), 50, 4_000)

    def filled(self, request: Request) -> Request:
        self.read += 1
        return structs.replace(request, messages=({"role": "user", "content": f"content {self.read}"},), media=False)

    def encode(self, request: Request) -> HttpCall:
        assert not request.media
        return HttpCall(url="u", headers={}, body=json.dumps(request.messages).encode())


def sender(provider: Provider) -> Sender:
    return Sender(provider)  # type: ignore[arg-type] - what is not here is not used


def item(request: Request) -> Item:
    return Item(key="k", position=1, request=request, metadata={}, fingerprint=0)


def task(call: HttpCall, files: Files | None) -> Task:
    return Task(item(PLAIN), call, None, Standing(), 0, None, files=files)  # type: ignore[arg-type]


@pytest.mark.anyio
async def test_a_request_without_files_is_encoded_at_once() -> None:
    provider = Provider(files=False)
    same, call, files = await sender(provider).encoded(item(PLAIN))
    assert (same, files) == (item(PLAIN), None)
    one = task(call, files)
    assert expected(one) == one.size == len(call.body)
    await sender(provider).enter(one)
    assert one.holds == 0


@pytest.mark.anyio
async def test_an_outline_is_what_is_known_and_each_attempt_reads_the_files() -> None:
    provider = Provider()
    maker = sender(provider)
    outline, call, files = await maker.encoded(item(NAMED))
    assert files == Files(NAMED, 50, 4_000)
    assert (outline.request.media, provider.read) == (False, 0)
    one = task(call, files)
    assert one.size == len(call.body) + 4_000
    assert expected(one) == len(call.body) + 50 * BYTES_PER_TOKEN
    bodies = [(await maker.whole(files, provider)).body for _ in range(2)]
    assert [b"content 1" in bodies[0], b"content 2" in bodies[1]] == [True, True]
    with pytest.raises(AttachmentError):
        await sender(Provider(files=False)).encoded(item(NAMED))


@pytest.mark.anyio
async def test_requests_wait_for_room_in_their_order_and_a_large_one_goes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "ROOM_BYTES", 10_000)
    maker, call = sender(Provider()), HttpCall(url="u", headers={}, body=b"")
    sizes = [4_000, 4_000, 1_000_000, 4_000]
    tasks = [task(call, Files(NAMED, 1, size)) for size in sizes]
    entered: list[int] = []

    async def enter(number: int) -> None:
        await maker.enter(tasks[number])
        entered.append(number)

    async with anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(enter, number)
            await anyio.wait_all_tasks_blocked()
        # the last one would fit, but the large one came first
        assert entered == [0, 1]
        for number, then in ((0, [0, 1]), (1, [0, 1, 2]), (2, [0, 1, 2, 3])):
            maker.leave(tasks[number])
            # giving back twice changes nothing
            maker.leave(tasks[number])
            await anyio.wait_all_tasks_blocked()
            assert entered == then
    assert tasks[3].holds == 4_000


@pytest.mark.anyio
async def test_a_wait_for_room_that_is_cancelled_takes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "ROOM_BYTES", 5_000)
    maker, call = sender(Provider()), HttpCall(url="u", headers={}, body=b"")
    first, second, third = (task(call, Files(NAMED, 1, 4_000)) for _ in range(3))
    await maker.enter(first)
    with anyio.move_on_after(0):
        await maker.enter(second)
    assert second.holds == 0
    maker.leave(first)
    await maker.enter(third)
    assert third.holds == 4_000


@pytest.mark.anyio
async def test_a_stop_ends_the_wait_for_room_wherever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "ROOM_BYTES", 5_000)
    maker, call, stop = sender(Provider()), HttpCall(url="u", headers={}, body=b""), Stop()
    first, *others = (task(call, Files(NAMED, 1, 4_000)) for _ in range(3))
    await maker.enter(first)
    ended: list[Task] = []

    async def enter(one: Task) -> None:
        with stop.interrupts():
            await maker.enter(one)
        ended.append(one)

    async with anyio.create_task_group() as group:
        for one in others:
            # the first of them waits for room, the second for its turn
            group.start_soon(enter, one)
            await anyio.wait_all_tasks_blocked()
        stop.request("by the test", grace_s=1)
    assert len(ended) == 2
    maker.leave(first)
    assert [one.holds for one in others] == [0, 0]
    await maker.enter(first)
    assert first.holds == 4_000
