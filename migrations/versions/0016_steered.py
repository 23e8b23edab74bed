"""What was asked of sessions while they ran, and by whom."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "steered",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("session", sa.Integer(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("command", sa.Text(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_steered"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_steered_run_id_runs"),
    )
    op.create_index("ix_steered_run_id", "steered", ["run_id"])
    op.execute("PRAGMA user_version = 16")


def downgrade() -> None:
    op.drop_index("ix_steered_run_id", "steered")
    op.drop_table("steered")
    op.execute("PRAGMA user_version = 15")
