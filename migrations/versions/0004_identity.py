"""A run is its rows and its answer settings: no address in the fingerprint, what the input held, variants, history.

In the view ``spend`` every status from 200 to 299 means that the server has begun to answer.
"""

from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any

import msgspec
import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# the last seven are younger than this version: a run that has them was taken back, and is to be found again
_ANSWER = (
    "provider",
    "model",
    "system",
    "max_tokens",
    "temperature",
    "top_p",
    "stop",
    "seed",
    "extra_body",
    "prompt",
    "messages",
    "images",
    "files",
    "schema",
    "fields",
    "schema_mode",
)
_COLUMNS = (("input_bytes", sa.Integer), ("input_target", sa.Text), ("look_again", sa.Boolean), ("settled_head", sa.Text))

_SPEND = """
        SELECT run_id, served_model, coalesce(error_code, 'done') AS cause, count(*) AS attempts,
               sum(sent = 0) AS unsent,
               sum(error_code IS NOT NULL AND sent AND output_tokens IS NULL AND (status IS NULL OR status {}))
                   AS perhaps_billed,
               sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens, sum(cached_tokens) AS cached_tokens,
               sum(reasoning_tokens) AS reasoning_tokens, sum(bytes_received) AS bytes_received, sum(duration_s) AS duration_s
        FROM attempts GROUP BY run_id, served_model, error_code
    """


def upgrade() -> None:
    # One column at a time and no batch mode, which would recreate the tables: their foreign keys forbid that.
    for name, kind in _COLUMNS:
        op.add_column("runs", sa.Column(name, kind()))
    op.add_column("attempts", sa.Column("variant_id", sa.Integer()))
    op.create_table(
        "variants",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_variants_run_id_runs"),
        sa.PrimaryKeyConstraint("id", name="pk_variants"),
    )
    op.create_table(
        "history",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("old", sa.Text()),
        sa.Column("new", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_history"),
    )
    _fingerprints(lambda settings: {name: settings[name] for name in _ANSWER if settings.get(name) is not None})
    _spend("BETWEEN 200 AND 299")
    op.execute("PRAGMA user_version = 4")


def downgrade() -> None:
    _fingerprints(lambda settings: {name: settings.get(name) for name in (*_ANSWER, "base_url")})
    _spend("= 200")
    op.drop_table("history")
    op.drop_table("variants")
    op.drop_column("attempts", "variant_id")
    for name, _ in reversed(_COLUMNS):
        op.drop_column("runs", name)
    op.execute("PRAGMA user_version = 3")


def _spend(answers: str) -> None:
    """Make the view again. answers: the condition for statuses with which a server begins to answer."""
    op.execute("DROP VIEW spend")
    op.execute(f"CREATE VIEW spend AS{_SPEND.format(answers)}")


def _fingerprints(answer: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> None:
    """Compute the fingerprints of all runs again. answer: picks the settings that count out of those of a run."""
    connection = op.get_bind()
    for run_id, settings in connection.exec_driver_sql("SELECT id, settings FROM runs").fetchall():
        counts = msgspec.json.encode(answer(msgspec.json.decode(settings)), order="sorted")
        fingerprint = blake2b(counts, digest_size=12).hexdigest()
        connection.exec_driver_sql("UPDATE runs SET fingerprint = ? WHERE id = ?", (fingerprint, run_id))
