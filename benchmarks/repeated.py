"""Measures several times, and prints the table of the medians."""

import os
import platform
from collections.abc import Callable

from benchmarks.process import say
from benchmarks.table import Figure, missed, render


def repeated(scenario: str, measure: Callable[[], list[Figure]], runs: int, about: str) -> int:
    """Measure so many times, and print the table; return 1 if a target is missed. about: what is measured, in one phrase."""
    every = []
    for number in range(1, runs + 1):
        every.append(measure())
        say(f"run {number}: {', '.join(f'{one.what} {one.text(one.value)}' for one in every[-1])}")
    where = f"Python {platform.python_version()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
    print(f"{where}, {about}, median of {runs}\n")
    print(render({scenario: every}))
    return int(missed(every))
