"""What is seen of the batches of a session: by the policy of mixed runs, and by people."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from runner.batches import StoredBatch
from runner.config.job import Job
from runner.engine.batch.outlook import Flex, Live, Open, View
from runner.engine.batch.parts import Standing
from runner.engine.limits import Lanes
from runner.money import asks_for_flex
from runner.pace import BatchesPace
from runner.session.batch_words import word_of
from runner.session.stats import SessionStats
from runner.session.wiring import most_at_one, per_minute


def view(job: Job, standing: Standing, lanes: Lanes, stats: SessionStats, *, open_rows: int, flying: int) -> View:
    """Return what the policy is to see. Its deadline is still to be set."""
    rpm = per_minute(job).get("rpm")
    live = Live(
        rows_per_s=rpm / 60 if rpm is not None else None,
        slots=lanes.slots or None,
        most_slots=most_at_one(job),
        answer_s=stats.live.quantile(0.5),
        slowest_s=stats.live.quantile(0.95),
        flex=Flex() if asks_for_flex(job.tier, job.params.extra_body) else None,
    )
    return View(
        now=standing.now,
        deadline=None,
        began_at=standing.now,
        batches=[Open.of(batch, standing.cancel_asked_at.get(batch.id)) for batch in standing.batches],
        open=max(0, open_rows),
        flying=flying,
        live=live,
        returned=standing.returned,
        cancels=standing.cancels_s,
        submitting=standing.submitting,
    )


def pace(batches: Iterable[StoredBatch], returned: int) -> BatchesPace | None:
    """Return how the open batches stand; None if there are none and no row came back. returned: rows that came back open."""
    found = list(batches)
    if not found and not returned:
        return None
    sent = [one for one in found if one.remote_id is not None]
    more: dict[str, Any] = {"vendor": found[0].vendor} if found else {}
    return BatchesPace(
        open=len(found),
        states=dict(Counter(map(word_of, found))),
        waiting=sum(one.waiting for one in found),
        requests=sum(one.rows for one in sent),
        answered=sum(min(one.rows, one.done + one.failed) for one in sent),
        returned=returned,
        **more,
    )
