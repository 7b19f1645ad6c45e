"""What Alembic runs: on the connection and in the transaction that `store.migrate` gives it."""

from alembic import context

from dayspring.store import failpoints
from dayspring.store.schema import metadata


def _migrated(*_: object, **__: object) -> None:
    """After each revision, in the one transaction of all."""
    failpoints.hit("migrate.revision")


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    compare_type=True,
    render_as_batch=False,
    transactional_ddl=True,
    transaction_per_migration=False,
    on_version_apply=_migrated,
)
context.run_migrations()
