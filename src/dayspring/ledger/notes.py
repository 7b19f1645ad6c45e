"""What a client sent along with a request for its own records: `metadata`, `user`, `safety_identifier`, ...

It may tell about a person, and usage rows are never changed, so it is kept beside them and not in them. What holds:
notes are written in the transaction of the usage row, and erasing them changes nothing that was booked.
"""

from typing import Any

import msgspec
from sqlalchemy import BigInteger, Column, Connection, Index, String, Table, Text

from dayspring.store.schema import metadata
from dayspring.store.statements import Statement, insert_new

__all__ = ["insert_notes", "request_notes"]

request_notes = Table(
    "request_notes",
    metadata,
    Column("request_id", String(64), primary_key=True),
    Column("organization_id", String(64), nullable=False),
    Column("project_id", String(64), nullable=False),
    Column("end_user", String(512), nullable=False),
    Column("safety_identifier", String(512), nullable=False),
    # Whom the client named as `user`, and as `safety_identifier`; empty for nobody.
    Column("metadata", Text, nullable=False),
    # JSON, as the client sent it.
    Column("created_at_ns", BigInteger, nullable=False),
    Index(None, "organization_id", "end_user"),
    Index(None, "organization_id", "safety_identifier"),
    Index(None, "project_id", "created_at_ns"),
    sqlite_with_rowid=False,
)

_insert = Statement(insert_new(request_notes), *request_notes.c.keys())
_encode = msgspec.json.Encoder(order="deterministic").encode


def insert_notes(
    connection: Connection, request_id: str, organization_id: str, project_id: str, sent: dict[str, Any], now_ns: int
) -> None:
    # A note of the client's own may have either name; PostgreSQL's texts hold no NUL, and a request that was answered
    # must be booked whatever its notes say.
    named = [str(sent.get(field) or "").replace("\0", "")[:512] for field in ("user", "safety_identifier")]
    _insert.run(connection, request_id, organization_id, project_id, *named, _encode(sent).decode(), now_ns)
