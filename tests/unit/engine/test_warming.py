"""Which rows go out while a prefix is warmed. The workers are the test itself."""

from collections.abc import AsyncGenerator, Iterable

import anyio
import pytest
from anyio.lowlevel import checkpoint

from runner.admission import Amounts, Reservation
from runner.engine import warming
from runner.engine.prefixes import whole_texts
from runner.engine.warming import WARM_S, Warming
from runner.interfaces import Emit
from runner.model import Attempt, Item, Outcome, Request
from runner.money import Price

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def row(key: str, *texts: str) -> Item:
    messages = tuple({"role": "user", "content": text} for text in (*texts, f"question {key}"))
    return Item(key=key, position=1, request=Request(model="m", messages=messages), metadata={}, fingerprint=0)


class Desk:
    """Rows that go through a Warming, and the answers to them as the test gives them."""

    def __init__(self, rows: Iterable[Item | Outcome], *, waits: bool = True, marks: bool = False) -> None:
        self.now = 0.0
        self.read = 0
        self.warming = Warming(whole_texts(None, 0), lambda: self.now, waits=waits, marks=marks)
        self._rows = rows
        self.out: list[Item | Outcome] = []
        self.ended = False

    async def _items(self) -> AsyncGenerator[Item | Outcome, None]:
        for one in self._rows:
            self.read += 1
            yield one

    async def feed(self) -> None:
        async for one in self.warming.items(self._items()):
            self.out.append(one)
        self.ended = True

    async def keys(self) -> list[str]:
        """What has gone out since it was last asked, once nothing more comes."""
        for _ in range(20):
            await checkpoint()
        found, self.out = [one.key for one in self.out], []
        return found

    def begins(self, key: str, *texts: str) -> None:
        self.warming.begun(row(key, *texts))

    async def fails(self, key: str) -> None:
        """An attempt of a row fails."""

        async def handle(item: Item, emit: Emit) -> Outcome | None:
            await emit(Attempt(key=item.key, number=1, started_at=0.0, duration_s=0.0, error_code="cut"))
            return None

        async def emit(attempt: Attempt) -> None:
            return None

        await self.warming.handle(handle)(row(key), emit)


async def run(desk: Desk, script: object) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(desk.feed)
        await script(desk)  # type: ignore[operator]
        group.cancel_scope.cancel()


async def test_the_first_row_of_each_prefix_goes_alone_and_different_prefixes_at_once() -> None:
    rows = [row(f"{prefix}{number}", prefix) for number in range(3) for prefix in "ab"]

    async def script(desk: Desk) -> None:
        assert await desk.keys() == ["a0", "b0"]
        desk.begins("b0")
        assert await desk.keys() == ["b1", "b2"]
        # an answer to another row changes nothing
        desk.begins("b1")
        assert await desk.keys() == []
        desk.begins("a0")
        assert await desk.keys() == ["a1", "a2"]
        assert desk.ended

    await run(Desk(rows), script)


async def test_if_the_first_fails_the_next_goes_alone() -> None:
    async def script(desk: Desk) -> None:
        assert await desk.keys() == ["a0"]
        await desk.fails("a0")
        assert await desk.keys() == ["a1"]
        # the failed row may be the one that is answered first, after its retry
        await desk.fails("a1")
        assert await desk.keys() == ["a2"]
        desk.begins("a2")
        assert await desk.keys() == ["a3"]

    await run(Desk([row(f"a{number}", "a") for number in range(4)]), script)


async def test_while_the_first_waits_for_its_retry_the_next_goes() -> None:
    async def script(desk: Desk) -> None:
        ends = anyio.Event()

        async def handle(item: Item, emit: Emit) -> Outcome | None:
            await emit(Reservation(item.key, 1, 0.0, Amounts(), 1, 1, Price(model="m", tier="standard", rates=None)))
            await ends.wait()
            await emit(Attempt(key=item.key, number=1, started_at=0.0, duration_s=0.0, error_code="cut"))
            await anyio.sleep_forever()
            return None

        async def emit(entry: Attempt | Reservation) -> None:
            return None

        assert await desk.keys() == ["a0"]
        async with anyio.create_task_group() as group:
            group.start_soon(desk.warming.handle(handle), row("a0"), emit)
            # under a budget, what it may use is written before it goes out
            assert await desk.keys() == []
            ends.set()
            assert await desk.keys() == ["a1"]
            group.cancel_scope.cancel()

    await run(Desk([row(f"a{number}", "a") for number in range(3)]), script)


async def test_rows_that_share_nothing_and_broken_rows_do_not_wait() -> None:
    broken = Outcome(key="broken", position=1, status="failed", metadata={}, fingerprint=0)
    rows = [row("a0", "a"), row("x", "only here"), broken, row("a1", "a"), row("y")]

    async def script(desk: Desk) -> None:
        assert sorted(await desk.keys()) == ["a0", "broken", "x", "y"]

    await run(Desk(rows), script)


