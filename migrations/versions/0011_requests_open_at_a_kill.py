"""Reservations for several requests together, with or without a limit of the answers; ``spend`` counts their requests.

A session without a budget has one for all its open requests. What is stored of it is lost on the way down.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

# in what ``spend`` says of open requests: what is said here, and what was said before
_CHANGED = (
    ("'open', sum(r.requests), 0, sum(r.requests),", "'open', count(*), 0, count(*),"),
    (
        "sum(p.input * 0) / 1e12,\n               CASE WHEN total(r.output_bound IS NULL) = 0 THEN sum(",
        "sum(p.input * 0) / 1e12, sum(",
    ),
    (") / 1e12 END,\n               sum(r.requests * (p.input IS NULL))", ") / 1e12, sum(p.input IS NULL)"),
)


def upgrade() -> None:
    spend = _taken()
    with op.batch_alter_table("reservations") as table:
        table.alter_column("output_bound", existing_type=sa.Integer(), nullable=True)
        table.add_column(sa.Column("requests", sa.Integer(), nullable=False, server_default="1"))
    for now, before in _CHANGED:
        spend = _replaced(spend, before, now)
    op.execute(spend)
    op.execute("PRAGMA user_version = 11")


def downgrade() -> None:
    spend = _taken()
    op.execute("DELETE FROM reservations WHERE item_key = ''")
    with op.batch_alter_table("reservations") as table:
        table.drop_column("requests")
        table.alter_column("output_bound", existing_type=sa.Integer(), nullable=False)
    for now, before in _CHANGED:
        spend = _replaced(spend, now, before)
    op.execute(spend)
    op.execute("PRAGMA user_version = 10")


def _taken() -> str:
    """Drop the view ``spend``, which would be in the way of a table that is made anew; return the statement that makes it."""
    query = sa.text("SELECT sql FROM sqlite_schema WHERE type = 'view' AND name = 'spend'")
    statement: str = op.get_bind().execute(query).scalar_one()
    op.execute("DROP VIEW spend")
    return statement


def _replaced(spend: str, old: str, new: str) -> str:
    """Return a statement with another text in its last part, which is about open requests."""
    attempts, union, requests = spend.partition("UNION ALL")
    if requests.count(old) != 1:
        raise ValueError(f"the view spend is not as a migration has made it: {requests!r}")
    return f"{attempts}{union}{requests.replace(old, new)}"
