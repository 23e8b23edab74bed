r"""Sends one batch, a step at a time. Each step is in the store before its request and after it.

    written -> uploading --upload--> uploaded -> creating --create--> submitted

Where the end of an upload is not known, the file is looked for by its token, and uploaded only if it is not there. Where the end
of a creation is not known, the batch is looked for, several times, and created only if it is not there. Where batches have no
metadata, one that looks like it may be of somebody else: it is adopted only once its results have ids with our mark.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Literal, TypeAlias

from runner.batches import Remote, StoredBatch
from runner.engine.batch.asking import ask, ask_patiently
from runner.engine.batch.files import read_results
from runner.engine.batch.holding import FIRST_LOOK_S
from runner.engine.batch.polling import elsewhere, is_unlisted
from runner.engine.batch.shared import Shared
from runner.errors import AttemptError, ProviderError

SEEK_WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
"""Waits before a batch is looked for again whose creation may have come through: the request may still be on its way, and lists
may lag behind."""
SKEW_S = 900.0
"""Seconds by which the provider's clock may be behind ours."""
DAY_S = 86_400.0
"""The same where batches carry our token: older ones cost nothing but pages of a list, and clocks are set right at times."""
_LOOK_AGAIN_S = 60.0
_FEW = 1000

Step: TypeAlias = Literal["on", "wait", "sent", "lost"]
"""on: the next step can follow at once. wait: it is to be looked at later (``look_next``). sent: the provider has the batch.
lost: another account may have it."""


