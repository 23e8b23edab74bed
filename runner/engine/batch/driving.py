"""Takes one batch a step further, whatever its state is, and decides what follows from an error."""

import re

from runner.batches import StoredBatch
from runner.engine.batch.asking import ask
from runner.engine.batch.giving_back import GivingBack
from runner.engine.batch.holding import FIRST_LOOK_S
from runner.engine.batch.importing import SHORT_WAITS_S, Importing
from runner.engine.batch.polling import Polling, elsewhere
from runner.engine.batch.sending import Sending, is_certain
from runner.engine.batch.shared import Shared
from runner.engine.batch.submitting import Submitting
from runner.engine.batch.trouble import NOT_FOUND, UNSUPPORTED, Means
from runner.errors import AttemptError, ProviderError
from runner.text import plural

SENDING = ("written", "uploading", "uploaded", "creating")
FULL_S = 60.0
"""Seconds after which a full queue of the provider is tried again, if none of the batches ends before."""
_FULL_OFTEN = 3
_WAIT_FOR_BUDGET_S = 5.0
_FILE = re.compile(r"\bno such file\b|\bfile\b.*\b(?:not found|does not exist|deleted|expired)\b", re.IGNORECASE)
_FRUITLESS_OFTEN = 2
_LONGEST_PAUSE_S = 3_600.0


