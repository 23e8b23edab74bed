"""Which requests of an input are still to be sent: one for each answer that is wanted of each row and has no outcome yet.

In an estimate, each answer of a row counts as a row: of three answers of a row, each may be drawn by itself. Of rows that make
the same request and of which one is sent (``--dedupe``), the first that is open stands for all: the others cost nothing.
"""

from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from pathlib import Path

from msgspec import Struct

from runner.config.job import Job
from runner.errors import BAD_ROW
from runner.inputs.keys import asks_the_same, keyed
from runner.inputs.prompts import Template, make_item
from runner.inputs.same_requests import SameRequests
from runner.inputs.scan import PromptFile, Scan
from runner.model import Item, Row
from runner.session.opening import template_of
from runner.session.options import SessionOptions
from runner.session.prepare import Plan
from runner.session.spelling import OF_THE_ROW
from runner.several import keys_of, number_of
from runner.store import samples
from runner.store.samples import RunSpent, Stored

_BATCH = 1_000


class ToSend(Struct, frozen=True, kw_only=True):
    """An input, and what its run holds.

    run: its number; None if it holds nothing. same: requests that several rows make and that are sent once. variant: the entry of
    the settings of the session; None: those of the run. taken: the keys of answers that are taken over from earlier runs before
    anything is sent, each with that run. chosen: of a retry, only the rows that it has chosen, which are in the store.
    """

    job: Job
    prompts: PromptFile
    scanned: Scan
    store: Path
    run: int | None
    options: SessionOptions = SessionOptions()
    same: SameRequests | None = None
    variant: int | None = None
    taken: Mapping[str, int] = {}
    chosen: bool = False

    def answers(self) -> Iterator[tuple[str, Row]]:
        """Yield each answer that is wanted: its key, and its row."""
        rows = keyed(self.prompts.read(), self.scanned.repeated, self.scanned.before.identical)
        number = self.job.answers or 1
        return ((one, row) for key, row in islice(rows, self.options.limit) for one in keys_of([key], number))

    def rows_of(self, keys: Collection[str]) -> Iterator[tuple[str, Row]]:
        """Yield the answers with these keys that are wanted, each with its row. The input is read as far as the last of them."""
        sought, answers = set(keys), self.answers()
        while sought and (one := next(answers, None)) is not None:
            if one[0] in sought:
                sought.discard(one[0])
                yield one

    def asked_again(self) -> Iterator[tuple[str, Row]]:
        """Yield what a retry has chosen and not asked again yet: keys of answers, each with its row."""
        for _, batch in self._batches():
            known = samples.stored(self.store, self.run, [key for key, _ in batch]) if self.run is not None else {}
            yield from ((key, row) for key, row in batch if key in known and known[key].again)

    def open(self) -> Iterator[tuple[int, Row]]:
        """Yield what is to be sent: the place of an answer among all, and its row."""
        return self._without_outcome() if self.same is None else self._sent_once(self.same)

    def so_far(self, run_id: int) -> RunSpent:
        """Return what a run has taken for the answers that are wanted; it may hold answers of other rows, and further ones."""
        options, job = self.options, self.job
        chosen = options.limit is not None or job.where is not None or job.sample is not None
        in_part = chosen or samples.has_further(self.store, run_id, job.answers or 1)
        return samples.so_far(self.store, run_id, (key for key, _ in self.answers()) if in_part else None)

    def number(self) -> int:
        """Return how many requests are to be sent."""
        return sum(1 for _ in self.open())

    def _without_outcome(self) -> Iterator[tuple[int, Row]]:
        for first, batch in self._batches():
            known = samples.settled_keys(self.store, self.run, [key for key, _ in batch]) if self.run is not None else ()
            yield from (
                (place, row) for place, (key, row) in enumerate(batch, first) if key not in known and key not in self.taken
            )

    def _sent_once(self, same: SameRequests) -> Iterator[tuple[int, Row]]:
        template = template_of(self.job)
        counted = self._bought(same, template) if self.run is not None or self.taken else bytearray(len(same.states))
        for first, batch in self._batches():
            known = samples.stored(self.store, self.run, [key for key, _ in batch]) if self.run is not None else {}
            for place, (key, row) in enumerate(batch, first):
                if key in self.taken or not self._is_open(row, known.get(key)):
                    continue
                request = _place(same, template, key, row)
                # an answer from before the retry is none for a row that has one, too
                replaces = self.chosen and known[key].status == "done"
                if request is None or counted[request] < 1 + replaces:
                    yield place, row
                if request is not None:
                    counted[request] = 2

    def _bought(self, same: SameRequests, template: Template) -> bytearray:
        """Return 1 for each request of which the store has an outcome that other rows get, by its place."""
        found = bytearray(len(same.states))
        for _, batch in self._batches():
            known = samples.stored(self.store, self.run, [key for key, _ in batch]) if self.run is not None else {}
            for key, row in batch:
                stored = known.get(key)
                gives = key in self.taken or (stored is not None and self._gives(row, stored))
                if gives and (request := _place(same, template, key, row)) is not None:
                    found[request] = 1
        return found

    def _batches(self) -> Iterator[tuple[int, list[tuple[str, Row]]]]:
        answers, first = self.answers(), 0
        while batch := list(islice(answers, _BATCH)):
            yield first, batch
            first += len(batch)

    def _is_open(self, row: Row, stored: Stored | None) -> bool:
        retries = self.options.retry_failed
        if self.chosen:
            return stored is not None and stored.again
        if stored is None or stored.error_code == BAD_ROW:
            return not retries or stored is not None
        changed = self.options.accept_changes and not asks_the_same(row, stored.fingerprint)
        return changed or (retries and stored.status == "failed")

    def _gives(self, row: Row, stored: Stored) -> bool:
        """Return True if other rows with the same request get this outcome, as ``SendingOnce`` gives it."""
        if (
            stored.same_as is not None
            or (self.chosen and stored.again)
            or stored.variant != self.variant
            or not asks_the_same(row, stored.fingerprint)
        ):
            return False
        final = stored.has_text or (stored.error_code in OF_THE_ROW and stored.error_code != BAD_ROW)
        return stored.status == "done" or (final and not self.options.retry_failed)


def of_plan(plan: Plan, *, settled: bool, variant: int | None = None) -> ToSend:
    """Return what a session has to send. settled: its run holds outcomes. variant: as in ``ToSend``."""
    return ToSend(
        job=plan.job,
        prompts=plan.prompts,
        scanned=plan.scanned,
        store=plan.given.store,
        run=plan.run.id if settled else None,
        options=plan.options,
        same=plan.same,
        variant=variant,
        chosen=plan.options.retry_failed,
    )


def _place(same: SameRequests, template: Template, key: str, row: Row) -> int | None:
    made = make_item(row, key, template)
    return same.place(made.request, number_of(key)) if isinstance(made, Item) else None
