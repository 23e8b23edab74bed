"""Everything that a run sent, added up."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from runner.events import Quantiles
from runner.store.schema import attempts, items

_TOKENS = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")
# what became of a failed attempt's item
_RETRIED, _DECIDED, _OPEN = "retried", "decided", "open"

Fetch = Callable[[sa.Select[Any]], list[Any]]
"""Reads all rows of a statement."""


class Totals(Struct, frozen=True, kw_only=True):
    """What a run sent, over all sessions.

    A retry is an attempt that was not the first of its item; its cause is the error of the attempt before it. So a failed
    attempt counts once: in ``retries``, when another attempt of its item was written after it; in ``deciding``, when it
    is its item's last and the item has failed; in neither, while the row is open, or changed and not answered anew.
    """

    attempts: int
    # attempts that ended in an error, by its code, the most frequent first; likewise below
    failed_attempts: Mapping[str, int]
    # of failed attempts: followed by another one
    retries: Mapping[str, int]
    # of failed attempts: the last word on a failed row
    deciding: Mapping[str, int]
    # of failed attempts: never reached the server, so not billed
    unsent: int
    # of failed attempts: usage unknown, but a plain refusal by HTTP status
    refused: int
    # of failed attempts: sent, usage unknown and no plain refusal, so perhaps billed
    perhaps_billed: int
    # None: no attempt reported any
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None
    # of failed attempts, where known
    wasted_input_tokens: int | None
    wasted_output_tokens: int | None
    # of failed attempts: body bytes after decompression
    wasted_bytes: int
    time_to_first_token: Quantiles
    duration: Quantiles
    finish_reasons: Mapping[str, int]


def add_up(fetch: Fetch, run_id: int) -> Totals:
    """Add up everything a run sent. fetch: sees one state of the store from call to call."""
    groups = fetch(_sums(run_id))
    first_token = _quantiles(fetch, run_id, attempts.c.time_to_first_token_s, sum(row.first_tokens for row in groups))
    duration = _quantiles(fetch, run_id, attempts.c.duration_s, sum(row.count for row in groups if row.code is None))
    finish, done = items.c.finish_reason, (items.c.run_id == run_id, items.c.status == "done")
    reasons = fetch(sa.select(finish, sa.func.count()).where(*done).group_by(finish))
    failed = [row for row in groups if row.code is not None]
    return Totals(
        attempts=sum(row.count for row in groups),
        failed_attempts=_by_code(failed),
        retries=_by_code(row for row in failed if row.fate == _RETRIED),
        deciding=_by_code(row for row in failed if row.fate == _DECIDED),
        unsent=sum(row.unsent for row in failed),
        refused=sum(row.refused for row in failed),
        perhaps_billed=sum(row.perhaps_billed for row in failed),
        **{name: _known(getattr(row, name) for row in groups) for name in _TOKENS},
        wasted_input_tokens=_known(row.input_tokens for row in failed),
        wasted_output_tokens=_known(row.output_tokens for row in failed),
        wasted_bytes=sum(row.bytes_received for row in failed),
        time_to_first_token=first_token,
        duration=duration,
        finish_reasons={reason or "": count for reason, count in reasons},
    )


def _quantiles(fetch: Fetch, run_id: int, column: sa.Column[float], count: int) -> Quantiles:
    """Give the quantiles of a column of the ``count`` attempts that succeeded and have it."""
    if not count:
        return Quantiles(p50=None, p95=None)
    places = [1 + min(count - 1, int(share * count)) for share in (0.5, 0.95)]
    place = sa.func.row_number().over(order_by=column).label("place")
    where = (_of_run(run_id), attempts.c.error_code.is_(None), column.is_not(None))
    ranked = sa.select(place, column.label("value")).where(*where).subquery()
    found = dict(fetch(sa.select(ranked).where(ranked.c.place.in_(places))))
    return Quantiles(p50=found[places[0]], p95=found[places[1]])


def _of_run(run_id: int) -> sa.ColumnElement[bool]:
    """Select the attempts of a run in the order of the table; their index, whose order is the keys', is several times slower."""
    edges = (sa.func.min(attempts.c.id), sa.func.max(attempts.c.id))
    first, last = (sa.select(edge).where(attempts.c.run_id == run_id).scalar_subquery() for edge in edges)
    # the zero keeps SQLite from that index
    return sa.and_(attempts.c.id.between(first, last), attempts.c.run_id + 0 == run_id)


def _sums(run_id: int) -> sa.Select[Any]:
    """Add the attempts of a run up by error code and by what came of them, in one pass over the table."""
    later, code = attempts.alias("later").c, attempts.c.error_code
    same = (later.run_id == attempts.c.run_id, later.item_key == attempts.c.item_key)
    its = (items.c.run_id == attempts.c.run_id, items.c.key == attempts.c.item_key)
    # behind a failure comes another failure, or at last the answer; the index holds no other attempts
    failed_again = sa.exists(later.id).where(*same, later.id > attempts.c.id, later.error_code.is_not(None))
    # a changed row that is sent again (--accept-changes) has an answer before its failures
    answered = sa.exists().where(*its, items.c.status == "done", items.c.attempt_id > attempts.c.id)
    given_up = sa.exists().where(*its, items.c.status == "failed")
    fate = sa.case((code.is_(None), None), (failed_again | answered, _RETRIED), (given_up, _DECIDED), else_=_OPEN)
    silent = attempts.c.sent & attempts.c.output_tokens.is_(None)
    refused = attempts.c.status.is_not(None) & (attempts.c.status != 200)
    count = sa.func.count()
    columns = (
        code.label("code"),
        fate.label("fate"),
        count.label("count"),
        count.filter(~attempts.c.sent).label("unsent"),
        count.filter(silent, refused).label("refused"),
        count.filter(silent, ~refused).label("perhaps_billed"),
        count.filter(code.is_(None), attempts.c.time_to_first_token_s.is_not(None)).label("first_tokens"),
        *(sa.func.sum(attempts.c[name]).label(name) for name in (*_TOKENS, "bytes_received")),
    )
    return sa.select(*columns).where(_of_run(run_id)).group_by("code", "fate")


def _by_code(groups: Iterable[Any]) -> dict[str, int]:
    """Count groups of attempts by error code, the most frequent first."""
    counts: Counter[str] = Counter()
    for row in groups:
        counts[row.code] += row.count
    return dict(counts.most_common())


def _known(numbers: Iterable[int | None]) -> int | None:
    """Add up what is known; None when nothing is."""
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None
