"""Sessions of a run: where the time of each went, and what it did from moment to moment. Lost on the way down."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sessions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("began_at", sa.Float(), nullable=False),
        sa.Column("noted_at", sa.Float(), nullable=False),
        sa.Column("ended_at", sa.Float()),
        sa.Column("time", sa.Text(), nullable=False),
        sa.Column("timeline", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_sessions_run_id_runs")),
        sa.UniqueConstraint("run_id", "began_at", name=op.f("uq_sessions_run_id_began_at")),
    )
    op.execute("PRAGMA user_version = 12")


def downgrade() -> None:
    op.drop_table("sessions")
    op.execute("PRAGMA user_version = 11")
