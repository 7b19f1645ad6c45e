"""What Alembic runs: on the connection and in the transaction that `store.migrate` gives it."""

from alembic import context

from dayspring.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    compare_type=True,
    render_as_batch=False,
    transactional_ddl=True,
    transaction_per_migration=False,
)
context.run_migrations()
