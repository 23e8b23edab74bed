"""``runs.pace``: what the session of a run is doing, for other processes to read."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Not in batch mode, which would recreate the table: the foreign keys of items and attempts forbid that.
    op.add_column("runs", sa.Column("pace", sa.Text()))
    op.execute("PRAGMA user_version = 2")


def downgrade() -> None:
    op.drop_column("runs", "pace")
    op.execute("PRAGMA user_version = 1")
