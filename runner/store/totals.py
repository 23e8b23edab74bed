"""Adds up everything that a run sent."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from msgspec import Struct

from runner.event_types import Quantiles
from runner.figures import EndpointFigures
from runner.money import CURRENCY, STANDARD, Costs, Money, Projection, asks_for_flex, costs, projected, tier_asked, tier_of
from runner.several import answers_in
from runner.store import database, early
from runner.store.batch_reading import in_batches
from runner.store.by_endpoint import by_endpoint
from runner.store.counts import further
from runner.store.former import on_newer
from runner.store.retrying import number_pending
from runner.store.schema import attempts, items, prices, runs, samples
from runner.store.sessions import time_of
from runner.store.spending import Fetch, money_of, of_run, rates_of, tokens_of, used_of
from runner.store.steered import Steered, steered_of
from runner.time_ledger import TimeLedger

_TOKENS = ("input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens", "cache_write_1h_tokens", "reasoning_tokens")
# what happened to the item of a failed attempt: it was sent again, it failed, or neither yet
_RETRIED, _DECIDED, _OPEN = "retried", "decided", "open"


class Totals(Struct, frozen=True, kw_only=True):
    """What a run sent, over all sessions.

    A retry is an attempt that is not the first of its item. Its cause is the error of the attempt before it. So each failed
    attempt counts at most once: in ``retries`` if another attempt of its item followed, or in ``deciding`` if it is the last
    attempt of an item that has failed. It counts in neither if the row has no outcome yet, or has changed and has no new answer.
    """

    attempts: int
    # attempts that ended in an error, by error code, most frequent first; the next two are sorted in the same way
    failed_attempts: Mapping[str, int]
    # failed attempts that were followed by another attempt; and those that were the last of a failed row
    retries: Mapping[str, int]
    deciding: Mapping[str, int]
    # failed attempts that never reached the server and so were not billed; and those that were refused by their HTTP status
    unsent: int
    refused: int
    # failed attempts that were sent and not refused, and whose usage is unknown: they may have been billed
    perhaps_billed: int
    # None: no attempt reported any usage
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None
    # tokens of failed attempts, where known
    wasted_input_tokens: int | None
    wasted_output_tokens: int | None
    wasted_bytes: int  # of the bodies of failed attempts, after decompression
    time_to_first_token: Quantiles
    duration: Quantiles
    finish_reasons: Mapping[str, int]
    # answers by the service tier that they name, most frequent first; those that name none by an empty text
    tiers: Mapping[str, int] = {}
    # of a run that asks for the flex tier: answers that the standard tier gave, at the rates of that
    standard_tier: int = 0
    # tokens that count for a budget of tokens: those that were reported; of an attempt without usage, the most that it may have
    tokens_of_budget: int = 0
    # of the input: tokens that were written to a cache; of these, those in a cache that is kept for an hour
    cache_write_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    # rows that have an outcome, and that a retry is still to ask again
    retry_left: int = 0
    # rows that wait in batches at a provider; and how many batches those are
    waiting: int = 0
    batches: int = 0
    # dollars that were spent, and of that on failed attempts; None: no rates are known. Whatever was billed lies between ``cost``
    # and ``cost + cost_perhaps``; None: that has no limit
    cost: float | None = None
    cost_failed_attempts: float | None = None
    cost_perhaps: float | None = None
    # requests that are open under a budget, or may have been open when their session was killed; what of ``cost_perhaps`` is for
    # them; and how many of them at most were open when a session without a budget was killed
    open_requests: int = 0
    cost_open_requests: float | None = None
    killed_requests: int = 0
    # dollars of the whole run, if the rows that are left cost what the others did; None before the tenth, without a sample
    cost_projected: float | None = None
    # what tokens from caches would have cost more as other input, less what writing to caches cost more
    cost_saved_by_cache: float | None = None
    # attempts that were billed, or may have been, at rates that are not known
    unpriced_attempts: int = 0
    # answers that rows got from another row with the same request, and how many requests go out for what is left where equal ones
    # are sent once (--dedupe). None: it is not known, or they are as many as what is left
    shared: int = 0
    requests_left: int | None = None
    # answers that were ended before their end (fail_fast, stop_when), and an estimate of what that saved; None: nothing tells it
    ended_early: int = 0
    estimated_saved_tokens: int | None = None
    estimated_saved_cost: float | None = None
    currency: str = CURRENCY
    # what each of several endpoints has done, the one with most answers first; empty where there is one
    endpoints: Sequence[EndpointFigures] = ()
    time: TimeLedger | None = None  # where the time of all sessions went; None: it is not known
    steered: Sequence[Steered] = ()  # what was asked of its sessions while they ran, oldest first


class _Drawn(Struct):
    """What is read of the sample of an estimate."""

    expected: Projection | None = None


class _Noted(Struct):
    """What is read of the pace of a session."""

    requests: int | None = None


S = TypeVar("S", bound=Struct)


def add_up(fetch: Fetch, run_id: int, *, active: bool = False) -> Totals:
    """Add up everything that a run sent. fetch: must read the same state of the store in all calls. active: a session goes on."""
    groups = fetch(_sums(run_id))
    first_token = _quantiles(fetch, run_id, attempts.c.time_to_first_token_s, sum(row.first_tokens for row in groups))
    duration = _quantiles(fetch, run_id, attempts.c.duration_s, sum(row.count for row in groups if row.code is None))
    settings = database.settings_of(fetch(sa.select(runs.c.settings).where(runs.c.id == run_id))[0][0]) or {}
    tiers = _by_tier(row for row in groups if row.code is None)
    spent = fetch(rates_of(run_id)), fetch(tokens_of(run_id, ended=not active))
    money = money_of(*spent)
    failed, rows = [row for row in groups if row.code is not None], _rows(fetch, run_id, settings)
    tokens: dict[str, Any] = {name: _sum_known(getattr(row, name) for row in groups) for name in _TOKENS}
    return Totals(
        attempts=sum(row.count for row in groups),
        failed_attempts=_by_code(failed),
        retries=_by_code(row for row in failed if row.fate == _RETRIED),
        deciding=_by_code(row for row in failed if row.fate == _DECIDED),
        unsent=sum(row.unsent for row in failed),
        refused=sum(row.refused for row in failed),
        perhaps_billed=sum(row.perhaps_billed for row in failed),
        **tokens,
        wasted_input_tokens=_sum_known(row.input_tokens for row in failed),
        wasted_output_tokens=_sum_known(row.output_tokens for row in failed),
        wasted_bytes=sum(row.bytes_received for row in failed),
        time_to_first_token=first_token,
        duration=duration,
        tiers=tiers if any(tiers) or _asks_for_tier(settings) else {},
        standard_tier=_standard(fetch, run_id, tiers, settings),
        tokens_of_budget=used_of(*spent).tokens,
        finish_reasons=_finish_reasons(fetch, run_id, answers_in(settings)),
        killed_requests=money.killed_requests,
        shared=rows.shared,
        requests_left=rows.requests_left,
        retry_left=fetch(number_pending(run_id))[0][0],
        endpoints=by_endpoint(fetch, run_id),
        time=time_of(fetch, run_id),
        **in_batches(fetch, run_id),
        steered=steered_of(fetch, run_id),
        **early.told(early.saved(fetch, run_id) if early.CODES & {row.code for row in failed} else early.NOTHING),
        **_costs(fetch, run_id, money, rows, answered=any(row.code is None for row in groups)),
    )


def _finish_reasons(fetch: Fetch, run_id: int, answers: int) -> dict[str, int]:
    """Count the answers by finish reason. answers: how many of each row are wanted."""
    finish, wanted = items.c.finish_reason, (items.c.run_id == run_id, items.c.status == "done", items.c.answer_number <= answers)
    return {reason or "": count for reason, count in fetch(sa.select(finish, sa.func.count()).where(*wanted).group_by(finish))}


class _Rows(Struct):
    """Outcomes for which something was sent, those that came from other rows, and how many requests are left; None: not known."""

    sent: int
    shared: int
    left: int | None
    # what is left, where a session has counted it
    requests_left: int | None = None


def _rows(fetch: Fetch, run_id: int, settings: Mapping[str, Any]) -> _Rows:
    """Count the rows of a run. Reads the store alone: what only the input tells, a session has noted."""
    rows, pace = fetch(sa.select(runs.c.rows, runs.c.pace).where(runs.c.id == run_id))[0]
    answers, mine = answers_in(settings), items.c.run_id == run_id
    settled = fetch(sa.select(sa.func.count()).where(mine))[0][0]
    unwanted = sum(group[-1] for group in fetch(further().where(mine)) if group[1] > answers)
    unsent = fetch(sa.select(sa.func.count()).where(mine, items.c.attempts == 0))[0][0]
    copies = (mine, items.c.same_as.is_not(None), items.c.answer_number <= answers)
    found = _Rows(settled - unsent, fetch(sa.select(sa.func.count()).where(*copies))[0][0], 0)
    found.left = max(0, rows * answers - settled + unwanted) if rows is not None else 0
    if found.left and settings.get("dedupe"):
        # how many of them get the answers of others, only a session can tell, which looks at the rows
        requests = _decoded(pace, _Noted()).requests
        found.left = found.requests_left = max(0, requests - found.sent) if requests is not None else None
    return found


def _costs(fetch: Fetch, run_id: int, money: Money, rows: _Rows, *, answered: bool) -> Costs:
    """Return what a run has cost, as the fields of a summary have it."""
    if rows.left is None:
        return costs(money, None)
    expected = _expected(fetch, run_id) if rows.left else None
    again = on_newer(fetch, run_id) if rows.left else 0
    return costs(money, projected(money, rows.sent, rows.left, expected, answered=answered, again=again))


def _expected(fetch: Fetch, run_id: int) -> Projection | None:
    """Return what the sample of an estimate says of the rows that it left; None without one."""
    found = fetch(sa.select(samples.c.drawn).where(samples.c.run_id == run_id))
    return _decoded(found[0][0] if found else None, _Drawn()).expected


def _decoded(text: str | None, otherwise: S) -> S:
    """Decode what a session has noted; return ``otherwise`` for what cannot be decoded, such as that of another version."""
    try:
        return msgspec.json.decode(text, type=type(otherwise)) if text is not None else otherwise
    except (msgspec.MsgspecError, RecursionError, TypeError, ValueError):
        return otherwise


def _quantiles(fetch: Fetch, run_id: int, column: sa.Column[float], count: int) -> Quantiles:
    """Return the quantiles of a column over the successful attempts that have it, by nearest rank. count: their number."""
    if not count:
        return Quantiles(p50=None, p95=None)
    ranks = [math.ceil(share * count) for share in (0.5, 0.95)]
    rank = sa.func.row_number().over(order_by=column).label("rank")
    where = (of_run(run_id), attempts.c.error_code.is_(None), column.is_not(None))
    ranked = sa.select(rank, column.label("value")).where(*where).subquery()
    values = dict(fetch(sa.select(ranked).where(ranked.c.rank.in_(ranks))))
    return Quantiles(p50=values[ranks[0]], p95=values[ranks[1]])


def _sums(run_id: int) -> sa.Select[Any]:
    """Add up the attempts of a run by error code and by what followed, in one pass over the table."""
    later, code = attempts.alias("later").c, attempts.c.error_code
    same = (later.run_id == attempts.c.run_id, later.item_key == attempts.c.item_key)
    its = (items.c.run_id == attempts.c.run_id, items.c.key == attempts.c.item_key)
    # a failure is followed by another failure or by the answer; the index contains only failures
    failed_again = sa.exists(later.id).where(*same, later.id > attempts.c.id, later.error_code.is_not(None))
    # the comparison matters for a changed row that is sent again (--accept-changes): its answer may precede the failure
    answered = sa.exists().where(*its, items.c.status == "done", items.c.attempt_id > attempts.c.id)
    # a failed row that is asked again keeps its outcome if that is dropped
    decided = sa.exists().where(*its, items.c.status == "failed", items.c.attempt_id == attempts.c.id)
    fate = sa.case((code.is_(None), None), (decided, _DECIDED), (failed_again | answered, _RETRIED), else_=_OPEN)
    usage_unknown = attempts.c.sent & attempts.c.output_tokens.is_(None)
    refused = attempts.c.status.is_not(None) & ~attempts.c.status.between(200, 299)
    count = sa.func.count()
    columns = (
        code.label("code"),
        fate.label("fate"),
        attempts.c.tier.label("tier"),
        count.label("count"),
        count.filter(~attempts.c.sent).label("unsent"),
        count.filter(usage_unknown, refused).label("refused"),
        count.filter(usage_unknown, ~refused).label("perhaps_billed"),
        count.filter(code.is_(None), attempts.c.time_to_first_token_s.is_not(None)).label("first_tokens"),
        *(sa.func.sum(attempts.c[name]).label(name) for name in (*_TOKENS, "bytes_received")),
    )
    return sa.select(*columns).where(of_run(run_id)).group_by("code", "fate", "tier")


def _by_code(groups: Iterable[Any]) -> dict[str, int]:
    """Add up the counts of groups by error code, most frequent first."""
    counts: Counter[str] = Counter()
    for row in groups:
        counts[row.code] += row.count
    return dict(counts.most_common())


def _by_tier(groups: Iterable[Any]) -> dict[str, int]:
    """Add up the answers by their service tier, most frequent first."""
    counts: Counter[str] = Counter()
    for row in groups:
        counts[row.tier or ""] += row.count
    return dict(counts.most_common())


def _asks_for_tier(settings: Mapping[str, Any]) -> bool:
    extra = settings.get("extra_body")
    return tier_of(tier_asked(settings.get("tier"), extra if isinstance(extra, dict) else None)) != STANDARD


def _standard(fetch: Fetch, run_id: int, tiers: Mapping[str, int], settings: Mapping[str, Any]) -> int:
    """Return how many answers the standard tier gave, if the run asks for the flex tier; else 0."""
    if not asks_for_flex(settings.get("tier"), settings.get("extra_body")):
        return 0
    named = sum(count for tier, count in tiers.items() if tier and tier_of(tier) == STANDARD)
    if "" not in tiers:
        return named
    # an answer that names no tier came from the standard one for certain if no other was asked for
    untold = (attempts.c.error_code.is_(None), attempts.c.tier.is_(None), prices.c.tier != STANDARD)
    count = sa.select(sa.func.count()).select_from(attempts).join(prices, prices.c.id == attempts.c.price_id)
    return named + tiers[""] - int(fetch(count.where(of_run(run_id), *untold))[0][0])


def _sum_known(numbers: Iterable[int | None]) -> int | None:
    """Add up the numbers that are known; None if none is."""
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None
