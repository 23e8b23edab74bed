"""Alembic's entry point. The migrations run on the connection that the store passes in, within its transaction."""

from alembic import context

from runner.store.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
