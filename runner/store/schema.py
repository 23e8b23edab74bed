"""The tables, their naming convention, the views for people, and how a new store gets them; nothing else.

An older store gets the same by the migrations, and a test holds the two equal.
``docs/reference/store.md`` explains the columns.
"""

import sqlalchemy as sa

APPLICATION_ID = 0x50524E52
"""Written into the file's header, so that another program's database is never taken for ours. "PRNR" in ASCII."""

VERSION = 3
"""SQLite's ``user_version``; every migration raises it by one."""

HEAD = "0003"
"""The newest migration. A test holds it equal to what Alembic finds."""

_REVISION = """
    CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))
"""

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    # UTC, seconds since the epoch
    sa.Column("created_at", sa.Float, nullable=False),
    # NULL until every row of the input had an outcome
    sa.Column("finished_at", sa.Float),
    # absolute path when it was last run, and the same seen from the store's folder, which survives a move of both
    sa.Column("input", sa.Text, nullable=False),
    sa.Column("input_relative", sa.Text, nullable=False),
    # the job as JSON, without secrets
    sa.Column("settings", sa.Text, nullable=False),
    # hash of the settings that change an answer
    sa.Column("fingerprint", sa.Text, nullable=False),
    # hash and rows of the input at the last session
    sa.Column("input_digest", sa.Text),
    sa.Column("rows", sa.Integer),
    # why the last session ended early, one sentence; NULL when it did not
    sa.Column("stop_reason", sa.Text),
    # who works on it, for the message to a second process; the lock file is what counts
    sa.Column("host", sa.Text),
    sa.Column("pid", sa.Integer),
    # what the session is doing, as JSON of model.Pace; NULL between sessions, stale after a kill
    sa.Column("pace", sa.Text),
    # rows of the input without an id that are identical to an earlier one, at the last session; NULL: nobody counted
    sa.Column("identical", sa.Integer),
)

items = sa.Table(
    "items",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("run_id", sa.Integer, sa.ForeignKey("runs.id"), nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    # line of the input, counted from 1
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("fingerprint", sa.Integer, nullable=False),
    # all attempts, over all sessions
    sa.Column("attempts", sa.Integer, nullable=False),
    # the one that decided it; NULL when nothing was sent
    sa.Column("attempt_id", sa.Integer),
    sa.Column("finish_reason", sa.Text),
    sa.Column("error_code", sa.Text),
    sa.Column("error", sa.Text),
    # what was odd about the answer, joined by commas
    sa.Column("notes", sa.Text),
    # the row's further fields as a JSON object
    sa.Column("metadata", sa.Text),
    # reasoning, refusal and tool calls as a JSON object, apart from the text
    sa.Column("extra", sa.Text),
    sa.Column("text", sa.Text),
    sa.CheckConstraint("status IN ('done', 'failed')", name="status"),
    sa.UniqueConstraint("run_id", "key"),
)
# input order for exports; the status rides along, so that counting reads no row
sa.Index("ix_items_run_id_position", items.c.run_id, items.c.position, items.c.status)

attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("run_id", sa.Integer, sa.ForeignKey("runs.id"), nullable=False),
    # an attempt may be on the books before its item has a row
    sa.Column("item_key", sa.Text, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("started_at", sa.Float, nullable=False),
    sa.Column("duration_s", sa.Float, nullable=False),
    sa.Column("time_to_first_token_s", sa.Float),
    # HTTP status, NULL when no answer came
    sa.Column("status", sa.Integer),
    # 0: it never reached the server and cannot have been billed
    sa.Column("sent", sa.Boolean, nullable=False),
    sa.Column("bytes_received", sa.Integer, nullable=False),
    # NULL: unknown, perhaps billed
    sa.Column("input_tokens", sa.Integer),
    sa.Column("output_tokens", sa.Integer),
    sa.Column("cached_tokens", sa.Integer),
    sa.Column("reasoning_tokens", sa.Integer),
    sa.Column("served_model", sa.Text),
    sa.Column("response_id", sa.Text),
    # both NULL for a success
    sa.Column("error_code", sa.Text),
    sa.Column("error", sa.Text),
)
# of the failed ones: how often an open item was tried, and what came behind a failure; an item that is done asks neither
sa.Index("ix_attempts_run_id_item_key", attempts.c.run_id, attempts.c.item_key, sqlite_where=attempts.c.error_code.is_not(None))

VIEWS = {
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
"""For people and their tools; runner reads none of them."""


def create(connection: sa.Connection) -> None:
    """Make all of it in an empty store, in the connection's transaction, as the migrations would: they cost ten times as much."""
    metadata.create_all(connection, checkfirst=False)
    for name, query in VIEWS.items():
        connection.exec_driver_sql(f"CREATE VIEW {name} AS{query}")
    connection.exec_driver_sql(_REVISION)
    connection.exec_driver_sql("INSERT INTO alembic_version VALUES (?)", (HEAD,))
    connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.exec_driver_sql(f"PRAGMA user_version = {VERSION}")
