"""Retries of chosen rows: which are still to be asked again, and the answers that newer ones have replaced.

What is stored of both is lost on the way down.
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "retries",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("begun_at", sa.Float()),
        sa.Column("was_finished", sa.Boolean(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_retries_run_id_runs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_retries")),
    )
    op.create_index("ix_retries_run_id", "retries", ["run_id"])
    op.create_table(
        "retried",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("retry_id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("item_key", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text()),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_retried_run_id_runs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_retried")),
        sa.CheckConstraint("outcome IN ('done', 'failed', 'kept')", name=op.f("ck_retried_outcome")),
    )
    op.create_index("ix_retried_run_id_item_key", "retried", ["run_id", "item_key"])
    op.create_table(
        "replaced",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("item_key", sa.Text(), nullable=False),
        sa.Column("replaced_at", sa.Float(), nullable=False),
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
        sa.Column("same_as", sa.Text()),
        sa.Column("made_seed", sa.Integer()),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_replaced_run_id_runs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_replaced")),
    )
    op.create_index("ix_replaced_run_id_item_key", "replaced", ["run_id", "item_key"])
    op.execute("PRAGMA user_version = 13")


def downgrade() -> None:
    op.drop_table("replaced")
    op.drop_table("retried")
    op.drop_table("retries")
    op.execute("PRAGMA user_version = 12")
