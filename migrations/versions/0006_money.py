"""What attempts cost: tier, tokens written to a cache, bounds of unknown tokens, rates; reservations, samples.

The attempts that there are have no price: what they cost is not known.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_ADDED = (
    ("cache_write_tokens", sa.Integer),
    ("tier", sa.Text),
    ("input_bound", sa.Integer),
    ("output_bound", sa.Integer),
    ("price_id", sa.Integer),
)
_RATES = ("input", "output", "cached_input", "cache_write", "reasoning")
_CACHED, _STORED = "coalesce(a.cached_tokens, 0)", "coalesce(a.cache_write_tokens, 0)"
_REASONING = "min(coalesce(a.reasoning_tokens, 0), a.output_tokens)"
_COST = (
    f"(max(0, a.input_tokens - {_CACHED} - {_STORED}) * p.input + {_CACHED} * p.cached_input"
    f" + {_STORED} * p.cache_write + (a.output_tokens - {_REASONING}) * p.output + {_REASONING} * p.reasoning)"
)
_PERHAPS = (
    "CASE WHEN a.input_bound IS NULL THEN 0 ELSE max(0, a.input_bound * max(p.input, p.cached_input, p.cache_write)"
    f" + a.output_bound * max(p.output, p.reasoning) - coalesce({_COST}, 0)) END"
)
_BILLED = "(a.sent AND (a.status IS NULL OR a.status BETWEEN 200 AND 299))"
_SPEND = f"""
        SELECT a.run_id, a.served_model, coalesce(a.error_code, 'done') AS cause, count(*) AS attempts,
               sum(a.sent = 0) AS unsent,
               sum(a.error_code IS NOT NULL AND a.output_tokens IS NULL AND {_BILLED}) AS perhaps_billed,
               sum(a.input_tokens) AS input_tokens, sum(a.output_tokens) AS output_tokens, sum(a.cached_tokens) AS cached_tokens,
               sum(a.cache_write_tokens) AS cache_write_tokens, sum(a.reasoning_tokens) AS reasoning_tokens,
               sum(a.bytes_received) AS bytes_received, sum(a.duration_s) AS duration_s,
               sum(CASE WHEN {_BILLED} THEN {_COST} END) / 1e12 AS cost,
               sum(CASE WHEN {_BILLED} THEN {_PERHAPS} END) / 1e12 AS cost_perhaps,
               sum({_BILLED} AND p.input IS NULL) AS unpriced
        FROM attempts a LEFT JOIN prices p ON p.id = a.price_id
        GROUP BY a.run_id, a.served_model, a.error_code
    """  # noqa: S608 - constants
_OLD_SPEND = """
        SELECT run_id, served_model, coalesce(error_code, 'done') AS cause, count(*) AS attempts,
               sum(sent = 0) AS unsent,
               sum(error_code IS NOT NULL AND sent AND output_tokens IS NULL AND (status IS NULL OR status BETWEEN 200 AND 299))
                   AS perhaps_billed,
               sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens, sum(cached_tokens) AS cached_tokens,
               sum(reasoning_tokens) AS reasoning_tokens, sum(bytes_received) AS bytes_received, sum(duration_s) AS duration_s
        FROM attempts GROUP BY run_id, served_model, error_code
    """


def upgrade() -> None:
    for name, kind in _ADDED:
        op.add_column("attempts", sa.Column(name, kind()))
    op.create_table(
        "prices",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        *(sa.Column(name, sa.Integer()) for name in _RATES),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_prices_run_id_runs"),
        sa.PrimaryKeyConstraint("id", name="pk_prices"),
    )
    op.create_table(
        "reservations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("item_key", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=False),
        sa.Column("input_bound", sa.Integer(), nullable=False),
        sa.Column("output_bound", sa.Integer(), nullable=False),
        sa.Column("price_id", sa.Integer()),
        sa.Column("variant_id", sa.Integer()),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_reservations_run_id_runs"),
        sa.PrimaryKeyConstraint("id", name="pk_reservations"),
        sa.UniqueConstraint("run_id", "item_key", "number", name="uq_reservations_run_id_item_key_number"),
    )
    op.create_table(
        "samples",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("drawn", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_samples_run_id_runs"),
        sa.PrimaryKeyConstraint("run_id", name="pk_samples"),
    )
    _make("spend", _SPEND)
    op.execute("PRAGMA user_version = 6")


def downgrade() -> None:
    _make("spend", _OLD_SPEND)
    # the tokens stay, and nothing tells any more what they cost
    op.drop_table("samples")
    op.drop_table("reservations")
    op.drop_table("prices")
    for name, _ in reversed(_ADDED):
        op.drop_column("attempts", name)
    op.execute("PRAGMA user_version = 5")


def _make(name: str, query: str) -> None:
    op.execute(f"DROP VIEW {name}")
    op.execute(f"CREATE VIEW {name} AS{query}")
