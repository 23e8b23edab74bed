"""Answers that a run takes over from earlier ones; the views ``answers`` and ``failures`` show what was asked.

The runs that there are have been begun without a look at the others, and stay so.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_SETTINGS = "CASE WHEN json_valid(r.settings) THEN r.settings ELSE '{}' END"
_FIELDS = "CASE WHEN json_valid(i.metadata) THEN i.metadata END"
_TEMPLATE = f"coalesce(json_extract({_SETTINGS}, '$.prompt'), json_extract({_SETTINGS}, '$.messages'))"
_ASKED = f"""
               CASE WHEN {_TEMPLATE} IS NULL
                    THEN coalesce(json_extract({_FIELDS}, '$.prompt'), json_extract({_FIELDS}, '$.messages')) END AS prompt,
               {_TEMPLATE} AS template"""
_VIEWS = {
    "answers": f"""
        SELECT i.run_id, i.position, i.key, {_ASKED}, i.text, i.finish_reason, i.notes,
               coalesce(a.served_model, u.served_model) AS served_model, coalesce(a.input_tokens, u.input_tokens) AS input_tokens,
               coalesce(a.output_tokens, u.output_tokens) AS output_tokens, i.attempts,
               coalesce(a.time_to_first_token_s, u.time_to_first_token_s) AS time_to_first_token_s,
               coalesce(a.duration_s, u.duration_s) AS duration_s,
               datetime(coalesce(a.started_at + a.duration_s, u.started_at + u.duration_s), 'unixepoch') AS answered_utc,
               i.metadata, i.extra, u.from_run AS reused_from
        FROM items i JOIN runs r ON r.id = i.run_id LEFT JOIN attempts a ON a.id = i.attempt_id
             LEFT JOIN reused u ON i.attempt_id IS NULL AND u.run_id = i.run_id AND u.item_key = i.key
        WHERE i.status = 'done'
    """,  # noqa: S608 - constants
    "failures": f"""
        SELECT i.run_id, i.position, i.key, {_ASKED}, i.error_code, i.error, i.attempts, a.status AS http_status, a.sent,
               a.duration_s, datetime(a.started_at + a.duration_s, 'unixepoch') AS failed_utc, i.metadata
        FROM items i JOIN runs r ON r.id = i.run_id LEFT JOIN attempts a ON a.id = i.attempt_id
        WHERE i.status = 'failed'
    """,  # noqa: S608 - as above
}
_OLD_VIEWS = {
    "answers": """
        SELECT i.run_id, i.position, i.key, i.text, i.finish_reason, i.notes, a.served_model, a.input_tokens, a.output_tokens,
               i.attempts, a.time_to_first_token_s, a.duration_s,
               datetime(a.started_at + a.duration_s, 'unixepoch') AS answered_utc, i.metadata, i.extra
        FROM items i LEFT JOIN attempts a ON a.id = i.attempt_id
        WHERE i.status = 'done'
    """,
    "failures": """
        SELECT i.run_id, i.position, i.key, i.error_code, i.error, i.attempts, a.status AS http_status, a.sent, a.duration_s,
               datetime(a.started_at + a.duration_s, 'unixepoch') AS failed_utc, i.metadata
        FROM items i LEFT JOIN attempts a ON a.id = i.attempt_id
        WHERE i.status = 'failed'
    """,
}


def upgrade() -> None:
    op.add_column("runs", sa.Column("compared", sa.Boolean()))
    op.execute("UPDATE runs SET compared = 1")
    op.create_table(
        "reused",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("item_key", sa.Text(), nullable=False),
        sa.Column("from_run", sa.Integer(), nullable=False),
        sa.Column("from_key", sa.Text(), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=False),
        sa.Column("duration_s", sa.Float(), nullable=False),
        sa.Column("time_to_first_token_s", sa.Float()),
        sa.Column("input_tokens", sa.Integer()),
        sa.Column("output_tokens", sa.Integer()),
        sa.Column("cached_tokens", sa.Integer()),
        sa.Column("reasoning_tokens", sa.Integer()),
        sa.Column("served_model", sa.Text()),
        sa.Column("response_id", sa.Text()),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_reused_run_id_runs"),
        sa.PrimaryKeyConstraint("id", name="pk_reused"),
        sa.UniqueConstraint("run_id", "item_key", name="uq_reused_run_id_item_key"),
    )
    _make(_VIEWS)
    op.execute("PRAGMA user_version = 5")


def downgrade() -> None:
    _make(_OLD_VIEWS)
    # the answers stay, and nothing tells any more which attempts bought them
    op.drop_table("reused")
    op.drop_column("runs", "compared")
    op.execute("PRAGMA user_version = 4")


def _make(views: dict[str, str]) -> None:
    """Make the views again."""
    for name, query in views.items():
        op.execute(f"DROP VIEW {name}")
        op.execute(f"CREATE VIEW {name} AS{query}")
