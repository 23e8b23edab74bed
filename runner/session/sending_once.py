"""Sends requests that several rows make once (``--dedupe``), and gives the other rows the outcome.

The input is read in rounds. In each, one row of each such request goes out. The others get its outcome in the next round, when
all that was given out is saved. So nothing has to be kept of rows that wait, and after a kill the store tells what is known.
"""

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from itertools import islice

import anyio
from anyio import to_thread
from msgspec import structs

from runner.engine.giving_up import CANCELLED
from runner.inputs.keys import asks_the_same, keyed
from runner.inputs.prompts import make_item
from runner.inputs.same_requests import MOST_SENT, SameRequests
from runner.inputs.source import Selection
from runner.interfaces import Items
from runner.model import Item, Outcome, Row
from runner.session.prepare import Plan
from runner.session.spelling import OF_THE_ROW
from runner.several import key_of, number_of
from runner.store.shared import Bought, SharedAnswers

_AT_ONCE = 100
"""Outcomes that are read for other rows at once."""
_BATCH = 1_000


class SendingOnce:
    """The rows of one session."""

    def __init__(self, plan: Plan, same: SameRequests, opened: Callable[[], SharedAnswers]) -> None:
        self._plan, self._same, self._opened = plan, same, opened
        self._selection, self._first = Selection(), True
        # rows of the last round wait for the outcomes of others
        self.waiting = False
        # a round may end before all its rows have outcomes, since they wait in batches: then a later one has what came back open
        self.repeats = False
        # hashes of the keys of rows that have failed in this session, where such rows would be read again
        self._failed: set[int] = set()
        # rows with an earlier answer that have been given out, with their places; failures of such rows that are those of the
        # others too: the store does not have them, since a row keeps its answer
        self._given: dict[str, int] = {}
        self._kept: dict[int, Outcome] = {}
        # of a retry: places whose answer is one that it has bought; any other is none for a row that has one, too
        self._anew: set[int] = set()
        # by key: places and positions of rows that a person has sent again, whatever round it is, until they have an outcome
        self._beside: dict[str, tuple[int, int]] = {}

    def saved(self, outcomes: Sequence[Outcome]) -> None:
        """Record that outcomes have been saved."""
        if self._beside:
            for one in outcomes:
                self._beside.pop(one.key, None)
        if not (self._selection.retries or self._selection.accept_changes):
            return
        for one in outcomes:
            place = self._given.pop(one.key, None)
            if one.status == "failed":
                self._failed.add(hash(one.key))
                if place is not None and one.kept and self._is_last(place, one.error_code, has_text=one.completion is not None):
                    self._kept[place] = one

    async def items(self, selection: Selection, read: Callable[[Selection, bool], Items]) -> AsyncGenerator[Item | Outcome, None]:
        """Yield what is to be done in the next round, with the outcomes of rows that get them from others.

        read: returns what is to be done, row by row; True: for the first time, so that the rows count. A round must be over, and
        all of it saved, before the next begins.
        """
        self._selection, first = selection, self._first
        self._first = self.waiting = False
        now = selection if first else structs.replace(selection, fresh=False, may_hold_broken=False)
        shared = self._opened()
        try:
            if not now.fresh:
                await self._look(shared, first=first)
            async with aclosing(self._round(read(now, first), shared, first=first)) as candidates:
                async for candidate in candidates:
                    self.waiting = self.waiting or candidate is None
                    if candidate is not None:
                        yield candidate
        finally:
            with anyio.CancelScope(shield=True):
                await shared.close()

    async def _round(self, items: Items, shared: SharedAnswers, *, first: bool) -> AsyncGenerator[Item | Outcome | None, None]:
        """Read all rows once. None stands for a row that waits for the outcome of another one."""
        known: list[tuple[Item, int]] = []
        states = self._same.states
        async with aclosing(items) as candidates:
            async for candidate in candidates:
                place = self._place(candidate) if isinstance(candidate, Item) else None
                if place is None or not isinstance(candidate, Item):
                    if first or self.repeats:
                        yield candidate
                elif states[place] > 0 and self._is_new(candidate, place):
                    known.append((candidate, states[place]))
                elif states[place] < 0:
                    yield None
                elif hash(candidate.key) not in self._failed and (next_one := self._next(candidate, place)) is not None:
                    yield next_one
                if len(known) >= _AT_ONCE:
                    for outcome in await self._outcomes(shared, known):
                        yield outcome
                    known = []
        for outcome in await self._outcomes(shared, known) if known else ():
            yield outcome

    def _is_new(self, item: Item, place: int) -> bool:
        """Return True if the answer of a place is one that a row can get: a retry leaves no row with an answer from before."""
        return not (self._selection.retries and item.answered) or place in self._anew

    def refusal(self, item: Item) -> str | None:
        """Return why a row that failed cannot be sent again now: others make the same request. None: it can."""
        state = self._same.states[place] if (place := self._place(item)) is not None else 0
        if state < 0 and state != -item.position:
            return "another row with the same request is being sent"
        return "another row with the same request has its outcome already; `runner retry` asks again" if state > 0 else None

    def goes(self, item: Item) -> None:
        """Record that a row is sent again, for all with its request."""
        if (place := self._place(item)) is not None:
            self._same.states[place], self._beside[item.key] = -item.position, (place, item.position)
            self._same.sent[place] = min(self._same.sent[place] + 1, MOST_SENT)

    def _next(self, item: Item, place: int) -> Item | Outcome | None:
        """Return a row to be sent for all with its request, or the failure that it shares; None if it is left as it is."""
        states, sent, failure = self._same.states, self._same.sent, self._kept.get(place)
        if failure is not None:
            return _alike(item, failure)
        if sent[place] >= MOST_SENT and not self.repeats:
            return None
        states[place], sent[place] = -item.position, min(sent[place] + 1, MOST_SENT)
        if item.answered:
            self._given[item.key] = place
        return item

    async def _outcomes(self, shared: SharedAnswers, known: Sequence[tuple[Item, int]]) -> list[Outcome]:
        """Return the outcomes that rows get from others. A row that has failed in this session does not fail once more."""
        found = await shared.given(known)
        return [one for one in found if one.status == "done" or hash(one.key) not in self._failed]

    def _place(self, item: Item) -> int | None:
        return self._same.place(item.request, number_of(item.key))

    async def _look(self, shared: SharedAnswers, *, first: bool) -> None:
        """Look which requests have an outcome in the store, and let those that failed for no reason of their own go out again."""
        asked = self._asked()
        before = self._same.states[:]
        for place, state in enumerate(before):
            self._same.states[place] = max(state, 0)
        while batch := await to_thread.run_sync(lambda: list(islice(asked, _BATCH))):
            rows = {key: (row, place) for key, row, place in batch}
            for bought in await shared.outcomes(list(rows)):
                row, place = rows[bought.key]
                # the answer of a row that has changed since is none to this request
                if asks_the_same(row, bought.fingerprint):
                    self._take(place, bought, before[place], first=first)
            for key, position, fingerprint in await shared.in_batches(list(rows)):
                row, place = rows[key]
                if asks_the_same(row, fingerprint):
                    # it is out
                    self._same.states[place] = -position
        for place, position in self._beside.values():
            # it is out, or goes out with this round: what the store has of it is from before
            self._same.states[place] = -position

    def _take(self, place: int, bought: Bought, before: int, *, first: bool) -> None:
        states, retries = self._same.states, self._selection.retries
        if retries and bought.again:
            return
        if bought.status == "done":
            if bought.anew or place not in self._anew:
                states[place] = bought.entry
            if bought.anew:
                self._anew.add(place)
            return
        here = before < 0 and bought.position == -before
        if here and bought.error_code == CANCELLED and self._same.sent[place]:
            self._same.sent[place] -= 1
        if states[place] or not (here or (first and not retries)):
            return
        if self._is_last(place if here else None, bought.error_code, has_text=bought.has_text):
            states[place] = bought.entry

    def _is_last(self, place: int | None, error_code: str | None, *, has_text: bool) -> bool:
        """Return True if a failure is that of all rows with the request. place: None if it is of an earlier session."""
        if error_code == CANCELLED:
            # somebody has given up that row, and not the others
            return False
        return error_code in OF_THE_ROW or has_text or (place is not None and self._same.sent[place] >= MOST_SENT)

    def _asked(self) -> Iterator[tuple[str, Row, int]]:
        """Yield the rows that make such requests, each with the key of an answer and its place."""
        plan, before = self._plan, self._plan.scanned.before
        rows = keyed(plan.prompts.read(), plan.scanned.repeated, before.identical)
        for key, row in islice(rows, self._selection.limit):
            made = make_item(row, key, plan.template)
            place = self._same.place(made.request, 1) if isinstance(made, Item) else None
            if place is not None:
                yield from ((key_of(key, number + 1), row, place + number) for number in range(plan.answers))


def _alike(item: Item, failure: Outcome) -> Outcome:
    """Return the failure of a row that another row with the same request had: nothing was sent for it."""
    return structs.replace(
        failure,
        key=item.key,
        position=item.position,
        metadata=item.metadata,
        fingerprint=item.fingerprint,
        attempt=None,
        booked=False,
        attempts=item.attempts_before,
        kept=item.answered,
        same_as=failure.key,
    )
