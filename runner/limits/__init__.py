"""The lane: everything that decides when a request may go out. One idea per file."""

from runner.limits.headers import Kind
from runner.limits.lane import Lane
from runner.limits.lanes import Lanes, Limits

__all__ = ["Kind", "Lane", "Lanes", "Limits"]
