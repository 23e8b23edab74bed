"""Looks at batches until they have ended. The wait between two looks grows; errors of the provider do not end it."""

from runner.batches import BatchService, Remote, StoredBatch
from runner.durations import format_span
from runner.engine.batch.asking import ask
from runner.engine.batch.holding import FIRST_LOOK_S
from runner.engine.batch.shared import Shared
from runner.engine.batch.trouble import MOST_S, QUOTA
from runner.text import plural

SECOND_LOOK_S, GROWTH = 5.0, 1.4
"""Seconds from the first look to the second, and how the waits grow from then on, up to ``MOST_S``."""
GRACE_S = 600.0
"""Seconds for which a batch may be unknown to its provider: they forget some for a while, above all new ones."""
START_GRACE_S = 30.0
"""The same for one that this session has not seen yet: the key may be of another account."""
_QUOTA_CODES = (QUOTA, "token_limit_exceeded", "batch_queue_full", "enqueued_token_limit_exceeded")
_KEPT_MARGIN_S = 86_400.0
_SOON_S = 5 * 86_400.0


def elsewhere(service: BatchService, batch: StoredBatch) -> str | None:
    """Return where a batch was sent to, if that was with another key or to another address, and what to do: words."""
    if (service.account, service.base_url) == (batch.account, batch.base_url):
        return None
    theirs, ours = f"{batch.base_url} (key {batch.account})", f"{service.base_url} (key {service.account})"
    return (
        f"is not known at {ours}: it was sent to {theirs}. Go on with that key and address, then run `runner resume`; "
        "nothing of it is sent again"
    )


def is_unlisted(remote: Remote, now: float) -> bool:
    """Return True if a batch has ended with answers that the provider keeps, and does not list. now: seconds since the epoch."""
    kept = remote.kept_until is None or now < remote.kept_until
    return remote.phase == "ended" and remote.counts.done > 0 and not remote.results and kept


