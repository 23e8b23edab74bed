"""The lane: everything that decides when a request may go out. One idea per file."""

from runner.limits.lane import FixedLane
from runner.limits.pause import Pause
from runner.limits.rate import RequestRate

__all__ = ["FixedLane", "Pause", "RequestRate"]
