"""Views for reading by hand, an index of failed attempts only, and ``runs.identical``: the number of identical rows."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_VIEWS = {
    "overview": """
        SELECT r.id AS run_id, datetime(r.created_at, 'unixepoch') AS begun_utc,
               datetime(r.finished_at, 'unixepoch') AS finished_utc, json_extract(r.settings, '$.model') AS model,
               r.input, r.rows,
               (SELECT count(*) FROM items i WHERE i.run_id = r.id AND i.status = 'done') AS done,
               (SELECT count(*) FROM items i WHERE i.run_id = r.id AND i.status = 'failed') AS failed,
               r.stop_reason
        FROM runs r
    """,
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
    "spend": """
        SELECT run_id, served_model, coalesce(error_code, 'done') AS cause, count(*) AS attempts,
               sum(sent = 0) AS unsent,
               sum(error_code IS NOT NULL AND sent AND output_tokens IS NULL AND (status IS NULL OR status = 200))
                   AS perhaps_billed,
               sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens, sum(cached_tokens) AS cached_tokens,
               sum(reasoning_tokens) AS reasoning_tokens, sum(bytes_received) AS bytes_received, sum(duration_s) AS duration_s
        FROM attempts GROUP BY run_id, served_model, error_code
    """,
}


def upgrade() -> None:
    op.add_column("runs", sa.Column("identical", sa.Integer()))
    # Only failed attempts are looked up. For a million rows answered at the first attempt, the full index would hold only waste.
    op.drop_index("ix_attempts_run_id_item_key", "attempts")
    op.create_index(
        "ix_attempts_run_id_item_key", "attempts", ["run_id", "item_key"], sqlite_where=sa.text("error_code IS NOT NULL")
    )
    for name, query in _VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS{query}")
    op.execute("PRAGMA user_version = 3")


def downgrade() -> None:
    for name in _VIEWS:
        op.execute(f"DROP VIEW {name}")
    op.drop_index("ix_attempts_run_id_item_key", "attempts")
    op.create_index("ix_attempts_run_id_item_key", "attempts", ["run_id", "item_key"])
    op.drop_column("runs", "identical")
    op.execute("PRAGMA user_version = 2")
