"""The first schema: runs, items, attempts."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "runs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("finished_at", sa.Float()),
        sa.Column("input", sa.Text(), nullable=False),
        sa.Column("input_relative", sa.Text(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("input_digest", sa.Text()),
        sa.Column("rows", sa.Integer()),
        sa.Column("stop_reason", sa.Text()),
        sa.Column("host", sa.Text()),
        sa.Column("pid", sa.Integer()),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
    )
    op.create_table(
        "items",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("attempt_id", sa.Integer()),
        sa.Column("finish_reason", sa.Text()),
        sa.Column("error_code", sa.Text()),
        sa.Column("error", sa.Text()),
        sa.Column("notes", sa.Text()),
        sa.Column("metadata", sa.Text()),
        sa.Column("extra", sa.Text()),
        sa.Column("text", sa.Text()),
        sa.CheckConstraint("status IN ('done', 'failed')", name=op.f("ck_items_status")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_items_run_id_runs"),
        sa.PrimaryKeyConstraint("id", name="pk_items"),
        sa.UniqueConstraint("run_id", "key", name="uq_items_run_id_key"),
    )
    op.create_index("ix_items_run_id_position", "items", ["run_id", "position", "status"])
    op.create_table(
        "attempts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("item_key", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=False),
        sa.Column("duration_s", sa.Float(), nullable=False),
        sa.Column("time_to_first_token_s", sa.Float()),
        sa.Column("status", sa.Integer()),
        sa.Column("sent", sa.Boolean(), nullable=False),
        sa.Column("bytes_received", sa.Integer(), nullable=False),
        sa.Column("input_tokens", sa.Integer()),
        sa.Column("output_tokens", sa.Integer()),
        sa.Column("cached_tokens", sa.Integer()),
        sa.Column("reasoning_tokens", sa.Integer()),
        sa.Column("served_model", sa.Text()),
        sa.Column("response_id", sa.Text()),
        sa.Column("error_code", sa.Text()),
        sa.Column("error", sa.Text()),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_attempts_run_id_runs"),
        sa.PrimaryKeyConstraint("id", name="pk_attempts"),
    )
    op.create_index("ix_attempts_run_id_item_key", "attempts", ["run_id", "item_key"])
    # "PRNR" in ASCII. Opening a store checks this number before anything else.
    op.execute("PRAGMA application_id = 1347571282")
    op.execute("PRAGMA user_version = 1")
