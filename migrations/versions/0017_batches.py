"""Batches: requests that wait at a provider's batch API.

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


def upgrade() -> None:
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
    op.execute("PRAGMA user_version = 17")


def downgrade() -> None:
    op.drop_table("reasks")
    op.drop_table("batch_rows")
    op.drop_table("batches")
    op.execute("PRAGMA user_version = 16")
