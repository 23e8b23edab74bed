"""An item while it is being processed: what its attempts share."""

from msgspec import Struct

from runner.admission import Standing
from runner.interfaces import Lane
from runner.model import Completion, HttpCall, Item


class Task(Struct):
    """An item while it is being processed."""

    item: Item
    call: HttpCall
    lane: Lane
    standing: Standing
    # the state of the provider in which ``call`` was encoded
    revision: int
    # the complete answer of the last attempt, whatever it counts as
    answer: Completion | None = None
    # the next attempt must use a new connection, because the last one was stale
    fresh: bool = False
