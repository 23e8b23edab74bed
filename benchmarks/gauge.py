"""Reads a simulator's counts ten times a second, so that any interval can be evaluated afterwards."""

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
    """The counts at one time of the monotonic clock."""

    at: float
    stats: Stats

    @property
    def admitted(self) -> int:
        """Requests that were admitted."""
        return self.stats["requests"] - self.stats["refused"]

    @property
    def tokens(self) -> int:
        """Tokens that were counted against the limit."""
        return self.stats["input_tokens"] + self.stats["output_tokens"]


class Gauge:
    """A context manager that reads the counts of one simulator as long as it is open."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._readings: list[Reading] = []

    async def __aenter__(self) -> Self:
        self._read()
        self._task = asyncio.create_task(self._keep_reading())
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._read()

    async def until(self, condition: Callable[[Stats], bool], process: Runner, timeout_s: float = 30.0) -> float:
        """Wait until the counts meet a condition; return that time. Raises RuntimeError if the process ends first."""
        end = time.monotonic() + timeout_s
        while not condition(self._simulator.stats()):
            if not process.alive or time.monotonic() > end:
                raise RuntimeError(
                    f"the condition was not met; process {'running' if process.alive else 'ended'}: {process.log[-2000:]}"
                )
            await asyncio.sleep(_EVERY_S / 5)
        return self._read().at

    def at(self, moment: float) -> Reading:
        """Return the first reading at or after a time, or the last of all."""
        index = bisect_left(self._readings, moment, key=lambda reading: reading.at)
        return self._readings[min(index, len(self._readings) - 1)]

    def in_flight(self, begin: float, end: float) -> float:
        """Return the mean number of answers in progress during an interval."""
        first, last = self.at(begin), self.at(end)
        return (last.stats["in_flight_s"] - first.stats["in_flight_s"]) / (last.at - first.at)

    def per_second(self, begin: float, end: float, count: Callable[[Reading], int]) -> float:
        """Return how much a count grew per second of an interval: the slope of a least-squares line.

        The difference of the first and last reading would shift by two hundredths over half a minute with one large item at an
        edge.
        """
        inside = [reading for reading in self._readings if begin <= reading.at <= end]
        return linear_regression([reading.at - begin for reading in inside], [count(reading) for reading in inside]).slope

    def timeline(self, begin: float) -> str:
        """Return a table, one line a second: mean in flight, requests admitted, requests refused."""
        lines = ["second  in flight  admitted  refused"]
        end = self._readings[-1].at
        second = 0
        while begin + second + 1 <= end:
            first, last = self.at(begin + second), self.at(begin + second + 1)
            refused = last.stats["refused"] - first.stats["refused"]
            mean = self.in_flight(begin + second, begin + second + 1)
            lines.append(f"{second:6}  {mean:9.1f}  {last.admitted - first.admitted:8}  {refused:7}")
            second += 1
        return "\n".join(lines)

    def _read(self) -> Reading:
        reading = Reading(time.monotonic(), self._simulator.stats())
        self._readings.append(reading)
        return reading

    async def _keep_reading(self) -> None:
        while True:
            await asyncio.sleep(_EVERY_S)
            self._read()
