"""Names and tags of runs, in a table of their own. A run without any has no entry."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "labels",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text()),
        sa.Column("tags", sa.Text(), nullable=False, server_default="[]"),
        sa.PrimaryKeyConstraint("run_id", name="pk_labels"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_labels_run_id_runs"),
        sa.UniqueConstraint("name", name="uq_labels_name"),
    )
    op.execute("PRAGMA user_version = 14")


def downgrade() -> None:
    op.drop_table("labels")
    op.execute("PRAGMA user_version = 13")
