"""Rows that a person gives up: an open request of one ends at once and is booked as cancelled, and the row has failed."""

from collections.abc import Iterator
from contextlib import contextmanager

from runner.engine.outcomes import failed
from runner.engine.task import Task
from runner.errors import AttemptError
from runner.interfaces import Decoder, Exchange
from runner.model import Attempt, Item, Outcome, Stage

CANCELLED = "cancelled_by_user"
"""Error code of such a row."""
WORDS = "cancelled while the session ran"


class GivingUp:
    """The rows that are at work, from the moment in which they could send until their outcomes are saved."""

    def __init__(self) -> None:
        self._at_work: dict[str, Task] = {}
        # keys of rows that fail as soon as they come
        self._ahead: set[str] = set()
        # rows that are sent again on request: the source may have read them too
        self._again: dict[str, Item] = {}
        # those who want to know which rows end while they look at the store
        self._lookers: list[set[str]] = []

    def begin(self, task: Task) -> None:
        """Take an item that is at work now."""
        self._at_work[task.item.key] = task

    def settled(self, key: str) -> None:
        """Forget an item whose outcome is saved, or that has none as the run stops."""
        self._at_work.pop(key, None)
        # it was given up once more while its outcome was being saved
        self._ahead.discard(key)
        for ended in self._lookers:
            ended.add(key)

    @contextmanager
    def endings(self) -> Iterator[set[str]]:
        """Give a set that gets the keys of the items that end from now on. What was read of one of them may be old."""
        ended = set[str]()
        self._lookers.append(ended)
        try:
            yield ended
        finally:
            # by what it is: two sets with the same keys are equal
            self._lookers = [one for one in self._lookers if one is not ended]

    def is_given_up(self, key: str) -> bool:
        """Return True for a row that was given up before it came. It counts once: it may be asked again."""
        if not self._ahead or key not in self._ahead:
            return False
        self._ahead.discard(key)
        return True

    def send_again(self, item: Item) -> None:
        """Have an item sent again, and no other with its key from the source."""
        self._ahead.discard(item.key)
        self._again[item.key] = item

    def comes_twice(self, item: Item) -> bool:
        """Return True for an item from the source that is, or was, sent again on request."""
        return bool(self._again) and self._again.get(item.key, item) is not item

    def at_work(self, key: str) -> bool:
        """Return True for an item that is at work."""
        return key in self._at_work

    def give_up(self, key: str) -> None:
        """Give up an item that is at work: its request, or its wait, ends at once."""
        self._at_work[key].give_up()

    def give_up_ahead(self, key: str) -> None:
        """Give up an item that has not come yet."""
        self._ahead.add(key)

    def take_back(self, key: str) -> None:
        """Have an item sent all the same when it comes."""
        self._ahead.discard(key)

    @property
    def ahead(self) -> bool:
        """True if a row that has not come yet was given up."""
        return bool(self._ahead)


def cut(*, sent: bool) -> AttemptError:
    """Return the error of an attempt whose row was given up. sent: the request may have reached the server."""
    return AttemptError(WORDS, code="cancelled", verdict="fail", sent=sent)


def is_cut(decoder: Decoder, exchange: Exchange) -> bool:
    """Return True if text may be missing of an answer whose request was ended; else it counts, and at most its tail is lost."""
    if decoder.stage < Stage.WHOLE:
        return True
    exchange.tail_lost = exchange.tail_lost or not decoder.ended
    return False


def given_up(task: Task, attempt: Attempt | None) -> Outcome | None:
    """Return the outcome of an item that was given up; None if it was not: the run stops. attempt: its last, if not yet saved."""
    return failed(task.item, task.standing.number, attempt, CANCELLED, WORDS) if task.given_up else None
