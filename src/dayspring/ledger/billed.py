"""What was billed once: the key of work that may be repeated, and the request that paid for it.

What holds: a key is claimed in the transaction that books the charge, so of any number of requests for the same work,
at once or after a crash, exactly one is charged. Only a request that completes claims its key.
"""

from sqlalchemy import Column, Connection, String, Table

from dayspring.store.schema import metadata
from dayspring.store.statements import insert_if_new

__all__ = ["bill_once", "billed"]

billed = Table(
    "billed",
    metadata,
    Column("bill_key", String(200), primary_key=True),
    Column("request_id", String(64), nullable=False),
    sqlite_with_rowid=False,
)


def bill_once(connection: Connection, bill_key: str, request_id: str) -> bool:
    """Whether this request is the one that pays for the work."""
    return insert_if_new(connection, billed, {"bill_key": bill_key, "request_id": request_id})
