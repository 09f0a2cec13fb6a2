"""What Alembic runs for each command: it works in the transaction that `migrate.py` holds."""

from __future__ import annotations

from alembic import context

from steep.server.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite cannot alter most of a table; it is copied instead
)
with context.begin_transaction():
    context.run_migrations()
