"""The tables of sessions: when each was at work, and what was asked of it meanwhile."""

import sqlalchemy as sa


def session_tables(metadata: sa.MetaData) -> tuple[sa.Table, sa.Table]:
    """Add the tables ``sessions`` and ``steered`` to a schema, and return them."""
    # the sessions of a run that have sent, or were about to
    sessions = sa.Table(
        "sessions",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("run_id", sa.Integer, sa.ForeignKey("runs.id"), nullable=False),
        sa.Column("began_at", sa.Float, nullable=False),
        # when this was written last, and when the session ended; NULL: it goes on, or it was killed
        sa.Column("noted_at", sa.Float, nullable=False),
        sa.Column("ended_at", sa.Float),
        # a time_ledger.TimeLedger, and a list of time_ledger.Moment, both as JSON
        sa.Column("time", sa.Text, nullable=False),
        sa.Column("timeline", sa.Text, nullable=False),
        sa.UniqueConstraint("run_id", "began_at"),
    )

    # what was asked of sessions while they ran (``store.steered``)
    steered = sa.Table(
        "steered",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("run_id", sa.Integer, sa.ForeignKey("runs.id"), nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        # the number of the session in its run, from 1
        sa.Column("session", sa.Integer, nullable=False),
        # terminal, page, api or agent
        sa.Column("by", sa.Text, nullable=False),
        # pause, continue, stop, cancel, requeue or set; and what came of it, a sentence
        sa.Column("command", sa.Text, nullable=False),
        sa.Column("what", sa.Text, nullable=False),
    )
    sa.Index("ix_steered_run_id", steered.c.run_id)
    return sessions, steered
