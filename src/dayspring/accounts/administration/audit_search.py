"""Searching and exporting the audit log, in OpenAI's shape.

What holds: who manages an organization sees what happened in it and nothing else, and without that scope nothing; a
search for text takes `%` and `_` literally. Emails and addresses are joined in from where they can be erased.
"""

import csv
import io
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, RowMapping, Select, and_, or_, select

from dayspring.accounts.access import organization_for
from dayspring.accounts.audit import audit_log, audit_personal
from dayspring.accounts.keys import keys
from dayspring.accounts.organizations import projects
from dayspring.accounts.people.users import users
from dayspring.accounts.principals import Principal
from dayspring.core.errors import InvalidRequest, NotFound
from dayspring.store.database import Database

__all__ = ["AuditLog", "AuditQuery", "Entry", "entries_to_csv"]

_LONGEST_TEXT = 200
_EXPORTED_AT_ONCE = 1000


class AuditQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Filters; empty ones do not filter. Times are Unix seconds."""

    event_types: tuple[str, ...] = ()
    actor_ids: tuple[str, ...] = ()
    """Of users, service accounts or keys."""
    actor_emails: tuple[str, ...] = ()
    project_ids: tuple[str, ...] = ()
    resource_ids: tuple[str, ...] = ()
    text: str = ""
    """Somewhere in the event, the target, the actor or the details, in whatever case."""
    gt: int | None = None
    gte: int | None = None
    lt: int | None = None
    lte: int | None = None
    after: str | None = None
    before: str | None = None
    limit: int = 20


class Entry(msgspec.Struct, frozen=True):
    """One line of the log."""

    id: str
    at_ns: int
    event: str
    organization_id: str
    project_id: str
    project_name: str | None
    actor_kind: str
    actor_key_id: str
    actor_user_id: str
    actor_email: str | None
    service_account_id: str
    target_id: str
    details: dict[str, Any]
    address: str | None

    def as_openai(self) -> dict[str, Any]:
        """OpenAI's audit log object."""
        shown: dict[str, Any] = {"id": self.id, "type": self.event, "effective_at": self.at_ns // 10**9}
        if self.project_id:
            shown["project"] = {"id": self.project_id, "name": self.project_name or ""}
        user = {"id": self.actor_user_id, "email": self.actor_email}
        actor: dict[str, Any] = {"type": self.actor_kind}
        if self.actor_kind == "session":
            actor["session"] = {"user": user, "ip_address": self.address}
        elif self.actor_kind == "api_key":
            actor["api_key"] = {"id": self.actor_key_id, "type": "user" if self.actor_user_id else "service_account"}
            if self.actor_user_id:
                actor["api_key"]["user"] = user
            else:
                actor["api_key"]["service_account"] = {"id": self.service_account_id or self.actor_key_id}
            actor["api_key"]["ip_address"] = self.address
        shown["actor"] = actor
        shown[self.event] = {"id": self.target_id, **self.details}
        return shown


_ENTRIES: Select[Any] = (
    select(
        audit_log,
        projects.c.name.label("project_name"),
        users.c.email.label("actor_email"),
        keys.c.service_account_id,
        audit_personal.c.address,
    )
    .outerjoin(projects, projects.c.id == audit_log.c.project_id)
    .outerjoin(users, users.c.id == audit_log.c.actor_user_id)
    .outerjoin(keys, keys.c.id == audit_log.c.actor_key_id)
    .outerjoin(audit_personal, audit_personal.c.entry_id == audit_log.c.id)
)


class AuditLog:
    def __init__(self, db: Database) -> None:
        self._db = db

    async def list_entries(self, actor: Principal | None, query: AuditQuery) -> tuple[list[Entry], bool]:
        """Newest first, and whether there is more. For the terminal of every organization.

        Raises PermissionDenied, NotFound for a cursor that is no entry of one's own.
        """

        def find(connection: Connection) -> tuple[list[Entry], bool]:
            where = _scope(actor, connection)
            statement = _ENTRIES.where(*where, *_filters(query))
            for cursor, older in ((query.after, True), (query.before, False)):
                if cursor is not None:
                    statement = statement.where(_beyond(connection, cursor, where, older=older))
            backwards = query.before is not None and query.after is None
            at, identifier = audit_log.c.at_ns, audit_log.c.id
            order = (at.asc(), identifier.asc()) if backwards else (at.desc(), identifier.desc())
            rows = connection.execute(statement.order_by(*order).limit(query.limit + 1)).mappings().all()
            entries = [_entry(row) for row in rows[: query.limit]]
            return entries[::-1] if backwards else entries, len(rows) > query.limit

        return await self._db.read(find)

    async def export(self, actor: Principal | None, query: AuditQuery) -> AsyncIterator[list[Entry]]:
        """All that match, newest first, a bounded number at a time."""
        asked = msgspec.structs.replace(query, limit=_EXPORTED_AT_ONCE)
        while True:
            entries, more = await self.list_entries(actor, asked)
            yield entries
            if not more:
                return
            asked = msgspec.structs.replace(asked, after=entries[-1].id)


def entries_to_csv(entries: Sequence[Entry], *, header: bool) -> str:
    """One line each. A text that a spreadsheet would run as a formula is preceded by an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out)
    if header:
        writer.writerow(Entry.__struct_fields__)
    for entry in entries:
        writer.writerow(_cells(entry))
    return out.getvalue()


def _cells(entry: Entry) -> Iterator[object]:
    for name in Entry.__struct_fields__:
        value = getattr(entry, name)
        if isinstance(value, dict):
            value = msgspec.json.encode(value).decode()
        formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
        yield f"'{value}" if formula else value


def _scope(actor: Principal | None, connection: Connection) -> list[ColumnElement[bool]]:
    if actor is None:
        return []
    return [audit_log.c.organization_id == organization_for(actor, connection)]


def _filters(query: AuditQuery) -> list[ColumnElement[bool]]:
    where: list[ColumnElement[bool]] = []
    if query.event_types:
        where.append(audit_log.c.event.in_(query.event_types))
    if query.actor_ids:
        ids = (audit_log.c.actor_key_id, audit_log.c.actor_user_id, keys.c.service_account_id)
        where.append(or_(*(column.in_(query.actor_ids) for column in ids)))
    if query.actor_emails:
        where.append(users.c.email.in_(query.actor_emails))
    if query.project_ids:
        where.append(audit_log.c.project_id.in_(query.project_ids))
    if query.resource_ids:
        where.append(audit_log.c.target_id.in_(query.resource_ids))
    if query.text:
        if len(query.text) > _LONGEST_TEXT:
            raise InvalidRequest(f"One can search for at most {_LONGEST_TEXT} characters.", param="text")
        texts = (
            audit_log.c.event, audit_log.c.target_id, audit_log.c.actor_key_id, audit_log.c.details, users.c.email,
        )  # fmt: skip
        where.append(or_(*(column.icontains(query.text, autoescape=True) for column in texts)))
    return where + _when(query)


def _when(query: AuditQuery) -> list[ColumnElement[bool]]:
    at, second = audit_log.c.at_ns, 10**9
    for value in (query.gt, query.gte, query.lt, query.lte):
        if value is not None and not -(2**33) < value < 2**33:
            raise InvalidRequest("effective_at is in Unix seconds. Correct it.", param="effective_at")
    where: list[ColumnElement[bool]] = []
    if query.gt is not None:
        where.append(at >= (query.gt + 1) * second)
    if query.gte is not None:
        where.append(at >= query.gte * second)
    if query.lt is not None:
        where.append(at < query.lt * second)
    if query.lte is not None:
        where.append(at < (query.lte + 1) * second)
    return where


def _beyond(
    connection: Connection, cursor: str, where: Sequence[ColumnElement[bool]], *, older: bool
) -> ColumnElement[bool]:
    row = connection.execute(select(audit_log.c.at_ns).where(audit_log.c.id == cursor, *where)).first()
    if row is None:
        raise NotFound("audit log entry", cursor)
    at, identifier = audit_log.c.at_ns, audit_log.c.id
    if older:
        return or_(at < row.at_ns, and_(at == row.at_ns, identifier < cursor))
    return or_(at > row.at_ns, and_(at == row.at_ns, identifier > cursor))


def _entry(row: RowMapping) -> Entry:
    values = {name: row[name] for name in Entry.__struct_fields__}
    values["details"] = msgspec.json.decode(row["details"])
    values["service_account_id"] = row["service_account_id"] or ""
    values["address"] = row["address"] or None
    return Entry(**values)
