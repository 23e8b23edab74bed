"""The tables of retries: which rows are to be asked again, and the answers that newer ones have replaced."""

import sqlalchemy as sa

REPLACED = (
    *("status", "fingerprint", "attempts", "attempt_id", "finish_reason", "error_code", "error", "notes", "metadata", "extra"),
    *("text", "same_as", "made_seed"),
)
"""What is kept of an outcome that is replaced: columns of ``items``."""

IS_PENDING = (
    "EXISTS (SELECT 1 FROM retried g WHERE g.run_id = items.run_id AND g.item_key = items.key AND g.outcome IS NULL"
    " AND g.retry_id = (SELECT max(t.id) FROM retries t WHERE t.run_id = items.run_id))"
)
"""Tells of an entry of ``items`` that the retry which goes on, or is about to begin, is still to ask it again."""


def retry_tables(metadata: sa.MetaData, items: sa.Table) -> tuple[sa.Table, sa.Table, sa.Table]:
    """Add the tables ``retries``, ``retried`` and ``replaced`` to a schema, and return them."""
    retries = sa.Table(
        "retries",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("run_id", sa.Integer, sa.ForeignKey("runs.id"), nullable=False),
        # NULL: rows are being chosen, and nothing was sent. A run has one that has begun, its last
        sa.Column("begun_at", sa.Float),
        # 1: the run was finished before it
        sa.Column("was_finished", sa.Boolean, nullable=False),
        # its job as JSON, without secrets: what goes on with it has the same settings
        sa.Column("settings", sa.Text, nullable=False),
    )
    sa.Index("ix_retries_run_id", retries.c.run_id)
    retried = sa.Table(
        "retried",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("retry_id", sa.Integer, nullable=False),
        sa.Column("run_id", sa.Integer, sa.ForeignKey("runs.id"), nullable=False),
        sa.Column("item_key", sa.Text, nullable=False),
        # NULL: still to be asked again; kept: that failed, and the row keeps the answer that it had
        sa.Column("outcome", sa.Text),
        sa.CheckConstraint("outcome IN ('done', 'failed', 'kept')", name="outcome"),
    )
    sa.Index("ix_retried_run_id_item_key", retried.c.run_id, retried.c.item_key)
    replaced = sa.Table(
        "replaced",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("run_id", sa.Integer, sa.ForeignKey("runs.id"), nullable=False),
        sa.Column("item_key", sa.Text, nullable=False),
        sa.Column("replaced_at", sa.Float, nullable=False),
        *(sa.Column(name, items.c[name].type, nullable=items.c[name].nullable) for name in REPLACED),
    )
    sa.Index("ix_replaced_run_id_item_key", replaced.c.run_id, replaced.c.item_key)
    return retries, retried, replaced
