"""What the session of a run is doing: ``runs.pace``, for a process that looks on."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # not in batch mode: it makes the table anew, which foreign keys forbid while items point at it
    op.add_column("runs", sa.Column("pace", sa.Text()))
    op.execute("PRAGMA user_version = 2")


def downgrade() -> None:
    op.drop_column("runs", "pace")
    op.execute("PRAGMA user_version = 1")
