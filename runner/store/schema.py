"""The tables, their naming convention, and the function that creates them in a new store.

The migrations bring an older store to the same schema; a test compares the two.
``docs/reference/store.md`` explains the columns.
"""

import sqlalchemy as sa

from runner.money import Rates
from runner.store.batch_tables import batch_tables
from runner.store.cost import most_of
from runner.store.retry_tables import retry_tables
from runner.store.session_tables import session_tables
from runner.store.views import VIEWS

APPLICATION_ID = 0x50524E52
"""Written into the file's header, so that another program's database is never taken for a store. "PRNR" in ASCII."""

VERSION = 17
"""SQLite's ``user_version``; every migration raises it by one."""

HEAD = "0017"
"""The newest migration. A test compares it with the one that Alembic finds."""

_REVISION = """
    CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))
"""

BOUGHT = (
    "started_at",
    "duration_s",
    "time_to_first_token_s",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "served_model",
    "response_id",
)
"""What is kept of the attempt that bought an answer which another run takes over: columns of ``attempts``."""

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
    sa.Column("finished_at", sa.Float),  # NULL until every row of the input has an outcome
    # absolute path of the input in the last session, as it was given
    sa.Column("input", sa.Text, nullable=False),
    # its path relative to the folder of the store, which stays right if both are moved
    sa.Column("input_relative", sa.Text, nullable=False),
    # the job as JSON, without secrets
    sa.Column("settings", sa.Text, nullable=False),
    # hash of the settings that change an answer
    sa.Column("fingerprint", sa.Text, nullable=False),
    # hash of the content of the input and number of its rows, in the last session
    sa.Column("input_digest", sa.Text),
    sa.Column("rows", sa.Integer),
    # why the last session ended early, one sentence; NULL if it did not
    sa.Column("stop_reason", sa.Text),
    # the process that works on the run, for the message to a second one; only the lock file decides
    sa.Column("host", sa.Text),
    sa.Column("pid", sa.Integer),
    # what the session is doing, a pace.Pace as JSON; outdated when it has ended, and mostly NULL then
    sa.Column("pace", sa.Text),
    # rows without an id that are identical to an earlier one, in the last session; NULL: not counted
    sa.Column("identical", sa.Integer),
    # bytes of the content that ``input_digest`` covers
    sa.Column("input_bytes", sa.Integer),
    # where a symbolic link in ``input`` led to; NULL if there was none
    sa.Column("input_target", sa.Text),
    # 1: rows have changed, or may have, so the next session looks at each row even if the content is the same
    sa.Column("look_again", sa.Boolean),
    # the beginning of the input in which all is settled, a model.Head as JSON
    sa.Column("settled_head", sa.Text),
    # 1: the rows have been compared with the answers of earlier runs, or are not to be; else that goes on in the next session
    sa.Column("compared", sa.Boolean),
)

