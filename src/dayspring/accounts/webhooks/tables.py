"""Where events are sent, and what is still to be sent.

The signing secret is kept as it is, because every message is signed with it: who can read the database can sign.
"""

import msgspec
from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, String, Table, Text

from dayspring.store.schema import metadata

__all__ = ["Endpoint", "webhook_deliveries", "webhook_endpoints"]

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("organization_id", String(64), nullable=False),
    Column("project_id", String(64), nullable=False),
    # Empty: the events of every project, and the organization's own.
    Column("name", String(200), nullable=False),
    Column("url", Text, nullable=False),
    Column("event_types", Text, nullable=False),
    # Names with a space between.
    Column("secret", String(200), nullable=False),
    Column("old_secret", String(200), nullable=False),
    # Signs too until then; empty: none.
    Column("old_secret_until_ns", BigInteger, nullable=False),
    Column("private", Boolean, nullable=False),
    # Made by the operator, so it may be in a private network.
    Column("created_at_ns", BigInteger, nullable=False),
    Column("updated_at_ns", BigInteger, nullable=False),
    Index(None, "organization_id"),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", String(64), primary_key=True),
    # The `webhook-id` of every attempt.
    Column("endpoint_id", String(64), nullable=False),
    Column("event_type", String(64), nullable=False),
    Column("body", Text, nullable=False),
    Column("created_at_ns", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_at_ns", BigInteger),
    # NULL once it has ended.
    Column("status", String(16), nullable=False),
    # pending, delivered or failed.
    Column("status_code", Integer),
    # Of the last answer; NULL: none came.
    Column("ended_at_ns", BigInteger),
    Index(None, "next_at_ns"),
    Index(None, "endpoint_id"),
)


class Endpoint(msgspec.Struct, frozen=True):
    """A row, its fields in the table's order."""

    id: str
    organization_id: str
    project_id: str
    name: str
    url: str
    event_types: str
    secret: str
    old_secret: str
    old_secret_until_ns: int
    private: bool
    created_at_ns: int
    updated_at_ns: int

    def __repr__(self) -> str:
        return f"Endpoint(id={self.id!r}, name={self.name!r})"
