"""Reads a simulator's counts ten times a second, so that any interval can be looked at afterwards."""

import asyncio
import time
from bisect import bisect_left
from collections.abc import Callable
from contextlib import suppress
from statistics import linear_regression
from types import TracebackType
from typing import NamedTuple, Self

from benchmarks.process import Runner
from runner.simulator import Simulator, Stats

_EVERY_S = 0.1


class Reading(NamedTuple):
    """The counts at one moment of the monotonic clock."""

    at: float
    stats: Stats

    @property
    def admitted(self) -> int:
        """Requests that were let in."""
        return self.stats["requests"] - self.stats["refused"]

    @property
    def tokens(self) -> int:
        """Tokens that the limit was charged with."""
        return self.stats["input_tokens"] + self.stats["output_tokens"]


class Gauge:
    """Readings of one simulator, from entering to leaving."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._readings: list[Reading] = []

    async def __aenter__(self) -> Self:
        self._read()
        self._task = asyncio.create_task(self._go_on())
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._read()

    async def until(self, condition: Callable[[Stats], bool], process: Runner, timeout_s: float = 30.0) -> float:
        """Wait until the counts fulfil a condition, as long as the process works; the moment at which they did."""
        end = time.monotonic() + timeout_s
        while not condition(self._simulator.stats()):
            if not process.alive or time.monotonic() > end:
                raise RuntimeError(f"waited in vain; {'at work' if process.alive else 'ended'}: {process.log[-2000:]}")
            await asyncio.sleep(_EVERY_S / 5)
        return self._read().at

    def at(self, moment: float) -> Reading:
        """Give the first reading from a moment on, or the last of all."""
        place = bisect_left(self._readings, moment, key=lambda reading: reading.at)
        return self._readings[min(place, len(self._readings) - 1)]

    def in_flight(self, begin: float, end: float) -> float:
        """Mean number of answers under way in an interval."""
        first, last = self.at(begin), self.at(end)
        return (last.stats["in_flight_s"] - first.stats["in_flight_s"]) / (last.at - first.at)

    def per_second(self, begin: float, end: float, count: Callable[[Reading], int]) -> float:
        """By how much a count grew per second of an interval: the slope of the line of least squares.

        Between the first and the last reading, one large item at an edge would weigh two hundredths of half a minute.
        """
        inside = [reading for reading in self._readings if begin <= reading.at <= end]
        return linear_regression([reading.at - begin for reading in inside], [count(reading) for reading in inside]).slope

    def timeline(self, begin: float) -> str:
        """One line a second: mean in flight, requests let in, refused."""
        lines = ["second  in flight  let in  refused"]
        end = self._readings[-1].at
        second = 0
        while begin + second + 1 <= end:
            first, last = self.at(begin + second), self.at(begin + second + 1)
            refused = last.stats["refused"] - first.stats["refused"]
            mean = self.in_flight(begin + second, begin + second + 1)
            lines.append(f"{second:6}  {mean:9.1f}  {last.admitted - first.admitted:6}  {refused:7}")
            second += 1
        return "\n".join(lines)

    def _read(self) -> Reading:
        reading = Reading(time.monotonic(), self._simulator.stats())
        self._readings.append(reading)
        return reading

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(_EVERY_S)
            self._read()
