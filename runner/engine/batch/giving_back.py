"""Ends batches that the provider does not take: their rows are open again, and their files are deleted, there and here.

Nothing of such a batch is billed. Before its uploaded file is deleted, it is ``uploading`` again: after a kill the next session
looks for the file, and uploads it only if it is gone.
"""

import re
from contextlib import suppress

from runner.batches import StoredBatch
from runner.engine.batch.asking import Stopped, ask
from runner.engine.batch.importing import Importing
from runner.engine.batch.shared import Shared
from runner.engine.batch.submitting import Submitting
from runner.errors import AttemptError
from runner.text import plural

_OFTEN, _FAULTY_OFTEN = 3, 20
"""Batches in a row that a provider may refuse for no named reason, and for one of their requests."""
_PLACE = re.compile(r"\brequests\.(\d+)\b")
"""How a refusal names the request of a batch that is at fault, counted from 0."""
_TOO_MANY = re.compile(
    r"\b(?:requests|lines|rows|records|file)\b[^.]*\b(?:maximum|at most|too (?:many|large|long)|exceeds?)\b"
    r"|\b(?:maximum|at most|too many|from \d+ to \d+)\b[^.]*\b(?:requests|lines|rows|records|batch)\b",
    re.IGNORECASE,
)
"""How a refusal says that a batch has too many requests, or bytes."""


class GivingBack:
    """Ends batches that are not taken."""

    def __init__(self, shared: Shared, submitting: Submitting, importing: Importing) -> None:
        self._service, self._held, self._folder = shared.service, shared.held, shared.folder
        self._submitting, self._importing = submitting, importing
        self._trouble, self._spending, self._rules, self._told = shared.trouble, shared.spending, shared.rules, shared.told
        # batches in a row that were refused
        self._refused = 0

    def taken(self) -> None:
        """Record that the provider has taken a batch."""
        self._refused = 0

    async def refused(self, batch: StoredBatch, words: str) -> None:
        """End a batch that is refused as it is. One request that is at fault fails; without one, the run stops."""
        found = _PLACE.search(words)
        if found is None and _TOO_MANY.search(words) is not None and batch.rows > 1:
            await self.split(batch, "is too large for the provider")
            return
        outcomes = await self._importing.faulty(batch, int(found[1]) + 1, words) if found is not None else []
        # first: what has failed must not be in a batch that may still be created
        await self.give_back(batch, words)
        if outcomes:
            await self._told.save(None, outcomes)
            self._held.settled_elsewhere(len(outcomes))
        self._refused += 1
        if not outcomes or self._refused >= _FAULTY_OFTEN:
            self._trouble.refused(self._words(batch, words))

    def failed(self, batch: StoredBatch, *, named: bool) -> None:
        """Judge a batch that has failed as a whole and is ended. named: the provider has named requests that are at fault."""
        self._refused += 1
        if not named and _TOO_MANY.search(batch.error or "") is not None and batch.rows > 1:
            self._submitting.most = max(1, batch.rows // 2)
        elif (batch.error is not None and not named) or self._refused >= (_FAULTY_OFTEN if named else _OFTEN):
            self._trouble.refused(self._words(batch, batch.error or "it gives no reason"))

    async def split(self, batch: StoredBatch, why: str) -> None:
        """End a batch that is too much, for smaller ones."""
        if batch.rows > 1:
            self._submitting.most = max(1, batch.rows // 2)
            self._told.note(f"batch {batch.id} of {plural(batch.rows, 'row')} {why}: smaller ones are made")
        await self.give_back(batch, why)
        if batch.rows <= 1:
            self._trouble.refused(f"a batch of one request {why}")

    async def give_back(self, batch: StoredBatch, why: str) -> None:
        """End a batch: its rows are open again."""
        self._submitting.hour_bounds.pop(batch.id, None)
        if batch.state not in ("writing", "written"):
            self._spending.give_back(batch)
        if batch.state in ("creating", "uploaded") and (upload_id := batch.upload_id) is not None:
            if batch.state == "creating":
                await self._held.change(batch.id, state="uploaded")
            batch = await self._held.change(batch.id, state="uploading", upload_id=None)
            # an upload that stays costs nothing
            with suppress(AttemptError, Stopped):
                await ask(self._rules.stop, self._service.forget(upload_id))
        if batch.state in ("writing", "written", "uploaded"):
            await self._held.drop(batch.id)
        else:
            await self._held.refuse(batch.id, self._rules.redactor(why))
        await self._folder.clear(batch.token)

    def _words(self, batch: StoredBatch, words: str) -> str:
        return f"{self._service.rules.vendor} refuses batch {batch.id} of {plural(batch.rows, 'request')}: {words}"
