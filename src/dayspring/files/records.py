"""The files of projects: one row each, pointing at a stored file by its SHA-256.

What holds: a row appears only when its content is stored; who asks sees its own project's rows, who manages an
organization its organization's, an administrator all; one whose time is over is seen by nobody.
"""

from typing import Any, Literal

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Index,
    String,
    Table,
    delete,
    func,
    insert,
    or_,
    select,
)

from dayspring.accounts.principals import Principal, Scope
from dayspring.core.errors import NotFound, PermissionDenied
from dayspring.store.schema import metadata

__all__ = [
    "File",
    "FilePage",
    "FileQuery",
    "add_file",
    "check_scope",
    "delete_files",
    "files",
    "find_file",
    "list_files",
    "no_file",
    "stored_bytes",
    "visible",
]

files = Table(
    "files",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("organization_id", String(64), nullable=False),
    Column("project_id", String(64), nullable=False),
    Column("key_id", String(64), nullable=False),
    Column("user_id", String(64), nullable=False),
    Column("name", String(512), nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("media_type", String(200), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("created_at_ns", BigInteger, nullable=False),
    Column("expires_at_ns", BigInteger),
    Index(None, "project_id", "id"),
    Index(None, "organization_id", "id"),
    Index(None, "sha256"),
    Index(None, "expires_at_ns"),
    Index(None, "user_id"),
)


class File(msgspec.Struct, frozen=True):
    """One file of a project. `media_type` is what its content is, whatever its name says."""

    id: str
    organization_id: str
    project_id: str
    key_id: str
    user_id: str
    name: str
    """As the client named it, without folders and control characters. Never a path here."""
    purpose: str
    media_type: str
    sha256: str
    size_bytes: int
    created_at_ns: int
    expires_at_ns: int | None = None


class FileQuery(msgspec.Struct, frozen=True):
    purpose: str = ""
    limit: int = 10_000
    after: str = ""
    order: Literal["asc", "desc"] = "desc"


class FilePage(msgspec.Struct, frozen=True):
    data: list[File]
    has_more: bool


def check_scope(principal: Principal) -> None:
    """Raises PermissionDenied for a key that may neither call models nor manage."""
    if not principal.may(Scope.INFERENCE) and not principal.may(Scope.MANAGE):
        raise PermissionDenied("This key may not use files", "Use a key with the scope 'inference'.")


def visible(principal: Principal, table: Table) -> list[ColumnElement[bool]]:
    """Conditions on a table with project and organization: what the principal may see of it."""
    if principal.is_admin:
        return []
    if principal.may(Scope.MANAGE):
        return [table.c.organization_id == principal.organization_id]
    return [table.c.project_id == principal.project_id]


def _live(now_ns: int) -> ColumnElement[bool]:
    return or_(files.c.expires_at_ns.is_(None), files.c.expires_at_ns > now_ns)


def find_file(connection: Connection, principal: Principal, file_id: str, now_ns: int) -> File:
    """Raises NotFound, for another's file as for none."""
    query = select(files).where(files.c.id == file_id, _live(now_ns), *visible(principal, files))
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise no_file(file_id)
    return File(**row)


def no_file(file_id: str) -> NotFound:
    return NotFound("file", file_id, "GET /v1/files lists those of this project.")


def list_files(connection: Connection, principal: Principal, query: FileQuery, now_ns: int) -> FilePage:
    """By age. Raises NotFound when `after` is no file that the principal sees."""
    conditions = [_live(now_ns), *visible(principal, files)]
    if query.purpose:
        conditions.append(files.c.purpose == query.purpose)
    if query.after:
        find_file(connection, principal, query.after, now_ns)
        conditions.append(files.c.id > query.after if query.order == "asc" else files.c.id < query.after)
    order = files.c.id.asc() if query.order == "asc" else files.c.id.desc()
    rows = connection.execute(select(files).where(*conditions).order_by(order).limit(query.limit + 1)).mappings()
    found = [File(**row) for row in rows]
    return FilePage(found[: query.limit], len(found) > query.limit)


def add_file(connection: Connection, file: File) -> None:
    connection.execute(insert(files), msgspec.structs.asdict(file))


def delete_files(connection: Connection, *conditions: ColumnElement[bool]) -> list[Any]:
    """Deletes the rows, and returns (id, sha256) of each."""
    gone = list(connection.execute(select(files.c.id, files.c.sha256).where(*conditions)))
    if gone:
        connection.execute(delete(files).where(*conditions))
    return gone


def stored_bytes(connection: Connection, project_id: str) -> int:
    """Bytes of the project's files. A content that two files share counts twice."""
    total = select(func.coalesce(func.sum(files.c.size_bytes), 0)).where(files.c.project_id == project_id)
    return int(connection.execute(total).scalar_one())
