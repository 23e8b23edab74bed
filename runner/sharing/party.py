"""A lane that shares its limits, with all that its run knows of that."""

from collections.abc import Callable
from typing import NamedTuple

from runner.engine.clock import Clock
from runner.engine.limits.shared_lane import SharedLane
from runner.sharing.hand import Hand


class Party(NamedTuple):
    """What is the same whoever serves. identity: of endpoint, model and key. name: of the run. tell: takes a sentence.

    failed: takes an error that nobody else catches, as in what the event loop calls; the lane then goes on by itself.
    """

    lane: SharedLane
    hand: Hand
    clock: Clock
    identity: str
    name: str
    tell: Callable[[str], None]
    failed: Callable[[Exception], None]
