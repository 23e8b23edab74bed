"""Several answers of each row, and rows that share an answer.

The answers that there are become the first of their rows.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_KEY = "CASE WHEN i.answer_number > 1 THEN substr(i.key, 1, instr(i.key, char(64976)) - 1) ELSE i.key END AS key"
_SETTINGS = "CASE WHEN json_valid(r.settings) THEN r.settings ELSE '{}' END"
_FIELDS = "CASE WHEN json_valid(i.metadata) THEN i.metadata END"
_TEMPLATE = f"coalesce(json_extract({_SETTINGS}, '$.prompt'), json_extract({_SETTINGS}, '$.messages'))"
_ASKED = f"""
               CASE WHEN {_TEMPLATE} IS NULL
                    THEN coalesce(json_extract({_FIELDS}, '$.prompt'), json_extract({_FIELDS}, '$.messages')) END AS prompt,
               {_TEMPLATE} AS template"""
_VIEWS = {
    "overview": """
        SELECT r.id AS run_id, datetime(r.created_at, 'unixepoch') AS begun_utc,
               datetime(r.finished_at, 'unixepoch') AS finished_utc, json_extract(r.settings, '$.model') AS model,
               r.input, r.rows, coalesce(json_extract(r.settings, '$.answers'), 1) AS answers,
               (SELECT count(*) FROM items i WHERE i.run_id = r.id AND i.status = 'done') AS done,
               (SELECT count(*) FROM items i WHERE i.run_id = r.id AND i.status = 'failed') AS failed,
               r.stop_reason
        FROM runs r
    """,
    "answers": f"""
        SELECT i.run_id, i.position, {_KEY}, {_ASKED}, i.text, i.answer_number, i.finish_reason, i.notes,
               coalesce(a.served_model, u.served_model) AS served_model, coalesce(a.input_tokens, u.input_tokens) AS input_tokens,
               coalesce(a.output_tokens, u.output_tokens) AS output_tokens, i.attempts,
               coalesce(a.time_to_first_token_s, u.time_to_first_token_s) AS time_to_first_token_s,
               coalesce(a.duration_s, u.duration_s) AS duration_s,
               datetime(coalesce(a.started_at + a.duration_s, u.started_at + u.duration_s), 'unixepoch') AS answered_utc,
               i.metadata, i.extra, u.from_run AS reused_from, i.same_as
        FROM items i JOIN runs r ON r.id = i.run_id LEFT JOIN attempts a ON a.id = i.attempt_id
             LEFT JOIN reused u
             ON i.attempt_id IS NULL AND i.same_as IS NULL AND u.run_id = i.run_id AND u.item_key = i.key
        WHERE i.status = 'done'
    """,  # noqa: S608 - constants
    "failures": f"""
        SELECT i.run_id, i.position, {_KEY}, i.answer_number, {_ASKED}, i.error_code, i.error, i.attempts,
               a.status AS http_status, a.sent, a.duration_s,
               datetime(a.started_at + a.duration_s, 'unixepoch') AS failed_utc, i.metadata, i.same_as
        FROM items i JOIN runs r ON r.id = i.run_id LEFT JOIN attempts a ON a.id = i.attempt_id
        WHERE i.status = 'failed'
    """,  # noqa: S608 - as above
}
_OLD_VIEWS = {
    "overview": """
        SELECT r.id AS run_id, datetime(r.created_at, 'unixepoch') AS begun_utc,
               datetime(r.finished_at, 'unixepoch') AS finished_utc, json_extract(r.settings, '$.model') AS model,
               r.input, r.rows,
               (SELECT count(*) FROM items i WHERE i.run_id = r.id AND i.status = 'done') AS done,
               (SELECT count(*) FROM items i WHERE i.run_id = r.id AND i.status = 'failed') AS failed,
               r.stop_reason
        FROM runs r
    """,
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
    """,  # noqa: S608 - as above
    "failures": f"""
        SELECT i.run_id, i.position, i.key, {_ASKED}, i.error_code, i.error, i.attempts, a.status AS http_status, a.sent,
               a.duration_s, datetime(a.started_at + a.duration_s, 'unixepoch') AS failed_utc, i.metadata
        FROM items i JOIN runs r ON r.id = i.run_id LEFT JOIN attempts a ON a.id = i.attempt_id
        WHERE i.status = 'failed'
    """,  # noqa: S608 - as above
}


def upgrade() -> None:
    op.add_column("items", sa.Column("answer_number", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("items", sa.Column("same_as", sa.Text()))
    op.create_index(
        "ix_items_run_id_answer_number", "items", ["run_id", "answer_number"], sqlite_where=sa.text("answer_number > 1")
    )
    op.create_index("ix_items_run_id_same_as", "items", ["run_id", "same_as"], sqlite_where=sa.text("same_as IS NOT NULL"))
    _make(_VIEWS)
    op.execute("PRAGMA user_version = 7")


def downgrade() -> None:
    # a younger version makes this view, of a column that goes
    op.execute("DROP VIEW IF EXISTS answers_json")
    # an older version would take further answers for rows of their own; what was paid for them stays on the books
    op.execute(
        "DELETE FROM reused WHERE EXISTS (SELECT 1 FROM items i"
        " WHERE i.run_id = reused.run_id AND i.key = reused.item_key AND i.answer_number > 1)"
    )
    op.execute("DELETE FROM items WHERE answer_number > 1")
    _make(_OLD_VIEWS)
    op.drop_index("ix_items_run_id_same_as", "items")
    op.drop_index("ix_items_run_id_answer_number", "items")
    op.drop_column("items", "same_as")
    op.drop_column("items", "answer_number")
    op.execute("PRAGMA user_version = 6")


def _make(views: dict[str, str]) -> None:
    """Make the views again."""
    for name, query in views.items():
        op.execute(f"DROP VIEW {name}")
        op.execute(f"CREATE VIEW {name} AS{query}")
