"""Who works on a run: only the lock tells whether anybody does, and the store whom to name."""

from pathlib import Path

import sqlalchemy as sa

from runner.store.schema import runs


def owner(path: Path, run_id: int) -> str:
    """Return words for the process that holds the lock of a run."""
    unknown = "another process"
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)))
    try:
        with engine.connect() as connection:
            row = connection.execute(sa.select(runs.c.pid, runs.c.host).where(runs.c.id == run_id)).first()
    except sa.exc.DBAPIError:
        # the lock is the reason for the message; its owner is only additional help
        return unknown
    finally:
        engine.dispose()
    return f"process {row.pid} on {row.host}" if row is not None and row.pid is not None else unknown
