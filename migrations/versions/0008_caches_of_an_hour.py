"""Caches that are kept for an hour: their tokens, bounds and rates; ``spend`` with open requests, and with unknown reasoning.

The rate of such a cache was not kept, and no attempt tells of one: the rates that there are get that of other caches.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_ADDED = (
    ("attempts", "cache_write_1h_tokens"),
    ("attempts", "cache_1h_bound"),
    ("reservations", "cache_1h_bound"),
    ("prices", "cache_write_1h"),
)
_CACHED, _STORED = "coalesce(a.cached_tokens, 0)", "coalesce(a.cache_write_tokens, 0)"
_HOUR = "coalesce(min(a.cache_write_1h_tokens, a.cache_write_tokens), 0)"
_TOLD, _UNTOLD = "min(a.reasoning_tokens, a.output_tokens)", "a.reasoning_tokens IS NULL"
_FRESH = f"a.input_tokens - CASE WHEN {_CACHED} + {_STORED} > a.input_tokens THEN 0 ELSE {_CACHED} + {_STORED} END"
_COST = (
    f"(({_FRESH}) * p.input + ({_CACHED}) * p.cached_input"
    f" + (({_STORED} - {_HOUR})) * p.cache_write + ({_HOUR}) * p.cache_write_1h"
    f" + (CASE WHEN {_UNTOLD} THEN 0 ELSE a.output_tokens - {_TOLD} END) * p.output + (coalesce({_TOLD}, 0)) * p.reasoning"
    f" + (CASE WHEN {_UNTOLD} THEN a.output_tokens ELSE 0 END) * min(p.output, p.reasoning))"
)
_HIGHEST = "max(p.input, p.cached_input, p.cache_write)"
_MOST = (
    f"({{read}} * {_HIGHEST} + min({{hour}}, {{read}}) * max(0, p.cache_write_1h - {_HIGHEST})"
    " + {written} * max(p.output, p.reasoning))"
)
_MOST_OF_ATTEMPT = _MOST.format(
    read=f"max(a.input_bound, coalesce({_FRESH}, 0) + {_CACHED} + {_STORED})",
    written="max(coalesce(a.output_bound, 0), coalesce(a.output_tokens, 0))",
    hour=f"max(coalesce(a.cache_1h_bound, 0), {_HOUR})",
)
_HELD = _MOST.format(read="r.input_bound", written="r.output_bound", hour="coalesce(r.cache_1h_bound, 0)")
_UNSURE = (
    f"CASE WHEN ({_UNTOLD} AND a.input_tokens IS NOT NULL)"
    " THEN coalesce(a.output_tokens, 0) * abs(p.reasoning - p.output) ELSE 0 END"
)
_PERHAPS = (
    f"CASE WHEN a.input_bound IS NULL THEN {_UNSURE}"
    f" ELSE CASE WHEN a.output_bound IS NOT NULL THEN {_MOST_OF_ATTEMPT} END - coalesce({_COST}, 0) END"
)
_BILLED = "(a.sent AND (a.status IS NULL OR a.status BETWEEN 200 AND 299))"
_SPEND = f"""
        SELECT a.run_id, a.served_model, coalesce(a.error_code, 'done') AS cause, count(*) AS attempts,
               sum(a.sent = 0) AS unsent,
               sum(a.error_code IS NOT NULL AND a.output_tokens IS NULL AND {_BILLED}) AS perhaps_billed,
               sum(a.input_tokens) AS input_tokens, sum(a.output_tokens) AS output_tokens, sum(a.cached_tokens) AS cached_tokens,
               sum(a.cache_write_tokens) AS cache_write_tokens, sum(a.cache_write_1h_tokens) AS cache_write_1h_tokens,
               sum(a.reasoning_tokens) AS reasoning_tokens,
               sum(a.bytes_received) AS bytes_received, sum(a.duration_s) AS duration_s,
               sum(CASE WHEN {_BILLED} THEN {_COST} END) / 1e12 AS cost,
               CASE WHEN total({_BILLED} AND a.input_bound IS NOT NULL AND a.output_bound IS NULL) = 0
                    THEN sum(CASE WHEN {_BILLED} THEN {_PERHAPS} END) / 1e12 END AS cost_perhaps,
               sum({_BILLED} AND p.input IS NULL) AS unpriced
        FROM attempts a LEFT JOIN prices p ON p.id = a.price_id
        GROUP BY a.run_id, a.served_model, a.error_code
        UNION ALL
        SELECT r.run_id, NULL, 'open', count(*), 0, count(*), NULL, NULL, NULL, NULL, NULL, NULL, 0, 0.0,
               sum(p.input * 0) / 1e12, sum({_HELD}) / 1e12, sum(p.input IS NULL)
        FROM reservations r LEFT JOIN prices p ON p.id = r.price_id
        GROUP BY r.run_id
    """  # noqa: S608 - constants
_OLD_REASONING = "min(coalesce(a.reasoning_tokens, 0), a.output_tokens)"
_OLD_COST = (
    f"(max(0, a.input_tokens - {_CACHED} - {_STORED}) * p.input + {_CACHED} * p.cached_input"
    f" + {_STORED} * p.cache_write + (a.output_tokens - {_OLD_REASONING}) * p.output + {_OLD_REASONING} * p.reasoning)"
)
_OLD_PERHAPS = (
    "CASE WHEN a.input_bound IS NULL THEN 0 ELSE max(0, a.input_bound * max(p.input, p.cached_input, p.cache_write)"
    f" + a.output_bound * max(p.output, p.reasoning) - coalesce({_OLD_COST}, 0)) END"
)
_OLD_SPEND = f"""
        SELECT a.run_id, a.served_model, coalesce(a.error_code, 'done') AS cause, count(*) AS attempts,
               sum(a.sent = 0) AS unsent,
               sum(a.error_code IS NOT NULL AND a.output_tokens IS NULL AND {_BILLED}) AS perhaps_billed,
               sum(a.input_tokens) AS input_tokens, sum(a.output_tokens) AS output_tokens, sum(a.cached_tokens) AS cached_tokens,
               sum(a.cache_write_tokens) AS cache_write_tokens, sum(a.reasoning_tokens) AS reasoning_tokens,
               sum(a.bytes_received) AS bytes_received, sum(a.duration_s) AS duration_s,
               sum(CASE WHEN {_BILLED} THEN {_OLD_COST} END) / 1e12 AS cost,
               sum(CASE WHEN {_BILLED} THEN {_OLD_PERHAPS} END) / 1e12 AS cost_perhaps,
               sum({_BILLED} AND p.input IS NULL) AS unpriced
        FROM attempts a LEFT JOIN prices p ON p.id = a.price_id
        GROUP BY a.run_id, a.served_model, a.error_code
    """  # noqa: S608 - as above


def upgrade() -> None:
    for table, name in _ADDED:
        op.add_column(table, sa.Column(name, sa.Integer()))
    op.execute("UPDATE prices SET cache_write_1h = cache_write")
    _make(_SPEND)
    op.execute("PRAGMA user_version = 8")


def downgrade() -> None:
    _make(_OLD_SPEND)
    for table, name in reversed(_ADDED):
        op.drop_column(table, name)
    op.execute("PRAGMA user_version = 7")


def _make(spend: str) -> None:
    op.execute("DROP VIEW spend")
    op.execute(f"CREATE VIEW spend AS{spend}")
