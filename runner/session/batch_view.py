"""What is seen of the batches of a session: by the policy of mixed runs, and by people."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import structs

from runner.batches import BATCH_TIER, StoredBatch
from runner.config.job import Job
from runner.engine.batch.outlook import Flex, Live, Open, View
from runner.engine.batch.parts import Standing
from runner.engine.limits import Kind, Lanes
from runner.engine.limits.estimate import amount
from runner.engine.limits.shared_lane import KINDS
from runner.money import FLEX
from runner.pace import BatchesPace
from runner.prices.book import PriceBook
from runner.session.batch_words import word_of
from runner.session.live_speed import Answered, Speeds
from runner.session.stats import SessionStats
from runner.session.wiring import most_at_one


def view(
    job: Job, standing: Standing, lanes: Lanes, stats: SessionStats, speeds: Speeds, *, rows: int, open_rows: int, flying: int
) -> View:
    """Return what the policy is to see. Its deadline is still to be set. rows: of the run in all."""
    slowest_s = stats.live.quantile(0.95)
    flex = Flex(rows_per_s=speeds.flex, slowest_s=slowest_s) if job.tier == FLEX else None
    live = Live(
        rows_per_s=by_limits({**lanes.per_minute, **_in_force(lanes, job.model)}, stats),
        slots=lanes.slots or None,
        most_slots=most_at_one(job),
        answer_s=stats.live.quantile(0.5),
        slowest_s=slowest_s,
        measured=speeds.all,
        flex=flex,
    )
    return View(
        now=standing.now,
        deadline=None,
        began_at=standing.now,
        batches=[Open.of(batch, standing.cancel_asked_at.get(batch.id)) for batch in standing.batches],
        open=max(0, open_rows),
        flying=flying,
        live=live,
        rows=rows,
        returned=standing.returned,
        returned_s=standing.returned_s,
        cancels=standing.cancels_s,
        submitting=standing.submitting,
    )


def _in_force(lanes: Lanes, model: str | None) -> Mapping[Kind, float]:
    """Return the limits of a model that hold by now: answers report some that nobody has set."""
    limits = next((state.limits for state in lanes.states() if state.model == model), {})
    return {kind: limits[kind] for kind in KINDS if kind in limits}


def priced(view: View, book: PriceBook | None, model: str | None) -> View:
    """Return a view with what batches and flex cost, as shares of the standard price; as it is where that is not known."""
    if book is None or model is None or (standard := book.schedule(model, view.now)) is None or not standard.base.output:
        return view
    tiers = {tier: book.schedule(model, view.now, tier) for tier in (BATCH_TIER, FLEX)}
    shares = {tier: found.base.output / standard.base.output for tier, found in tiers.items() if found is not None}
    flex = view.live.flex
    if flex is not None and FLEX in shares:
        view = structs.replace(view, live=structs.replace(view.live, flex=structs.replace(flex, price=shares[FLEX])))
    return structs.replace(view, price=shares.get(BATCH_TIER, view.price))


def by_limits(per_minute: Mapping[Kind, float], stats: SessionStats) -> float | None:
    """Return how many rows a second the limits per minute let through; None: none is set, or what a row takes is not known."""
    sent = stats.sent()
    rows, read, written = sent.rows, sent.input_tokens or 0, sent.output_tokens or 0
    each = {kind: amount(kind, read / rows, written / rows) if rows else float(kind == "rpm") for kind in per_minute}
    rates = [most / 60 / each[kind] for kind, most in per_minute.items() if each[kind]]
    return min(rates, default=None)


def answered(stats: SessionStats, at: float) -> Answered:
    """Return how many live answers there are. at: monotonic seconds."""
    return Answered(at, stats.live_standard, stats.live_flex)


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