async def test_a_prefix_of_a_prefix_is_warmed_first() -> None:
    rows = [row(f"{doc}{number}", "system", doc) for number in range(2) for doc in "ab"]

    async def script(desk: Desk) -> None:
        assert await desk.keys() == ["a0"]
        desk.begins("a0")
        # now the system text is warm: the other document is warmed, while the rest of the first goes
        assert sorted(await desk.keys()) == ["a1", "b0"]
        desk.begins("b0")
        assert await desk.keys() == ["b1"]

    await run(Desk(rows), script)


async def test_prefixes_are_known_from_window_to_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warming, "WINDOW", 2)
    rows = [row("a0", "a"), row("x"), row("a1", "a"), row("y"), row("a2", "a")]

    async def script(desk: Desk) -> None:
        # nobody knew that a0 shares something; a1 does
        assert sorted(await desk.keys()) == ["a0", "a1", "x", "y"]
        desk.begins("a0")
        assert await desk.keys() == ["a2"]

    await run(Desk(rows), script)


async def test_rows_are_ordered_by_prefix_within_a_window_and_warm_ones_do_not_wait() -> None:
    rows = [row(f"{prefix}{number}", prefix) for number in range(3) for prefix in "ab"]
    desk = Desk(rows)
    desk.warming._use(link.hash for prefix in "ab" for link in whole_texts(None, 0)(row("", prefix).request)[:1])

    async def script(desk: Desk) -> None:
        assert await desk.keys() == ["a0", "a1", "a2", "b0", "b1", "b2"]

    await run(desk, script)


async def test_a_prefix_that_was_not_used_for_long_is_warmed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warming, "WINDOW", 2)
    monkeypatch.setattr(warming, "PENDING", 2)
    gate = anyio.Event()

    class Slow(Desk):
        async def _items(self) -> AsyncGenerator[Item | Outcome, None]:
            for number in range(6):
                if number == 4:
                    await gate.wait()
                yield row(f"a{number}", "a")

    async def script(desk: Desk) -> None:
        assert await desk.keys() == ["a0"]
        desk.begins("a0")
        assert await desk.keys() == ["a1", "a2", "a3"]
        desk.now += WARM_S
        gate.set()
        assert await desk.keys() == ["a4"]
        desk.begins("a4")
        assert await desk.keys() == ["a5"]

    await run(Slow([]), script)


async def test_memory_is_bounded_while_rows_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warming, "WINDOW", 10)
    monkeypatch.setattr(warming, "PENDING", 50)
    monkeypatch.setattr(warming, "KNOWN", 20)
    rows = (row(f"a{number}", "a") for number in range(1_000))

    async def script(desk: Desk) -> None:
        assert await desk.keys() == ["a0"]
        assert desk.read <= 70
        desk.begins("a0")
        while not desk.ended:
            for key in await desk.keys():
                desk.begins(key)
        assert len(desk.warming._known) <= 20
        assert (desk.warming._pending, desk.warming._pending_bytes, desk.warming._open) == (0, 0, {})

    await run(Desk(rows), script)


async def test_a_window_does_not_wait_long_for_rows() -> None:
    gate = anyio.Event()

    class Rare(Desk):
        async def _items(self) -> AsyncGenerator[Item | Outcome, None]:
            yield row("x")
            self.now += 1.0
            yield row("y")
            await gate.wait()

    async def script(desk: Desk) -> None:
        assert await desk.keys() == ["x", "y"]

    await run(Rare([]), script)


async def test_large_rows_count_by_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warming, "WINDOW_BYTES", 1_000)
    monkeypatch.setattr(warming, "PENDING_BYTES", 3_000)
    rows = (row(f"a{number}", "a" * 500) for number in range(1_000))

    async def script(desk: Desk) -> None:
        assert await desk.keys() == ["a0"]
        assert desk.read <= 12

    await run(Desk(rows), script)


async def test_without_waiting_rows_keep_their_order_and_are_marked() -> None:
    rows = [row("a0", "a"), row("b0", "b"), row("a1", "a"), row("x")]
    desk = Desk(rows, waits=False, marks=True)

    async def script(desk: Desk) -> None:
        for _ in range(20):
            await checkpoint()
        assert [(one.key, one.request.prefixes) for one in desk.out if isinstance(one, Item)] == [
            ("a0", ((1, 0),)),
            ("b0", ()),
            ("a1", ((1, 0),)),
            ("x", ()),
        ]

    await run(desk, script)


async def test_a_request_has_four_marks_at_most() -> None:
    texts = [f"message {number}" for number in range(9)]
    desk = Desk([row("a0", *texts), row("a1", *texts)], marks=True)

    async def script(desk: Desk) -> None:
        await desk.keys()
        desk.begins("a0")
        for _ in range(20):
            await checkpoint()
        (one,) = desk.out
        assert isinstance(one, Item)
        assert one.request.prefixes == ((6, 0), (7, 0), (8, 0), (9, 0))

    await run(desk, script)


async def test_rows_that_are_the_same_as_a_whole() -> None:
    same = Request(model="m", messages=({"role": "user", "content": "q"},))
    rows = [Item(key=key, position=1, request=same, metadata={}, fingerprint=0) for key in ("one", "two")]

    async def script(desk: Desk) -> None:
        assert await desk.keys() == ["one"]
        desk.begins("one")
        assert await desk.keys() == ["two"]

    await run(Desk(rows), script)
