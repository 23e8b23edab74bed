"""The tables of batches: requests that wait at a provider, and rows that are to be asked again with other messages."""

from typing import get_args

import sqlalchemy as sa

from runner.batches import State

_STATES = ", ".join(f"'{state}'" for state in get_args(State))


def batch_tables(metadata: sa.MetaData) -> tuple[sa.Table, sa.Table, sa.Table]:
    """Add the tables ``batches``, ``batch_rows`` and ``reasks`` to a schema, and return them."""
    return _batches(metadata), _batch_rows(metadata), _reasks(metadata)


def _batches(metadata: sa.MetaData) -> sa.Table:
    # files of requests at a provider's batch API (``runner.batches.StoredBatch``)
    batches = sa.Table(
        "batches",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("run_id", sa.Integer, sa.ForeignKey("runs.id"), nullable=False),
        # account: a hash of the key that it was sent with. ``store.batches`` draws the states
        *(sa.Column(name, sa.Text, nullable=False) for name in ("token", "state", "vendor", "model", "base_url", "account")),
        # its requests; those of them that still wait, and those that are sent elsewhere but may still get a result
        *_numbers("rows", "waiting", "released"),
        # of the file of requests, and its path
        sa.Column("bytes", sa.Integer, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        *(sa.Column(name, sa.Text) for name in ("upload_id", "remote_id")),
        # kept_until: the end of the results at the provider
        *(sa.Column(name, sa.Float) for name in ("submitted_at", "expires_at", "ended_at", "kept_until")),
        # completed, expired, cancelled or failed; the provider's own word, and the requests that it counts
        *(sa.Column(name, sa.Text) for name in ("end", "word")),
        *_numbers("done", "failed"),
        # where the results are, a JSON list of texts
        sa.Column("results", sa.Text, nullable=False, server_default="[]"),
        sa.Column("error", sa.Text),
        # the most tokens of all its requests, NULL: no limit is known; the entry of prices by which they are billed
        *_numbers("input_bound"),
        *(sa.Column(name, sa.Integer) for name in ("output_bound", "price_id")),
        # the most tokens of those without a result: input, output as far as it has a limit, and in a cache that is kept for an
        # hour; and how many of them have no limit
        *_numbers("left_input", "left_output", "left_1h", "left_unlimited"),
        # its first and last entry of batch_rows; those of other batches may lie between them. And as in attempts
        *(sa.Column(name, sa.Integer) for name in ("first_row", "last_row", "variant_id")),
        sa.CheckConstraint(f"state IN ({_STATES})", name="state"),
    )
    sa.Index("ix_batches_run_id", batches.c.run_id)
    return batches


def _batch_rows(metadata: sa.MetaData) -> sa.Table:
    # the requests of batches that have no result yet. Nothing in it is a foreign key: a million are written and deleted here
    rows = sa.Table(
        "batch_rows",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        *(sa.Column(name, sa.Integer, nullable=False) for name in ("batch_id", "run_id")),
        sa.Column("key", sa.Text, nullable=False),
        # what the request is called in the batch; NULL: as the row
        sa.Column("custom_id", sa.Text),
        # as in items, when it was sent
        *(sa.Column(name, sa.Integer, nullable=False) for name in ("position", "fingerprint")),
        sa.Column("metadata", sa.Text),
        # of the attempt
        sa.Column("number", sa.Integer, nullable=False),
        # before it: repairs that were asked for, and failed attempts that count against the row
        *_numbers("repairs", "failures"),
        # 1: the row has an answer already, that it keeps if this request fails
        sa.Column("answered", sa.Boolean, nullable=False, server_default="0"),
        # as in attempts
        *(sa.Column(name, sa.Integer) for name in ("made_seed", "input_bound", "output_bound", "cache_1h_bound")),
        # 1: the row no longer waits for this result, which may still come
        sa.Column("released", sa.Boolean, nullable=False, server_default="0"),
    )
    c = rows.c
    # a row waits in one batch at most
    sa.Index("uq_batch_rows_run_id_key", c.run_id, c.key, unique=True, sqlite_where=sa.text("released = 0"))
    sa.Index("ix_batch_rows_run_id_key", c.run_id, c.key, sqlite_where=sa.text("released = 1"))
    sa.Index("ix_batch_rows_batch_id_custom_id", c.batch_id, c.custom_id, sqlite_where=sa.text("custom_id IS NOT NULL"))
    return rows


def _reasks(metadata: sa.MetaData) -> sa.Table:
    # rows whose answer did not fit, and that are to be asked again with these messages
    return sa.Table(
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


def _numbers(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.Integer, nullable=False, server_default="0") for name in names]
