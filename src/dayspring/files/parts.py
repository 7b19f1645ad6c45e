"""Uploads under way and the parts of each that have arrived.

What holds: an upload leaves `pending` once, for `completed` or `cancelled`; a part's row appears when its bytes are on
disk; a number names one part of an upload, the last one that was sent under it.
"""

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    UniqueConstraint,
    delete,
    func,
    insert,
    select,
    update,
)

from dayspring.accounts.principals import Principal
from dayspring.core.errors import NotFound
from dayspring.files.records import visible
from dayspring.store.schema import metadata

__all__ = [
    "CANCELLED",
    "COMPLETED",
    "EXPIRED",
    "PENDING",
    "Part",
    "Upload",
    "add_part",
    "add_upload",
    "delete_uploads",
    "end_upload",
    "find_upload",
    "list_parts",
    "part_bytes",
    "pending_ids",
    "upload_parts",
    "uploads",
]

PENDING, COMPLETED, CANCELLED, EXPIRED = "pending", "completed", "cancelled", "expired"

uploads = Table(
    "uploads",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("organization_id", String(64), nullable=False),
    Column("project_id", String(64), nullable=False),
    Column("key_id", String(64), nullable=False),
    Column("user_id", String(64), nullable=False),
    Column("name", String(512), nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    # As the client promised.
    Column("keep_s", BigInteger),
    # How long the finished file is kept.
    Column("status", String(16), nullable=False),
    Column("file_id", String(64), nullable=False),
    # Empty until it is completed.
    Column("created_at_ns", BigInteger, nullable=False),
    Column("expires_at_ns", BigInteger, nullable=False),
    Index(None, "project_id", "status"),
    Index(None, "expires_at_ns"),
    Index(None, "user_id"),
)

upload_parts = Table(
    "upload_parts",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("upload_id", String(64), ForeignKey("uploads.id"), nullable=False),
    Column("project_id", String(64), nullable=False),
    Column("number", Integer),
    # The client's own, where it gave one.
    Column("size_bytes", BigInteger, nullable=False),
    Column("md5", String(32), nullable=False),
    Column("created_at_ns", BigInteger, nullable=False),
    UniqueConstraint("upload_id", "number"),
    Index(None, "project_id"),
)


class Upload(msgspec.Struct, frozen=True):
    id: str
    organization_id: str
    project_id: str
    key_id: str
    user_id: str
    name: str
    purpose: str
    size_bytes: int
    keep_s: int | None
    status: str
    file_id: str
    created_at_ns: int
    expires_at_ns: int

    def status_at(self, now_ns: int) -> str:
        """`expired` is a pending one whose time is over."""
        return EXPIRED if self.status == PENDING and self.expires_at_ns <= now_ns else self.status


class Part(msgspec.Struct, frozen=True):
    id: str
    upload_id: str
    project_id: str
    number: int | None
    size_bytes: int
    md5: str
    created_at_ns: int


def add_upload(connection: Connection, upload: Upload) -> None:
    connection.execute(insert(uploads), msgspec.structs.asdict(upload))


def find_upload(connection: Connection, principal: Principal, upload_id: str) -> Upload:
    """Raises NotFound, for another's upload as for none."""
    query = select(uploads).where(uploads.c.id == upload_id, *visible(principal, uploads))
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFound("upload", upload_id)
    return Upload(**row)


def pending_ids(connection: Connection, now_ns: int, project_id: str = "") -> set[str]:
    """Uploads that still take parts; of one project, or of all."""
    query = select(uploads.c.id).where(uploads.c.status == PENDING, uploads.c.expires_at_ns > now_ns)
    if project_id:
        query = query.where(uploads.c.project_id == project_id)
    return set(connection.execute(query).scalars())


def list_parts(connection: Connection, upload_id: str) -> list[Part]:
    """Numbered ones by number, then the others by age."""
    rows = connection.execute(select(upload_parts).where(upload_parts.c.upload_id == upload_id)).mappings()
    found = [Part(**row) for row in rows]
    return sorted(found, key=lambda part: (part.number is None, part.number or 0, part.id))


def add_part(connection: Connection, part: Part) -> str | None:
    """Adds it in the place of an earlier one of the same number, and returns that one's id."""
    replaced = None
    if part.number is not None:
        same = (upload_parts.c.upload_id == part.upload_id, upload_parts.c.number == part.number)
        replaced = connection.execute(select(upload_parts.c.id).where(*same)).scalar_one_or_none()
        connection.execute(delete(upload_parts).where(*same))
    connection.execute(insert(upload_parts), msgspec.structs.asdict(part))
    return replaced


def end_upload(connection: Connection, upload_id: str, status: str, file_id: str = "") -> bool:
    """Out of `pending`, with its parts' rows; False when another call was quicker."""
    pending = (uploads.c.id == upload_id, uploads.c.status == PENDING)
    if not connection.execute(update(uploads).where(*pending).values(status=status, file_id=file_id)).rowcount:
        return False
    connection.execute(delete(upload_parts).where(upload_parts.c.upload_id == upload_id))
    return True


def part_bytes(connection: Connection, project_id: str) -> int:
    """Bytes of the parts that wait in the project's uploads."""
    total = select(func.coalesce(func.sum(upload_parts.c.size_bytes), 0)).where(upload_parts.c.project_id == project_id)
    return int(connection.execute(total).scalar_one())


def delete_uploads(connection: Connection, *conditions: ColumnElement[bool]) -> int:
    """With their parts' rows; however many they are."""
    theirs = select(uploads.c.id).where(*conditions)
    connection.execute(delete(upload_parts).where(upload_parts.c.upload_id.in_(theirs)))
    return connection.execute(delete(uploads).where(*conditions)).rowcount
