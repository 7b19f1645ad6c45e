"""Models on their way in: one row for each order, so that a restart goes on with it. How far it is, the files tell."""

import msgspec
from sqlalchemy import BigInteger, Column, Connection, Index, LargeBinary, String, Table, Text, insert, select, update

from dayspring.store.schema import metadata

__all__ = [
    "DownloadRow",
    "add_download",
    "find_download",
    "list_downloads",
    "move_downloads",
    "set_download",
    "unfinished_downloads",
]

hub_downloads = Table(
    "hub_downloads",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("home", Text, nullable=False, comment="The data folder of the server that fetches it."),
    Column("model_id", String(200), nullable=False),
    Column("source", Text, nullable=False),
    Column("plan", LargeBinary, nullable=False, comment="The Plan as JSON; it holds no secret."),
    Column("accepted_by", String(200), nullable=False),
    Column("status", String(16), nullable=False),
    Column("error_code", String(64), nullable=False),
    Column("error_message", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False, comment="Unix seconds."),
    Column("updated_at", BigInteger, nullable=False),
    Index(None, "status"),
)


class DownloadRow(msgspec.Struct, frozen=True):
    id: str
    home: str
    model_id: str
    source: str
    plan: bytes
    accepted_by: str
    """Who accepts the licence where that is needed; empty: nobody."""
    status: str
    """`running`, `paused`, `completed`, `failed` or `cancelled`."""
    error_code: str
    error_message: str
    created_at: int
    updated_at: int


_columns = [hub_downloads.c[name] for name in DownloadRow.__struct_fields__]


def add_download(connection: Connection, row: DownloadRow) -> None:
    connection.execute(insert(hub_downloads), msgspec.structs.asdict(row))


def set_download(
    connection: Connection,
    download_id: str,
    status: str,
    now: int,
    *,
    allowed: tuple[str, ...],
    code: str = "",
    message: str = "",
) -> bool:
    """Whether it was in one of the `allowed` states, and is in the new one now."""
    fields = {"status": status, "updated_at": now, "error_code": code, "error_message": message}
    here = hub_downloads.c.id == download_id
    changed = connection.execute(update(hub_downloads).where(here, hub_downloads.c.status.in_(allowed)).values(fields))
    return bool(changed.rowcount)


def find_download(connection: Connection, download_id: str) -> DownloadRow | None:
    row = connection.execute(select(*_columns).where(hub_downloads.c.id == download_id)).first()
    return DownloadRow(*row) if row else None


def list_downloads(connection: Connection, after: str, limit: int) -> list[DownloadRow]:
    """Newest first, those made before the one of id `after`."""
    query = select(*_columns).order_by(hub_downloads.c.id.desc()).limit(limit)
    if after:
        query = query.where(hub_downloads.c.id < after)
    return [DownloadRow(*row) for row in connection.execute(query)]


def unfinished_downloads(connection: Connection, home: str) -> list[DownloadRow]:
    """Those that a server of this data folder was fetching when it ended, oldest first."""
    query = select(*_columns).where(hub_downloads.c.status == "running", hub_downloads.c.home == home)
    return [DownloadRow(*row) for row in connection.execute(query.order_by(hub_downloads.c.id))]


def move_downloads(connection: Connection, home: str) -> None:
    """All of them are of this data folder now: a restored server goes on with what the backup's was fetching."""
    connection.execute(update(hub_downloads).values(home=home))
