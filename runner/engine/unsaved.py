"""What attempts hold until they are saved: a permit, and their part of a budget. A kill loses no more requests than that."""

from collections.abc import Callable

from runner.admission import Permit, Reservation
from runner.engine.admitting import Admitting
from runner.engine.task import Share, Task
from runner.interfaces import Lane
from runner.model import Attempt, Entry


class Unsaved:
    """The attempts that have begun and are not saved yet, by key and number."""

    def __init__(self, admitting: Admitting) -> None:
        self._admitting = admitting
        self._held: dict[tuple[str, int], tuple[Lane, Permit, Reservation | None, Share | None]] = {}
        # those that were made of an answer that came late, with what is told when they are saved
        self._late: dict[tuple[str, int], Callable[[bool], None]] = {}

    def __bool__(self) -> bool:
        """Return True if there are such attempts."""
        return bool(self._held)

    def hold(self, task: Task, permit: Permit) -> None:
        """Record that an attempt begins."""
        self._held[task.item.key, task.standing.number] = task.lane, permit, task.reserved, task.share
        task.share = None

    def came(self, attempt: Attempt, used: Callable[[bool], None]) -> None:
        """Record an attempt of an answer that came late. It holds nothing. used: called with True when it has been saved."""
        self._late[attempt.key, attempt.number] = used

    def saved(self, entry: Entry) -> None:
        """Release the permit of an attempt that has been saved."""
        attempt = entry if isinstance(entry, Attempt) else entry.attempt
        if attempt is None:
            return
        key = attempt.key, attempt.number
        if (held := self._held.pop(key, None)) is not None:
            lane, permit, reserved, share = held
            lane.release(permit, attempt)
            if share is not None:
                share.end()
            if reserved is not None:
                self._admitting.settle(reserved, attempt)
        elif (used := self._late.pop(key, None)) is not None:
            self._admitting.spend(attempt)
            used(True)