class Sending:
    """Sends batches. What an error means is decided by who calls ``step``."""

    def __init__(self, shared: Shared) -> None:
        self._service, self._store, self._held, self._folder = shared.service, shared.store, shared.held, shared.folder
        self._spending, rules, told = shared.spending, shared.rules, shared.told
        self._clock, self._stop, self._note = rules.clock, rules.stop, told.note
        # True while a request may not have come through: what fails then tells nothing about it
        self.seeking = False

    async def step(self, batch: StoredBatch) -> Step:
        """Do the next step of a batch. Raises AttemptError; then its state says what is not known."""
        looks = self._held.looks[batch.id]
        self.seeking = False
        match batch.state:
            case "written":
                await self._held.change(batch.id, state="uploading")
                looks.again = False
                return await self._upload(batch)
            case "uploading":
                if looks.again and (found := await ask(self._stop, self._service.find_upload(batch.token))) is not None:
                    await self._held.change(batch.id, state="uploaded", upload_id=found)
                    return "on"
                return await self._upload(batch)
            case "uploaded":
                mine = {"account": self._service.account, "base_url": self._service.base_url}
                await self._held.change(batch.id, state="creating", submitted_at=self._clock.wall(), **mine)
                looks.again, looks.sought = False, 0
                return await self._create(batch)
            case "creating":
                self.seeking = looks.again
                return await self._sought(batch) if looks.again else await self._create(batch)
        return "sent"

    async def _upload(self, batch: StoredBatch) -> Step:
        looks = self._held.looks[batch.id]
        looks.again = True
        upload_id = await ask(self._stop, self._service.upload(self._folder.requests(batch.token), batch.token))
        await self._held.change(batch.id, state="uploaded", upload_id=upload_id)
        return "on"

    async def _create(self, batch: StoredBatch) -> Step:
        self._held.looks[batch.id].again = True
        create = self._service.create(self._folder.requests(batch.token), batch.upload_id, batch.token)
        await self.adopt(batch, await ask_patiently(self._stop, create))
        return "sent"

    async def adopt(self, batch: StoredBatch, remote: Remote) -> None:
        """Take a batch at the provider for this one."""
        await self._held.change(
            batch.id,
            state="submitted",
            remote_id=remote.id,
            word=remote.word or None,
            error=None,
            expires_at=remote.expires_at,
            kept_until=remote.kept_until,
        )
        looks = self._held.looks[batch.id]
        looks.again = False
        self._held.look_next(batch.id, FIRST_LOOK_S)

    # -- a batch that may have been created

    async def _sought(self, batch: StoredBatch) -> Step:
        """Look for a batch that may have been created."""
        looks = self._held.looks[batch.id]
        # our clock may have been fast then, and be right now
        since = min(batch.submitted_at or batch.created_at, self._clock.wall()) - (
            SKEW_S if self._service.rules.marked else DAY_S
        )
        found = await ask(self._stop, self._service.find(batch.token, batch.rows, since))
        ours = [remote for remote in found if remote.token == batch.token]
        if ours:
            # the newest; one that failed before is of an earlier try, for which there was no room
            first, *others = sorted(ours, key=_rank)
            await self.adopt(batch, first)
            await self._cancel_repeated(batch, [other for other in others if other.phase != "ended"])
            return "sent"
        alike = [remote for remote in found if remote.token is None and remote.id not in looks.others]
        known = await self._store.known([remote.id for remote in alike]) if alike else ()
        maybe = [remote for remote in alike if remote.id not in known]
        if maybe:
            return await self._alike(batch, maybe)
        if looks.sought < len(SEEK_WAITS_S):
            self._held.look_next(batch.id, SEEK_WAITS_S[looks.sought])
            looks.sought += 1
            return "wait"
        if elsewhere(self._service, batch) is not None:
            # with the key that it was sent with it may be found
            return "lost"
        if batch.waiting == 0:
            # its rows are sent elsewhere by now
            self._spending.give_back(batch)
            await self._held.refuse(batch.id, "it was not created in time")
            return "on"
        await self._held.change(batch.id, state="uploaded", submitted_at=None)
        return "on"

    async def _cancel_repeated(self, batch: StoredBatch, others: Sequence[Remote]) -> None:
        """Cancel batches that something on the way has made by sending the request again."""
        for other in others:
            self._note(f"batch {batch.id} was created more than once on the way to the provider: {other.id} is cancelled there")
            await ask(self._stop, self._service.cancel(other.id))

    async def _alike(self, batch: StoredBatch, maybe: Sequence[Remote]) -> Step:
        """Find ours among batches that look like it, by their results; those that still run are waited for."""
        looks, now = self._held.looks[batch.id], self._clock.wall()
        running = [remote for remote in maybe if remote.phase != "ended" or is_unlisted(remote, now)]
        for remote in maybe:
            if remote in running:
                continue
            if await self._has_ours(batch, remote):
                await self.adopt(batch, remote)
                return "sent"
            looks.others.add(remote.id)
        if not running:
            return "on"
        if not looks.told:
            looks.told = True
            words = f"batch {batch.id} may have been created before the last session ended: "
            self._note(f"{words}it is known once {running[0].id} has ended, and is not sent a second time before")
        self._held.look_next(batch.id, _LOOK_AGAIN_S)
        return "wait"

    async def _has_ours(self, batch: StoredBatch, remote: Remote) -> bool:
        """Return True if results are for requests of a batch: their ids carry its mark. Without results nothing was paid."""
        for source in remote.results:
            path = self._folder.results(batch.token, 0)
            await self._folder.clear(batch.token, results_only=True)
            await self._folder.make()
            await ask(self._stop, self._service.download(source, path))
            try:
                results = read_results(self._service, path)
                while names := [one.custom_id for one in islice(results, _FEW)]:
                    # one will do: others may not have been asked for
                    if await self._store.rows_of(batch.id, [name for name in names if name is not None]):
                        return True
            finally:
                await self._folder.clear(batch.token, results_only=True)
        return False


def _rank(remote: Remote) -> tuple[bool, float]:
    """Return what orders the batches of one token: first what is not refused, then what is newer."""
    return remote.end == "failed" and not remote.counts.done, -(remote.created_at or 0.0)


_REFUSALS = frozenset({400, 401, 402, 403, 404, 405, 413, 415, 422, 429})
"""Statuses with which nothing was done. Others may come from something on the way that has passed the request on."""


def is_certain(error: AttemptError) -> bool:
    """Return True if an error shows that nothing was created: the request never came, or was refused as it is."""
    return not error.sent or (isinstance(error, ProviderError) and error.status in _REFUSALS)
