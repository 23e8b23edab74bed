"""The lane: everything that decides when a request may be sent. One idea per file."""

from runner.engine.limits.headers import Kind
from runner.engine.limits.lane import Lane
from runner.engine.limits.lanes import Lanes, Limits

__all__ = ["Kind", "Lane", "Lanes", "Limits"]