items = sa.Table(
    "items",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("run_id", sa.Integer, sa.ForeignKey("runs.id"), nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    # line in the input, counted from 1
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("fingerprint", sa.Integer, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),  # all of them, over all sessions
    # the attempt that led to the outcome; NULL if nothing was sent
    sa.Column("attempt_id", sa.Integer),
    sa.Column("finish_reason", sa.Text),
    sa.Column("error_code", sa.Text),
    sa.Column("error", sa.Text),
    sa.Column("notes", sa.Text),  # what is unusual about the answer, joined by commas
    # the row's fields as a JSON object, without its id; with keep_rows = false also without what makes its request
    sa.Column("metadata", sa.Text),
    # reasoning, refusal, tool calls, citations and logprobs as a JSON object, separate from the text
    sa.Column("extra", sa.Text),
    sa.Column("text", sa.Text),
    # which of the answers of its row it is; ``key`` holds this number too, behind that of the row (``runner.several``)
    sa.Column("answer_number", sa.Integer, nullable=False, server_default="1"),
    # key of the row that bought the answer with the same request; NULL: this row did
    sa.Column("same_as", sa.Text),
    # the seed that was made up for its request and sent; NULL: none was, or it was the user's own
    sa.Column("made_seed", sa.Integer),
    sa.CheckConstraint("status IN ('done', 'failed')", name="status"),
    sa.UniqueConstraint("run_id", "key"),
)
# input order for exports; the status is included, so that counting reads only the index
sa.Index("ix_items_run_id_position", items.c.run_id, items.c.position, items.c.status)
# for runs with several answers of each row, and with rows that share one; other rows take no room in them
sa.Index("ix_items_run_id_answer_number", items.c.run_id, items.c.answer_number, sqlite_where=sa.text("answer_number > 1"))
sa.Index("ix_items_run_id_same_as", items.c.run_id, items.c.same_as, sqlite_where=sa.text("same_as IS NOT NULL"))

attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("run_id", sa.Integer, sa.ForeignKey("runs.id"), nullable=False),
    # not a foreign key: an attempt may be stored before its item has a row
    sa.Column("item_key", sa.Text, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("started_at", sa.Float, nullable=False),
    sa.Column("duration_s", sa.Float, nullable=False),
    sa.Column("time_to_first_token_s", sa.Float),
    # HTTP status, NULL if no answer came
    sa.Column("status", sa.Integer),
    # 0: the request never reached the server and cannot have been billed
    sa.Column("sent", sa.Boolean, nullable=False),
    sa.Column("bytes_received", sa.Integer, nullable=False),
    # NULL: usage unknown, perhaps billed
    sa.Column("input_tokens", sa.Integer),
    sa.Column("output_tokens", sa.Integer),
    sa.Column("cached_tokens", sa.Integer),
    sa.Column("reasoning_tokens", sa.Integer),
    sa.Column("served_model", sa.Text),
    sa.Column("response_id", sa.Text),
    # both NULL for a success
    sa.Column("error_code", sa.Text),
    sa.Column("error", sa.Text),
    # the entry of variants whose settings made this attempt; NULL: the settings of the run. SQLite adds no foreign key later
    sa.Column("variant_id", sa.Integer),
    # of input_tokens: those that were written to a cache
    sa.Column("cache_write_tokens", sa.Integer),
    # the service tier that the answer names
    sa.Column("tier", sa.Text),
    # the most tokens that may have been billed, where the usage is not known as a whole; no output_bound: no limit is known
    sa.Column("input_bound", sa.Integer),
    sa.Column("output_bound", sa.Integer),
    # the entry of prices by which this attempt is billed; NULL: made before prices were kept
    sa.Column("price_id", sa.Integer),
    # of cache_write_tokens: those in a cache that is kept for an hour; and of input_bound, NULL: the request asks for none.
    # Without input_bound: of cache_write_tokens, where the answer does not tell
    sa.Column("cache_write_1h_tokens", sa.Integer),
    sa.Column("cache_1h_bound", sa.Integer),
    # which of several endpoints it went to, by its name; NULL: there was one
    sa.Column("endpoint", sa.Text),
)
# failed attempts only: these tell how often an open item was tried, and what followed a failure
sa.Index("ix_attempts_run_id_item_key", attempts.c.run_id, attempts.c.item_key, sqlite_where=attempts.c.error_code.is_not(None))
# attempts at several endpoints only
sa.Index("ix_attempts_run_id_endpoint", attempts.c.run_id, attempts.c.endpoint, sqlite_where=attempts.c.endpoint.is_not(None))

# answer settings other than those of the run, with which failed rows were sent again
variants = sa.Table(
    "variants",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("run_id", sa.Integer, sa.ForeignKey("runs.id"), nullable=False),
    # all answer settings, as JSON
    sa.Column("settings", sa.Text, nullable=False),
)

# answers that were taken over from an earlier run, with what the export shows of the attempt that bought each: so that nothing is
# missing once that run is deleted, and no attempt, token or second is counted twice. It counts while ``items.attempt_id`` is NULL
reused = sa.Table(
    "reused",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("run_id", sa.Integer, sa.ForeignKey("runs.id"), nullable=False),
    sa.Column("item_key", sa.Text, nullable=False),
    # the run that bought the answer, and its key there; not a foreign key, since that run may be deleted
    sa.Column("from_run", sa.Integer, nullable=False),
    sa.Column("from_key", sa.Text, nullable=False),
    *(sa.Column(name, attempts.c[name].type, nullable=attempts.c[name].nullable) for name in BOUGHT),
    sa.UniqueConstraint("run_id", "item_key"),
)

# the rates by which attempts were billed: picodollars per token; all NULL: not known
prices = sa.Table(
    "prices",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("run_id", sa.Integer, sa.ForeignKey("runs.id"), nullable=False),
    # the model that was asked for, and the service tier: standard, flex, batch, ...
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("tier", sa.Text, nullable=False),
    *(sa.Column(name, sa.Integer) for name in Rates.__struct_fields__),
    # the highest rates that they may be billed at, if it is not known which tier served them; all NULL: the rates above hold
    *(sa.Column(most_of(name), sa.Integer) for name in Rates.__struct_fields__),
)

# requests that may be under way, with the most tokens that they can have: written before they go out. With a budget each has one,
# which is deleted with the attempt; what a killed session leaves becomes attempts in the next one. Without a budget a session has
# one for all of them together, which it deletes when it ends; what a killed session leaves stays
reservations = sa.Table(
    "reservations",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("run_id", sa.Integer, sa.ForeignKey("runs.id"), nullable=False),
    # empty: for all together
    sa.Column("item_key", sa.Text, nullable=False),
    # of the attempt; of one for all together 0 or less as long as its session may go on
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("started_at", sa.Float, nullable=False),
    sa.Column("input_bound", sa.Integer, nullable=False),
    # NULL: no limit is known
    sa.Column("output_bound", sa.Integer),
    sa.Column("price_id", sa.Integer),
    # as in attempts
    sa.Column("variant_id", sa.Integer),
    sa.Column("cache_1h_bound", sa.Integer),
    # for how many requests it is, which can have so many tokens together
    sa.Column("requests", sa.Integer, nullable=False, server_default="1"),
    sa.UniqueConstraint("run_id", "item_key", "number"),
)

# the rows that were drawn from those of a run, to be sent first and to tell what all of them will cost
samples = sa.Table(
    "samples",
    metadata,
    sa.Column("run_id", sa.Integer, sa.ForeignKey("runs.id"), primary_key=True),
    # JSON of a ``prices.sample.Drawn``
    sa.Column("drawn", sa.Text, nullable=False),
)

# what a run is called and marked with; a run without both may have no entry
labels = sa.Table(
    "labels",
    metadata,
    sa.Column("run_id", sa.Integer, sa.ForeignKey("runs.id"), primary_key=True),
    sa.Column("name", sa.Text),
    # a JSON list of texts, each word or word=value
    sa.Column("tags", sa.Text, nullable=False, server_default="[]"),
    sa.UniqueConstraint("name"),
)

# what was changed about a run after it began: its address, its input, its end; kept when the run is deleted
history = sa.Table(
    "history",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    # not a foreign key: the number of a deleted run is not used again
    sa.Column("run_id", sa.Integer, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    # base_url, api_key_env, input, another setting, or "deleted"
    sa.Column("what", sa.Text, nullable=False),
    sa.Column("old", sa.Text),
    sa.Column("new", sa.Text),
)

sessions, steered = session_tables(metadata)
batches, batch_rows, reasks = batch_tables(metadata)
retries, retried, replaced = retry_tables(metadata, items)


def create(connection: sa.Connection) -> None:
    """Create the whole schema in an empty store, in the connection's transaction. The migrations would take ten times as long."""
    metadata.create_all(connection, checkfirst=False)
    for name, query in VIEWS.items():
        connection.exec_driver_sql(f"CREATE VIEW {name} AS{query}")
    connection.exec_driver_sql(_REVISION)
    connection.exec_driver_sql("INSERT INTO alembic_version VALUES (?)", (HEAD,))
    connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.exec_driver_sql(f"PRAGMA user_version = {VERSION}")
