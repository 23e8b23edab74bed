"""Which of several endpoints an attempt went to."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("attempts", sa.Column("endpoint", sa.Text()))
    op.create_index(
        "ix_attempts_run_id_endpoint", "attempts", ["run_id", "endpoint"], sqlite_where=sa.text("endpoint IS NOT NULL")
    )
    op.execute("PRAGMA user_version = 15")


def downgrade() -> None:
    op.drop_index("ix_attempts_run_id_endpoint", "attempts")
    op.drop_column("attempts", "endpoint")
    op.execute("PRAGMA user_version = 14")