class Driving:
    """Drives batches. One task at a time calls it."""

    def __init__(self, shared: Shared, submitting: Submitting, importing: Importing) -> None:
        self._service, self._held, self._folder = shared.service, shared.held, shared.folder
        self._submitting, self._importing = submitting, importing
        self._trouble, self._spending = shared.trouble, shared.spending
        self._rules, self._note, self._further = shared.rules, shared.told.note, shared.further
        self._sending = Sending(shared)
        self.polling = Polling(shared)
        self.back = GivingBack(shared, submitting, importing)
        # how often in a row the queue was full with no batch of ours in it
        self._full = 0
        # and how often in a row a batch came back without any row that is settled
        self._fruitless = 0

    async def step(self, batch: StoredBatch) -> None:
        """Take a batch as far as it goes without a wait. Raises StoreError."""
        try:
            if batch.state in SENDING:
                await self._send(batch)
            elif batch.state == "ended":
                await self._import(batch)
            elif (await self.polling.look(batch)).state == "ended":
                await self._import(self._held.by_id[batch.id])
        except AttemptError as error:
            await self.met(batch.id, error)
        except FileNotFoundError as error:
            if (batch := self._held.by_id[batch.id]).state not in SENDING:
                raise self._folder.full(error) from error
            # of requests: somebody has deleted it, and nothing was sent
            await self.back.give_back(batch, "its file of requests is gone")
        if self._trouble.takes_none:
            # what was begun is not sent
            await self._submitting.undo()

    async def cancel(self, batch: StoredBatch) -> None:
        """Ask the provider to cancel a batch; one that was not made there is deleted. Raises AttemptError, StoreError."""
        if batch.state in ("writing", "written", "uploading", "uploaded"):
            self._submitting.abandon(batch.id)
            await self.back.give_back(batch, "it was cancelled before it was sent")
        elif batch.remote_id is not None and batch.state == "submitted":
            remote = await ask(self._rules.stop, self._service.cancel(batch.remote_id))
            looks = self._held.looks[batch.id]
            # what has begun to end is looked at soon
            looks.cancel_asked_at, looks.last_s = self._rules.clock.wall(), 0.0
            await self.polling.seen(batch, remote)

    def due_at(self, batch: StoredBatch) -> float:
        """Return when the next step of a batch may be made, by the monotonic clock."""
        next_at, full = self._held.looks[batch.id].next_at, self._held.full_until
        return next_at if full is None or batch.state not in ("written", "uploaded") else max(next_at, full)

    # -- sending

    async def _send(self, batch: StoredBatch) -> None:
        if batch.state != "creating" and (doubt_s := self.polling.doubt_s()) is not None:
            # first it has to be known that this account is that of the batches that are out
            self._held.look_next(batch.id, max(FIRST_LOOK_S, doubt_s))
            return
        if batch.state == "written" and not await self._affords(batch):
            return
        while batch.state in SENDING:
            step = await self._sending.step(batch)
            if step == "lost":
                begin = f"batch {batch.id}, in which {plural(batch.waiting, 'row')} wait and which may have been created,"
                self._trouble.stop_for(f"{begin} {elsewhere(self._service, batch)}.", code=NOT_FOUND)
            if step in ("wait", "lost"):
                return
            if batch.id not in self._held.by_id:
                return
            batch = self._held.by_id[batch.id]
        self._trouble.over()
        self._held.full_until = None

    async def _affords(self, batch: StoredBatch) -> bool:
        """Hold what a batch can use of the budget. False: it has to wait for other batches, or the budget is reached."""
        hour = self._submitting.hour_bounds.get(batch.id, 0)
        if self._spending.take(batch, hour):
            self._submitting.affordable = None
            return True
        if any(other.state not in ("writing", "written") for other in self._held.by_id.values()):
            # what these do not use comes back
            self._held.look_next(batch.id, _WAIT_FOR_BUDGET_S)
            return False
        if batch.rows > 1:
            # a smaller file, for as many rows as there is room for
            self._submitting.affordable = max(1, min(self._spending.rows(batch, hour), batch.rows - 1))
            self._submitting.again = True
            await self.back.give_back(batch, "the budget has no room for it")
            return False
        await ask(self._rules.stop, self._spending.wait(batch, hour))
        return self._spending.take(batch, hour)

    # -- importing

    async def _import(self, batch: StoredBatch) -> None:
        """Fetch and import the results of a batch that has ended."""
        looks = self._held.looks[batch.id]
        if looks.short or (batch.end == "failed" and not looks.faults):
            # there may be more results by now; and faults are not stored
            batch = await self.polling.look(batch)
        if self.polling.is_for_quota(batch):
            await self._queue_again(batch)
            return
        self._held.full_until, self._full = None, 0
        paths, failure = await self._importing.fetch(batch)
        rows = batch.waiting
        if failure is not None:
            await self._importing.whole(batch, paths, partly=True)
            raise failure
        self._trouble.over()
        if (returned := await self._importing.whole(batch, paths)) is not None:
            if self._further:
                self._pause(fruitless=rows > 0 and returned == rows)
            if batch.end == "failed" and not batch.done:
                self.back.failed(batch, named=any(fault.line is not None for fault in looks.faults))
            else:
                self.back.taken()
        elif not self._rules.stop.requested:
            await self._folder.clear(batch.token, results_only=True)
            self._held.look_next(batch.id, SHORT_WAITS_S[min(looks.short, len(SHORT_WAITS_S)) - 1])

    def _pause(self, *, fruitless: bool) -> None:
        """Send nothing for a while if batches come back one after the other without any row that is settled."""
        self._fruitless = self._fruitless + 1 if fruitless else 0
        if self._fruitless >= _FRUITLESS_OFTEN:
            pause_s = min(_LONGEST_PAUSE_S, FULL_S * 2.0 ** (self._fruitless - _FRUITLESS_OFTEN))
            self._held.full_until = self._rules.clock.monotonic() + pause_s

    # -- errors

    async def met(self, number: int, error: AttemptError) -> None:
        """Decide what follows from an error at a batch."""
        batch, looks = self._held.by_id[number], self._held.looks[number]
        if error.code == UNSUPPORTED and self._is_not_made(batch, error) and self._trouble.goes_live(str(error)):
            await self.back.give_back(batch, str(error))
            return
        means: Means = "again" if self._lacks_its_file(batch, error) else self._trouble.means(error, batch.model)
        if self._lacks_its_file(batch, error):
            await self._held.change(number, state="uploaded", submitted_at=None)
            await self._held.change(number, state="uploading", upload_id=None)
            looks.again, looks.reuploaded = True, True
            return
        if batch.state == "creating" and is_certain(error) and not self._sending.seeking and means not in ("refused", "smaller"):
            # it was not created, so nothing has to be looked for
            batch = await self._held.change(number, state="uploaded", submitted_at=None)
            looks.again = False
        wait_s = self._trouble.wait_s(error, looks.last_s)
        match means:
            case "stop":
                return
            case "full":
                await self._is_full(batch, error)
            case "smaller":
                await self.back.split(batch, "is too large for the provider")
            case "unknown" if batch.remote_id is not None:
                await self._unknown(batch)
            case "refused" if self._is_not_made(batch, error):
                await self.back.refused(batch, str(error))
            case "refused" if batch.state == "creating" and self._sending.seeking:
                # its rows must not be sent elsewhere
                self._trouble.stop(error, batch.model)
            case _:
                self._held.look_next(number, wait_s)

    def _is_not_made(self, batch: StoredBatch, error: AttemptError) -> bool:
        """Return True if a batch cannot be at the provider after an error."""
        return batch.state in SENDING and (batch.state != "creating" or (is_certain(error) and not self._sending.seeking))

    def _lacks_its_file(self, batch: StoredBatch, error: AttemptError) -> bool:
        """Return True if a batch is not created since its uploaded file is gone: deleted before a kill, or too old."""
        gone = isinstance(error, ProviderError) and error.status in (400, 404) and _FILE.search(str(error)) is not None
        creating = batch.state == "creating" and batch.upload_id is not None and not self._sending.seeking
        return gone and creating and not self._held.looks[batch.id].reuploaded

    async def _unknown(self, batch: StoredBatch) -> None:
        """Decide what becomes of a batch that the provider does not know."""
        if self.polling.is_gone(batch):
            words = f"{self._service.rules.vendor} no longer keeps its results"
            rows = batch.waiting
            self._note(f"batch {batch.id}: {words}; its {plural(rows, 'row')} may have been billed, and are open again")
            await self._held.give_up(batch.id, words)
            await self._folder.clear(batch.token)
        elif (sentence := self.polling.is_lost(batch)) is not None:
            self._trouble.stop_for(f"{sentence}.", code=NOT_FOUND)

    async def _is_full(self, batch: StoredBatch, error: AttemptError) -> None:
        """Wait for room in the provider's queue: until a batch ends, or for a while."""
        hint_s = error.retry_after_s if isinstance(error, ProviderError) else None
        wait_s = max(FULL_S, hint_s or 0.0)
        self._held.full_until = self._rules.clock.monotonic() + wait_s
        self._held.look_next(batch.id, 0.0)
        if any(other.state in ("submitted", "cancelling") for other in self._held.by_id.values()):
            return
        # nothing of this run is in it: others fill it, or this batch alone is too much
        self._full += 1
        if self._full % _FULL_OFTEN == 0 and batch.rows > 1:
            await self.back.split(batch, "does not fit into what may wait at the provider")
        elif self._full == 1:
            vendor, said = self._service.rules.vendor, self._rules.redactor(str(error)).rstrip(".")
            self._note(f"{vendor} takes no more for now ({said}): batches are sent as there is room")

    async def _queue_again(self, batch: StoredBatch) -> None:
        """Have a batch sent again, from the same file, that has failed because too much waits at the provider."""
        words = self._rules.redactor(batch.error or "its queue is full")
        batch = await self._held.change(
            batch.id, state="uploaded", remote_id=None, end=None, ended_at=None, results=(), submitted_at=None, word=None
        )
        self._held.looks[batch.id].faults = ()
        await self._is_full(batch, AttemptError(words, code="batch_quota"))