class Polling:
    """Looks at batches, and stores what it sees."""

    def __init__(self, shared: Shared) -> None:
        self._service, self._held, self._note = shared.service, shared.held, shared.told.note
        self._clock, self._stop, self._trouble = shared.rules.clock, shared.rules.stop, shared.trouble

    async def look(self, batch: StoredBatch) -> StoredBatch:
        """Look at a batch once, store what has changed, and plan the next look. Raises AttemptError."""
        assert batch.remote_id is not None
        remote = await ask(self._stop, self._service.look(batch.remote_id))
        self._trouble.over()
        return await self.seen(batch, remote)

    async def seen(self, batch: StoredBatch, remote: Remote) -> StoredBatch:
        """Store what a batch has become."""
        looks = self._held.looks[batch.id]
        looks.seen, looks.missing_since = True, None
        looks.faults = remote.faults or looks.faults
        values: dict[str, object] = {
            "word": remote.word or None,
            "done": remote.counts.done,
            "failed": remote.counts.failed,
            "expires_at": remote.expires_at or batch.expires_at,
            "kept_until": remote.kept_until or batch.kept_until,
        }
        if remote.phase == "ended" and not self._is_unlisted(batch, remote):
            ended_at = remote.ended_at or batch.ended_at or self._clock.wall()
            values |= {"state": "ended", "end": remote.end or "completed", "ended_at": ended_at, "results": remote.results}
            if remote.faults:
                values["error"] = _words(remote)
            if batch.state == "cancelling" and looks.cancel_asked_at is not None:
                self._held.cancels_s.append(max(0.0, self._clock.wall() - looks.cancel_asked_at))
        elif remote.phase == "cancelling" or looks.cancel_asked_at is not None:
            values["state"] = "cancelling"
        if values.get("state") == batch.state:
            del values["state"]
        changed = {name: value for name, value in values.items() if getattr(batch, name) != value}
        if changed:
            batch = await self._held.change(batch.id, **changed)
        self._held.look_next(batch.id, 0.0 if batch.state == "ended" else self._wait_s(looks.last_s))
        return batch

    def _is_unlisted(self, batch: StoredBatch, remote: Remote) -> bool:
        """Return True if a batch has ended with answers that the provider does not list yet: it is looked at until it does."""
        if not batch.waiting or not is_unlisted(remote, self._clock.wall()):
            return False
        looks = self._held.looks[batch.id]
        if not looks.told:
            looks.told = True
            answers = plural(remote.counts.done, "answer")
            self._note(
                f"batch {batch.id} has ended with {answers}, and {self._service.rules.vendor} does not say where they are: it is "
                f"asked until it does. If they do not come, `runner batches forget b{batch.id}` gives them up"
            )
        return True

    def _wait_s(self, last_s: float) -> float:
        grown = FIRST_LOOK_S if last_s <= 0 else SECOND_LOOK_S if last_s <= FIRST_LOOK_S else min(MOST_S, last_s * GROWTH)
        # many batches are not looked at in the same moment
        return grown * self._clock.random.uniform(0.9, 1.0)

    def is_lost(self, batch: StoredBatch) -> str | None:
        """Return why a batch that the provider does not know is not waited for any more, one sentence; None: it is.

        To be called when a look has found none.
        """
        looks, now = self._held.looks[batch.id], self._clock.monotonic()
        if looks.missing_since is None:
            looks.missing_since = now
        # the first looks come soon, then as seldom as any
        self._held.look_next(batch.id, self._wait_s(looks.last_s))
        grace_s = GRACE_S if looks.seen or self._is_new(batch) else START_GRACE_S
        if now - looks.missing_since < grace_s:
            return None
        vendor, name = self._service.rules.vendor, batch.remote_id
        rows = plural(batch.waiting, "row")
        if (places := elsewhere(self._service, batch)) is not None:
            return f"batch {batch.id} ({name}), in which {rows} wait, {places}"
        since = format_span(grace_s)
        if batch.state == "ended":
            return (
                f"{vendor} has not had all results of batch {batch.id} ({name}), in which {rows} wait, for {since}. If they were "
                f"deleted there, `runner batches forget b{batch.id}` gives them up; nothing is sent again"
            )
        return (
            f"{vendor} has not known batch {batch.id} ({name}), in which {rows} wait, for {since}. If the key "
            "belongs to another project now, go on with the old one; then run `runner resume`. Nothing of it is sent again"
        )

    def doubt_s(self) -> float | None:
        """Return after how many seconds it may be known whether this session has the account of an earlier one; None: it is."""
        sent = self._held.in_state("creating", "submitted", "cancelling", "ended")
        looks = [self._held.looks[one.id] for one in sent if elsewhere(self._service, one) is not None]
        next_at = min((one.next_at for one in looks if not one.seen), default=None)
        return None if next_at is None else max(0.0, next_at - self._clock.monotonic())

    def is_gone(self, batch: StoredBatch) -> bool:
        """Return True if the provider no longer keeps the results of a batch, by any clock."""
        kept = batch.kept_until
        return kept is not None and self._clock.wall() > kept + _KEPT_MARGIN_S

    def warn(self, batch: StoredBatch) -> str | None:
        """Return a sentence if the results of a batch are not kept for long any more."""
        kept, soon_s = batch.kept_until, min(_SOON_S, self._service.rules.kept_days * 86_400 / 2)
        if kept is None or not 0 < (left := kept - self._clock.wall()) < soon_s or batch.state in ("written", "uploading"):
            return None
        vendor = self._service.rules.vendor
        return f"{vendor} keeps the results of batch {batch.id} for {format_span(left)} more: fetch them before"

    def is_for_quota(self, batch: StoredBatch) -> bool:
        """Return True if a batch has failed because too much waits at the provider: the same file may be sent again later."""
        faults = self._held.looks[batch.id].faults
        return batch.end == "failed" and not batch.done and any(fault.code in _QUOTA_CODES for fault in faults)

    def _is_new(self, batch: StoredBatch) -> bool:
        """Return True for a batch that was made a moment ago."""
        return self._clock.wall() - (batch.submitted_at or 0.0) < GRACE_S


def _words(remote: Remote) -> str:
    fault = remote.faults[0]
    where = f"line {fault.line}: " if fault.line is not None else ""
    return f"{where}{fault.message or fault.code}"
