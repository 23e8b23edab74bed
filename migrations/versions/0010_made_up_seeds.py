"""The seed that was made up for a further answer of a row, and sent. For the answers that there are, none was."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("items", sa.Column("made_seed", sa.Integer()))
    op.execute("PRAGMA user_version = 10")


def downgrade() -> None:
    op.drop_column("items", "made_seed")
    op.execute("PRAGMA user_version = 9")
