"""The time left: after the first tenth of a run it is right within a fifth, whatever sets the pace."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import anyio
import pytest
from msgspec import structs
from virtual import BACKEND
from world import REFUSED, Server, World, an_item

from runner.errors import AttemptError, ProviderError
from runner.model import Entry, Item, Usage
from runner.pace import LaneState
from runner.session.forecast import Forecast, Sent
from runner.session.stats import SessionStats

pytestmark = pytest.mark.anyio

TICK_S = 0.5


@pytest.fixture
def anyio_backend() -> object:
    return BACKEND


def lane(**more: Any) -> LaneState:
    return LaneState(**{"model": "m", "slots": 8, "ceiling": 8, "in_flight": 8, **more})


def sent(rows: int, requests: int | None = None, tokens: int | None = None) -> Sent:
    return Sent(rows=rows, requests=rows if requests is None else requests, input_tokens=tokens, output_tokens=None)


def fed(samples: Sequence[tuple[float, int]], **more: Any) -> Forecast:
    forecast = Forecast()
    for at, rows in samples:
        forecast.see(at, sent(rows), (lane(**more),))
    return forecast


# -- single states


def test_nothing_is_said_before_anything_is_known() -> None:
    forecast = fed([(0.5, 0), (1.0, 0)])
    assert forecast.left_s(100) is None
    assert forecast.left_s(0) == 0.0


def test_a_limit_tells_before_anything_was_answered() -> None:
    assert fed([(0.5, 0)], limits={"rpm": 60.0}, waits_for="rpm").left_s(108) == pytest.approx(100, abs=1)


def test_a_limit_that_runs_share_lets_each_have_its_part() -> None:
    assert fed([(0.5, 0)], limits={"rpm": 120.0}, waits_for="rpm", shared=2).left_s(108) == pytest.approx(100, abs=1)
    needs = {"limits": {"tpm": 6000.0}, "waits_for": "tpm", "waiting_rows": 20, "needs": {"tpm": 16_000.0}}
    assert fed([(0.5, 0)], **needs, shared=4).left_s(28) == pytest.approx(640, abs=1)


def test_the_recent_rate_counts_and_not_the_mean() -> None:
    slow = [(second, second) for second in range(1, 101)]
    fast = [(100 + second, 100 + 10 * second) for second in range(1, 31)]
    assert fed([*slow, *fast]).left_s(100) == pytest.approx(10)


def test_retries_use_the_limit_too() -> None:
    forecast = Forecast()
    for second in range(1, 61):
        forecast.see(second, sent(second, requests=2 * second), (lane(limits={"rpm": 120.0}, waits_for="rpm"),))
    # eight of the rows are sent already
    assert forecast.left_s(108) == pytest.approx(100, abs=1)


def test_a_limit_of_tokens_is_used_as_the_rows_use_it() -> None:
    forecast = Forecast()
    for second in range(1, 61):
        forecast.see(second, sent(2 * second, tokens=200 * second), (lane(limits={"tpm": 6000.0}, waits_for="tpm"),))
    assert forecast.left_s(68) == pytest.approx(60, abs=1)


def test_a_pause_is_added_and_an_outage_is_not_guessed() -> None:
    forecast = fed([(second, 10 * second) for second in range(1, 31)])
    assert forecast.left_s(100) == pytest.approx(10)
    for second in range(31, 41):
        forecast.see(second, sent(300), (lane(paused_s=71.0 - second, blocked=True),))
        assert forecast.left_s(100) == pytest.approx(10 + 71 - second)
    forecast = fed([(second, 10 * second) for second in range(1, 31)])
    for second in range(31, 600):
        forecast.see(second, sent(300), (lane(outage_s=second - 30.0, blocked=True),))
        assert forecast.left_s(100) == pytest.approx(10)


def test_the_end_of_a_series_of_pauses_that_grows_is_unknown() -> None:
    forecast = fed([(0.5, 5)])
    at, guesses = 0.5, []
    for pause_s in (0.5, 1, 2, 4, 8, 16):
        for tick in range(int(pause_s / TICK_S)):
            forecast.see(at := at + TICK_S, sent(5), (lane(paused_s=pause_s - tick * TICK_S, blocked=True),))
            guesses.append(forecast.left_s(15))
        # the one request that tries again is refused
        forecast.see(at := at + TICK_S, sent(5), (lane(),))
    assert guesses[-1] is None
    assert all(guess is None for guess in guesses[4:])
    # the first row ends the series
    forecast.see(at + TICK_S, sent(6), (lane(),))
    assert forecast.left_s(14) is not None


def test_a_day_takes_no_more_memory_than_an_hour() -> None:
    forecast = fed([(0.5 * tick, tick) for tick in range(1, 20_000)])
    assert len(forecast._samples) < 600
    assert forecast.left_s(200) == pytest.approx(100)


def test_what_the_rows_in_the_lane_need_is_known_and_the_others_are_like_all_that_were_read() -> None:
    forecast = Forecast()
    for second in range(1, 61):
        state = lane(limits={"tpm": 6000.0}, waits_for="tpm", waiting_rows=20, needs={"tpm": 16_000.0})
        forecast.see(second, sent(2 * second, tokens=100 * second), (state,))
    # eight are sent, twenty need 160 s; those behind them 22,000 tokens / 140 rows each
    assert forecast.left_s(28) == pytest.approx(160, abs=1)
    assert forecast.left_s(28 + 60) == pytest.approx(160 + 59.5 * 22_000 / 140 / 100, abs=1)
    # the debt of a limit is nothing to those that are sent
    assert (forecast.left_s(8) or 0.0) < 10


# -- whole runs, in virtual time, with the real lanes


class Timed(World):
    """Counts what is saved as a session does, and notes what is forecast."""

    def __init__(self, server: Server, **more: Any) -> None:
        super().__init__(server, **more)
        self.stats, self.forecast = SessionStats(), Forecast()
        # settled rows, seconds since the start, the guess, and whether it was an outage
        self.told: list[tuple[int, float, float | None, bool]] = []

    async def save(self, entries: list[Entry]) -> None:
        for entry in entries:
            self.stats.add(entry)
        await super().save(entries)

    async def all(self, rows: int, items: Sequence[Item] | None = None, *, failed: int = 0) -> float:
        """Run so many rows, those of the items if they are given, and return the seconds."""
        start = anyio.current_time()

        async def watch() -> None:
            while True:
                await anyio.sleep(TICK_S)
                since, states = anyio.current_time() - start, self.lanes.states()
                self.forecast.see(since, self.stats.sent(), states)
                settled = self.stats.done + self.stats.failed
                outage = any(state.outage_s for state in states)
                self.told.append((settled, since, self.forecast.left_s(rows - settled), outage))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            await self.work(rows if items is None else items)
            tasks.cancel_scope.cancel()
        assert (self.stats.done, self.stats.failed) == (rows - failed, failed)
        return anyio.current_time() - start


def worst(told: list[tuple[int, float, float | None, bool]], rows: int, end: float, *, after_s: float = 0.0) -> float:
    """Return the greatest error of the guesses after the first tenth of the rows, as a share of the time that was left.

    The last twentieth of the time and the last ten rows are left out: there one answer counts more than the rate.
    """
    errors = [
        abs(guess - (end - since)) / (end - since)
        for settled, since, guess, outage in told
        if rows / 10 <= settled <= rows - 10 and after_s <= since < 0.95 * end and not outage and guess is not None
    ]
    assert len(errors) > 10
    return max(errors)


# -- rows that are large for a limit of tokens


JSON_BYTES = 110


class Weighed(Server):
    """Its answers report tokens as most servers do: a quarter of the text, and next to nothing for the JSON around it."""

    async def _serve(self, item: str, decoder: Any, exchange: Any) -> None:
        await super()._serve(item, decoder, exchange)
        usage = Usage(input_tokens=(len(item) - JSON_BYTES) // 4 + 8, output_tokens=2)
        decoder.gathered = structs.replace(decoder.gathered, usage=usage)


async def test_a_large_row_that_was_refused_and_is_held_is_not_sent_again() -> None:
    refused = ProviderError("weird row", code="bad_request", verdict="fail", status=400)
    server = Weighed(service=(0.2, 0.5), fault=lambda item, _since: refused if len(item) > 10_000 else None)
    world = Timed(server, per_minute={"tpm": 6000.0})
    end = await world.all(9, weighed([15_000, 15_000, *[6] * 7]), failed=2)
    for settled, since, guess, _ in world.told:
        if settled >= 1 and 3 < since < end - 3:
            assert guess == pytest.approx(end - since, rel=0.2, abs=3)


def weighed(sizes: Sequence[int]) -> list[Item]:
    """Return items with texts of these sizes."""
    items = [an_item(f"{number:05d}".ljust(JSON_BYTES + size, "x")) for number, size in enumerate(sizes)]
    return [structs.replace(item, key=item.key[:5]) for item in items]


@pytest.mark.parametrize(
    ("sizes", "fault"),
    [
        # larger than the limit: it goes last
        ([30_000, *[6] * 7], None),
        ([*[6] * 7, 30_000], None),
        # just below it: they save up one after another
        ([15_000, 15_000, *[6] * 6], None),
        ([23_900, *[6] * 60], None),
        ([15_000] * 12, None),
        ([15_000, 60] * 20, None),
        ([15_000, *[200] * 19] * 10, None),
        # the server is gone for a while
        ([16_000, *[6] * 40], (4.0, 12.0)),
        ([16_000, 16_000, *[6] * 30], (5.0, 60.0)),
    ],
    ids=["larger first", "larger last", "two below", "one below", "all large", "half large", "mixed", "outage", "long outage"],
)
async def test_it_is_right_within_a_fifth_while_large_rows_save_up(sizes: list[int], fault: tuple[float, float] | None) -> None:
    server = Weighed(service=(0.2, 0.5), fault=within(*fault, REFUSED) if fault else lambda _item, _since: None)
    world = Timed(server, per_minute={"tpm": 6000.0})
    end = await world.all(len(sizes), weighed(sizes))
    at_its_end = max((since for _, since, _, outage in world.told if outage), default=0.0)
    # nobody can tell an outage before it has begun
    seen = [told for told in world.told if told[3] or told[1] > at_its_end]
    some = [told for told in seen if told[0] >= len(sizes) / 10 and told[1] < end - 2]
    assert len(some) > 10
    for _, since, guess, outage in some:
        # in an outage, the time from its end on is told
        assert guess == pytest.approx(end - max(since, at_its_end) if outage else end - since, rel=0.2, abs=1)


def within(begin_s: float, end_s: float, error: AttemptError) -> Any:
    return lambda _item, since: error if begin_s <= since < end_s else None


@pytest.mark.parametrize(
    ("rows", "service", "options"),
    [
        (2000, (0.5, 2.0), {"ceiling": 16, "tuned": False}),
        (800, (5.0, 30.0), {"ceiling": 8, "tuned": False}),
        (600, (0.5, 2.0), {"per_minute": {"rpm": 60.0}}),
        (100, (0.5, 20.0), {"per_minute": {"rpm": 6.0}}),
        (3000, (1.0, 6.0), {"per_minute": {"rpm": 600.0}}),
        # every answer has 150 tokens
        (1500, (0.5, 2.0), {"per_minute": {"tpm": 30_000.0}}),
        (2000, (0.5, 2.0), {"ceiling": 8, "tuned": False, "per_minute": {"rpm": 6000.0}}),
        (5000, (0.5, 2.0), {"ceiling": 64}),
    ],
    ids=["slots", "slow answers", "rpm", "few a minute", "rpm and slow answers", "tpm", "a limit that is not reached", "tuned"],
)
async def test_it_is_right_within_a_fifth(rows: int, service: tuple[float, float], options: dict[str, Any]) -> None:
    world = Timed(Server(service=service, seed=1), seed=1, **options)
    end = await world.all(rows)
    assert worst(world.told, rows, end) < 0.2


@pytest.mark.parametrize("times_s", [(130.0, 130.0), (100.0, 140.0)])
async def test_it_does_not_grow_while_a_few_long_answers_are_waited_for(times_s: tuple[float, float]) -> None:
    world = Timed(Server(service=times_s, seed=1), seed=1, ceiling=4, tuned=False)
    end = await world.all(12)
    after_the_first = [(since, guess) for settled, since, guess, _ in world.told if settled >= 4 and since < 0.95 * end]
    assert after_the_first
    for since, guess in after_the_first:
        assert guess == pytest.approx(end - since, abs=0.2 * end)
    guesses = [guess or 0.0 for _, guess in after_the_first]
    # from one look to the next it falls, but for what an answer that took longer than the others has shown
    assert max(later - earlier for earlier, later in pairwise(guesses)) < 0.2 * end


@pytest.mark.parametrize("seed", [1])
@pytest.mark.parametrize("options", [{"ceiling": 16, "tuned": False}, {"per_minute": {"rpm": 600.0}}, {"ceiling": 64}])
async def test_it_is_right_within_a_fifth_after_an_outage(options: dict[str, Any], seed: int) -> None:
    rows = 5000
    world = Timed(Server(fault=within(60, 300, REFUSED), seed=seed), seed=seed, **options)
    end = await world.all(rows)
    assert worst(world.told, rows, end, after_s=320) < 0.2
    # in the outage, the time from its end on is told
    at_its_end = next(since for _, since, _, outage in reversed(world.told) if outage)
    during = [guess for _, since, guess, outage in world.told if outage and since > 110]
    assert during
    for guess in during:
        assert guess == pytest.approx(end - at_its_end, rel=0.25)


async def test_a_long_pause_is_part_of_it() -> None:
    rows = 3000
    world = Timed(Server(), ceiling=16, tuned=False)
    async with anyio.create_task_group() as tasks:

        async def pause() -> None:
            await anyio.sleep(60)
            world.lane.pause(300, "429", asked=True)

        tasks.start_soon(pause)
        end = await world.all(rows)
    assert worst(world.told, rows, end, after_s=62) < 0.2


@pytest.mark.parametrize("seed", [1, 2])
async def test_rate_limits_that_only_refuse_are_part_of_it(seed: int) -> None:
    rows = 3000
    world = Timed(Server(slots=12, seed=seed), seed=seed)
    end = await world.all(rows)
    assert worst(world.told, rows, end) < 0.2
