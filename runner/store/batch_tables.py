"""The tables of batches: requests that wait at a provider, and rows that are to be asked again with other messages."""

from typing import get_args

import sqlalchemy as sa

from runner.batches import State

_STATES = ", ".join(f"'{state}'" for state in get_args(State))


def batch_tables(metadata: sa.MetaData) -> tuple[sa.Table, sa.Table, sa.Table]:
    """Add the tables ``batches``, ``batch_rows`` and ``reasks`` to a schema, and return them."""
    # files of requests at a provider's batch API (``runner.batches.StoredBatch``)
    batches = sa.Table(
        "batches",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("run_id", sa.Integer, sa.ForeignKey("runs.id"), nullable=False),
        sa.Column("token", sa.Text, nullable=False),
        # ``store.batches`` draws the states
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("vendor", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("base_url", sa.Text, nullable=False),
        # a hash of the key that it was sent with
        sa.Column("account", sa.Text, nullable=False),
        # its requests; those of them that still wait, and those that are sent elsewhere but may still get a result
        sa.Column("rows", sa.Integer, nullable=False, server_default="0"),
        sa.Column("waiting", sa.Integer, nullable=False, server_default="0"),
        sa.Column("released", sa.Integer, nullable=False, server_default="0"),
        # of the file of requests, and its path
        sa.Column("bytes", sa.Integer, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("upload_id", sa.Text),
        sa.Column("remote_id", sa.Text),
        sa.Column("submitted_at", sa.Float),
        sa.Column("expires_at", sa.Float),
        sa.Column("ended_at", sa.Float),
        # until when the provider keeps the results
        sa.Column("kept_until", sa.Float),
        # completed, expired, cancelled or failed; the provider's own word, and the requests that it counts
        sa.Column("end", sa.Text),
        sa.Column("word", sa.Text),
        sa.Column("done", sa.Integer, nullable=False, server_default="0"),
        sa.Column("failed", sa.Integer, nullable=False, server_default="0"),
        # where the results are, a JSON list of texts
        sa.Column("results", sa.Text, nullable=False, server_default="[]"),
        sa.Column("error", sa.Text),
        # the most tokens of all its requests, NULL: no limit is known; the entry of prices by which they are billed
        sa.Column("input_bound", sa.Integer, nullable=False, server_default="0"),
        sa.Column("output_bound", sa.Integer),
        sa.Column("price_id", sa.Integer),
        # the most tokens of those without a result: input, output as far as it has a limit, and in a cache that is kept for an
        # hour; and how many of them have no limit
        sa.Column("left_input", sa.Integer, nullable=False, server_default="0"),
        sa.Column("left_output", sa.Integer, nullable=False, server_default="0"),
        sa.Column("left_1h", sa.Integer, nullable=False, server_default="0"),
        sa.Column("left_unlimited", sa.Integer, nullable=False, server_default="0"),
        # its first and last entry of batch_rows; those of other batches may lie between them
        sa.Column("first_row", sa.Integer),
        sa.Column("last_row", sa.Integer),
        sa.Column("variant_id", sa.Integer),
        sa.CheckConstraint(f"state IN ({_STATES})", name="state"),
    )
    sa.Index("ix_batches_run_id", batches.c.run_id)

    # the requests of batches that have no result yet. Nothing in it is a foreign key: a million are written and deleted here
    rows = sa.Table(
        "batch_rows",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("batch_id", sa.Integer, nullable=False),
        sa.Column("run_id", sa.Integer, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        # what the request is called in the batch; NULL: as the row
        sa.Column("custom_id", sa.Text),
        # as in items, when it was sent
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("fingerprint", sa.Integer, nullable=False),
        sa.Column("metadata", sa.Text),
        # of the attempt, and the repairs that were asked for before it
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("repairs", sa.Integer, nullable=False, server_default="0"),
        # failed attempts before it that count against the row
        sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
        # 1: the row has an answer already, that it keeps if this request fails
        sa.Column("answered", sa.Boolean, nullable=False, server_default="0"),
        sa.Column("made_seed", sa.Integer),
        # as in attempts
        sa.Column("input_bound", sa.Integer),
        sa.Column("output_bound", sa.Integer),
        sa.Column("cache_1h_bound", sa.Integer),
        # 1: the row no longer waits for this result, which may still come
        sa.Column("released", sa.Boolean, nullable=False, server_default="0"),
    )
    c = rows.c
    # a row waits in one batch at most
    sa.Index("uq_batch_rows_run_id_key", c.run_id, c.key, unique=True, sqlite_where=sa.text("released = 0"))
    sa.Index("ix_batch_rows_run_id_key", c.run_id, c.key, sqlite_where=sa.text("released = 1"))
    sa.Index("ix_batch_rows_batch_id_custom_id", c.batch_id, c.custom_id, sqlite_where=sa.text("custom_id IS NOT NULL"))

    # rows whose answer did not fit, and that are to be asked again with these messages
    reasks = sa.Table(
        "reasks",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("run_id", sa.Integer, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        # a JSON list; and of the row as it was when it was sent
        sa.Column("messages", sa.Text, nullable=False),
        sa.Column("repairs", sa.Integer, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
        sa.Column("fingerprint", sa.Integer),
        sa.UniqueConstraint("run_id", "key"),
    )
    return batches, rows, reasks
