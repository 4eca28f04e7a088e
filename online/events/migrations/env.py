"""What Alembic runs: the migrations over the connection it is given, as part of the transaction there."""

from alembic import context

from online.events import schema

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=schema.metadata,
    version_table=schema.revisions.name,
    render_as_batch=True,  # SQLite alters a column by copying the table
)
with context.begin_transaction():
    context.run_migrations()
