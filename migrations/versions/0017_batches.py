"""Batches: requests that wait at a provider's batch API; ``spend`` counts those without a result.

What is stored of them is lost on the way down, so that nothing may be open then.
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_STATES = (
    *("writing", "written", "uploading", "uploaded", "creating", "submitted", "cancelling", "ended"),
    *("done", "refused", "gone"),
)
_NAMES = ("input", "output", "cached_input", "cache_write", "reasoning", "cache_write_1h")
_TOP = {name: f"coalesce(p.most_{name}, p.{name})" for name in _NAMES}
_READ = f"max({_TOP['input']}, {_TOP['cached_input']}, {_TOP['cache_write']})"
_HOUR = f"min(b.left_1h, b.left_input) * max(0, {_TOP['cache_write_1h']} - {_READ})"
_MOST = f"(b.left_input * {_READ} + {_HOUR} + b.left_output * max({_TOP['output']}, {_TOP['reasoning']}))"
_IN_BATCHES = f"""        UNION ALL
        SELECT b.run_id, NULL, 'batch', sum(b.waiting + b.released), 0, sum(b.waiting + b.released), NULL, NULL, NULL, NULL, NULL,
               NULL, 0, 0.0, sum(p.input * 0) / 1e12,
               CASE WHEN total(b.left_unlimited) = 0 THEN sum({_MOST}) / 1e12 END,
               sum((b.waiting + b.released) * (p.input IS NULL))
        FROM batches b LEFT JOIN prices p ON p.id = b.price_id
        WHERE b.state IN ({", ".join(map(repr, _STATES[2:8]))}) AND b.waiting + b.released > 0
        GROUP BY b.run_id
    """  # noqa: S608 - constants


def upgrade() -> None:
    spend = _taken()
    op.create_table(
        "batches",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("vendor", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("base_url", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("waiting", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("released", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("upload_id", sa.Text()),
        sa.Column("remote_id", sa.Text()),
        sa.Column("submitted_at", sa.Float()),
        sa.Column("expires_at", sa.Float()),
        sa.Column("ended_at", sa.Float()),
        sa.Column("kept_until", sa.Float()),
        sa.Column("end", sa.Text()),
        sa.Column("word", sa.Text()),
        sa.Column("done", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("failed", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("results", sa.Text(), nullable=False, server_default="[]"),
        sa.Column("error", sa.Text()),
        sa.Column("input_bound", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("output_bound", sa.Integer()),
        sa.Column("price_id", sa.Integer()),
        sa.Column("left_input", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("left_output", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("left_1h", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("left_unlimited", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("first_row", sa.Integer()),
        sa.Column("last_row", sa.Integer()),
        sa.Column("variant_id", sa.Integer()),
        sa.PrimaryKeyConstraint("id", name="pk_batches"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_batches_run_id_runs"),
        sa.CheckConstraint(f"state IN ({', '.join(map(repr, _STATES))})", name=op.f("ck_batches_state")),
    )
    op.create_index("ix_batches_run_id", "batches", ["run_id"])
    op.create_table(
        "batch_rows",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("batch_id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("custom_id", sa.Text()),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("fingerprint", sa.Integer(), nullable=False),
        sa.Column("metadata", sa.Text()),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("repairs", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("failures", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("answered", sa.Boolean(), nullable=False, server_default="0"),
        sa.Column("made_seed", sa.Integer()),
        sa.Column("input_bound", sa.Integer()),
        sa.Column("output_bound", sa.Integer()),
        sa.Column("cache_1h_bound", sa.Integer()),
        sa.Column("released", sa.Boolean(), nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("id", name="pk_batch_rows"),
    )
    run, waits = ["run_id", "key"], sa.text("released = 0")
    op.create_index("uq_batch_rows_run_id_key", "batch_rows", run, unique=True, sqlite_where=waits)
    op.create_index("ix_batch_rows_run_id_key", "batch_rows", run, sqlite_where=sa.text("released = 1"))
    op.create_index(
        "ix_batch_rows_batch_id_custom_id", "batch_rows", ["batch_id", "custom_id"], sqlite_where=sa.text("custom_id IS NOT NULL")
    )
    op.create_table(
        "reasks",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("messages", sa.Text(), nullable=False),
        sa.Column("repairs", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("fingerprint", sa.Integer()),
        sa.PrimaryKeyConstraint("id", name="pk_reasks"),
        sa.UniqueConstraint("run_id", "key", name="uq_reasks_run_id_key"),
    )
    op.execute(f"{spend.rstrip()}\n{_IN_BATCHES}")
    op.execute("PRAGMA user_version = 17")


def downgrade() -> None:
    spend, found, _ = _taken().partition(_IN_BATCHES.rstrip())
    if not found:
        raise ValueError(f"the view spend is not as a migration has made it: {spend!r}")
    op.execute(spend)
    op.drop_table("reasks")
    op.drop_table("batch_rows")
    op.drop_table("batches")
    op.execute("PRAGMA user_version = 16")


def _taken() -> str:
    """Drop the view ``spend``, and return the statement that makes it."""
    query = sa.text("SELECT sql FROM sqlite_schema WHERE type = 'view' AND name = 'spend'")
    statement: str = op.get_bind().execute(query).scalar_one()
    op.execute("DROP VIEW spend")
    return statement
