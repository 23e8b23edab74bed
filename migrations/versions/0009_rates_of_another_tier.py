"""The highest rates of an attempt whose answer does not name its service tier; ``spend`` with what it may cost at them.

No attempt before this has such rates: what it may cost stays as it is.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_RATES = ("input", "output", "cached_input", "cache_write", "reasoning", "cache_write_1h")
_CACHED, _STORED = "coalesce(a.cached_tokens, 0)", "coalesce(a.cache_write_tokens, 0)"
_HOUR = "coalesce(min(a.cache_write_1h_tokens, a.cache_write_tokens), 0)"
_TOLD, _UNTOLD = "min(a.reasoning_tokens, a.output_tokens)", "a.reasoning_tokens IS NULL"
_FRESH = f"a.input_tokens - CASE WHEN {_CACHED} + {_STORED} > a.input_tokens THEN 0 ELSE {_CACHED} + {_STORED} END"


def _cost(rate: str, unsplit: str) -> str:
    """Return what an attempt costs. rate: how the names of the rates begin. unsplit: the rate of what is not told apart."""
    return (
        f"(({_FRESH}) * {rate}input + ({_CACHED}) * {rate}cached_input"
        f" + (({_STORED} - {_HOUR})) * {rate}cache_write + ({_HOUR}) * {rate}cache_write_1h"
        f" + (CASE WHEN {_UNTOLD} THEN 0 ELSE a.output_tokens - {_TOLD} END) * {rate}output"
        f" + (coalesce({_TOLD}, 0)) * {rate}reasoning"
        f" + (CASE WHEN {_UNTOLD} THEN a.output_tokens ELSE 0 END) * {unsplit})"
    )


def _most(rates: dict[str, str], read: str, written: str, hour: str) -> str:
    """Return the most that so many tokens can cost. rates: where each rate is found."""
    highest = f"max({rates['input']}, {rates['cached_input']}, {rates['cache_write']})"
    return (
        f"({read} * {highest} + min({hour}, {read}) * max(0, {rates['cache_write_1h']} - {highest})"
        f" + {written} * max({rates['output']}, {rates['reasoning']}))"
    )


_COST = _cost("p.", "min(p.output, p.reasoning)")
_UNSURE = (
    f"CASE WHEN ({_UNTOLD} AND a.input_tokens IS NOT NULL)"
    " THEN coalesce(a.output_tokens, 0) * abs(p.reasoning - p.output) ELSE 0 END"
)
_BEYOND = (
    f"CASE WHEN p.most_input IS NULL THEN {_UNSURE}"
    f" ELSE coalesce({_cost('p.most_', 'max(p.most_output, p.most_reasoning)')} - {_COST}, 0) END"
)
_BILLED = "(a.sent AND (a.status IS NULL OR a.status BETWEEN 200 AND 299))"


def _spend(rates: dict[str, str], whole: str, sums: tuple[str, str]) -> str:
    """Return the view. whole: what an attempt may cost beyond its known cost whose usage is whole.

    sums: what is added up for the known cost, and for what it may cost beyond, which is ``{}`` there.
    """
    of_attempt = _most(
        rates,
        read=f"max(a.input_bound, coalesce({_FRESH}, 0) + {_CACHED} + {_STORED})",
        written="max(coalesce(a.output_bound, 0), coalesce(a.output_tokens, 0))",
        hour=f"max(coalesce(a.cache_1h_bound, 0), {_HOUR})",
    )
    held = _most(rates, read="r.input_bound", written="r.output_bound", hour="coalesce(r.cache_1h_bound, 0)")
    bounded = f"CASE WHEN a.output_bound IS NOT NULL THEN {of_attempt} END - coalesce({_COST}, 0)"
    perhaps = f"CASE WHEN a.input_bound IS NULL THEN {whole} ELSE {bounded} END"
    return f"""
        SELECT a.run_id, a.served_model, coalesce(a.error_code, 'done') AS cause, count(*) AS attempts,
               sum(a.sent = 0) AS unsent,
               sum(a.error_code IS NOT NULL AND a.output_tokens IS NULL AND {_BILLED}) AS perhaps_billed,
               sum(a.input_tokens) AS input_tokens, sum(a.output_tokens) AS output_tokens, sum(a.cached_tokens) AS cached_tokens,
               sum(a.cache_write_tokens) AS cache_write_tokens, sum(a.cache_write_1h_tokens) AS cache_write_1h_tokens,
               sum(a.reasoning_tokens) AS reasoning_tokens,
               sum(a.bytes_received) AS bytes_received, sum(a.duration_s) AS duration_s,
               sum({sums[0]}) / 1e12 AS cost,
               CASE WHEN total({_BILLED} AND a.input_bound IS NOT NULL AND a.output_bound IS NULL) = 0
                  THEN sum({sums[1].format(perhaps)}) / 1e12 END AS cost_perhaps,
               sum({_BILLED} AND p.input IS NULL) AS unpriced
        FROM attempts a LEFT JOIN prices p ON p.id = a.price_id
        GROUP BY a.run_id, a.served_model, a.error_code
        UNION ALL
        SELECT r.run_id, NULL, 'open', count(*), 0, count(*), NULL, NULL, NULL, NULL, NULL, NULL, 0, 0.0,
               sum(p.input * 0) / 1e12, sum({held}) / 1e12, sum(p.input IS NULL)
        FROM reservations r LEFT JOIN prices p ON p.id = r.price_id
        GROUP BY r.run_id
    """  # noqa: S608 - constants


def upgrade() -> None:
    for name in _RATES:
        op.add_column("prices", sa.Column(f"most_{name}", sa.Integer()))
    top = {name: f"coalesce(p.most_{name}, p.{name})" for name in _RATES}
    of_billed = f"p.input * 0 + CASE WHEN {_BILLED} THEN {{}} ELSE 0 END"
    _make(_spend(top, _BEYOND, (of_billed.format(f"coalesce({_COST}, 0)"), of_billed)))
    op.execute("PRAGMA user_version = 9")


def downgrade() -> None:
    of_billed = f"CASE WHEN {_BILLED} THEN {{}} END"
    _make(_spend({name: f"p.{name}" for name in _RATES}, _UNSURE, (of_billed.format(_COST), of_billed)))
    # an older version knows one price of an attempt: the highest that it may have
    op.execute(f"UPDATE prices SET {', '.join(f'{name} = most_{name}' for name in _RATES)} WHERE most_input IS NOT NULL")  # noqa: S608
    for name in reversed(_RATES):
        op.drop_column("prices", f"most_{name}")
    op.execute("PRAGMA user_version = 8")


def _make(spend: str) -> None:
    op.execute("DROP VIEW spend")
    op.execute(f"CREATE VIEW spend AS{spend}")
