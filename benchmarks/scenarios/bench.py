"""The options that every scenario receives in addition to its folder."""

import sys
from typing import NamedTuple

from benchmarks.gauge import Gauge


class Bench(NamedTuple):
    """How to measure."""

    timeline: bool
    outage_s: float
    workers: int = 0

    @property
    def options(self) -> tuple[str, ...]:
        """Options of every run."""
        return ("--workers", str(self.workers)) if self.workers else ()

    def show(self, gauge: Gauge, begin: float) -> None:
        """Print the timeline if the option asks for it."""
        if self.timeline:
            print(gauge.timeline(begin), file=sys.stderr, flush=True)
