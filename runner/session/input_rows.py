"""The rows of an input, as a person names them while its session runs."""

import time
from collections.abc import Callable, Collection, Sequence
from itertools import islice

from runner.inputs.keys import keyed
from runner.inputs.prompts import make_item
from runner.model import Item, Outcome, Row
from runner.origin import position_of
from runner.session.prepare import Plan
from runner.session.row_steering import Found
from runner.session.sending_once import SendingOnce

_LOOK = 500
"""Rows after which the time is looked at."""


class InputRows:
    """The rows of the input of a plan. once: those that are sent once for several rows; None: none is.

    reopen: takes how many rows with an outcome are open again. begin: sends items.
    """

    def __init__(
        self,
        plan: Plan,
        once: SendingOnce | None,
        reopen: Callable[[int], None],
        begin: Callable[[Sequence[Item]], None],
    ) -> None:
        self._plan, self._once, self._reopen, self._begin = plan, once, reopen, begin
        self._template = plan.template
        # keys of rows that were sent again and have no outcome yet
        self.again = set[str]()

    @property
    def answers(self) -> int:
        """How many answers of each row are wanted."""
        return self._plan.answers

    def find(self, words: Collection[str], until: float) -> Found:
        """Look for rows by their ids or lines. Blocks. until: by the monotonic clock, when to give up."""
        plan, before = self._plan, self._plan.scanned.before
        lines = {at: word for word in words if (at := self._position(word)) is not None}
        sought, found, on_lines = set(words), dict[str, tuple[str, Row]](), dict[str, tuple[str, Row]]()
        rows = islice(keyed(plan.prompts.read(), plan.scanned.repeated, before.identical), plan.options.limit)
        for number, (key, row) in enumerate(rows):
            if key in sought:
                found[key] = key, row
                sought.discard(key)
                if not sought:
                    break
            if row.line in lines:
                on_lines[lines[row.line]] = key, row
            if number % _LOOK == 0 and time.monotonic() > until:
                return Found({**on_lines, **found}, "not found in time")
        return Found({**on_lines, **found}, "not among the rows that this session reads" if before.rows else "")

    def _position(self, word: str) -> int | None:
        """Return the position of a row that is named by its line; None if it is not."""
        if word.isascii() and word.isdecimal() and len(word) < _LONGEST:
            return int(word)
        return position_of(word, self._plan.prompts.files)

    def item(self, key: str, row: Row) -> Item | Outcome:
        """Return what is to be sent for one answer of a row."""
        return make_item(row, key, self._template)

    def refusal(self, item: Item) -> str | None:
        """Return why a row cannot be sent again now; None if it can."""
        return self._once.refusal(item) if self._once is not None else None

    def goes_again(self, key: str) -> bool:
        """Return True for a row that was sent again and has no outcome since. It may wait for its turn."""
        return key in self.again

    def send(self, items: Sequence[Item]) -> None:
        """Send rows again, at once. They have failed before, and count as open from now on."""
        for item in items:
            if self._once is not None:
                self._once.goes(item)
            self.again.add(item.key)
        self._reopen(len(items))
        self._begin(items)

    def saved(self, outcomes: Sequence[Outcome]) -> None:
        """Record that outcomes have been saved."""
        self.again.difference_update(one.key for one in outcomes)


_LONGEST = 16
