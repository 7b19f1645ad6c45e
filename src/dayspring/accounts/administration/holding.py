"""What the accounts keep of a person: the user, sessions, keys, and what is personal in the audit log.

What holds: after `erase` no row here names or locates the person. The user's row itself goes last, so an erasure that
was cut short can be asked for again; keys stay for their books, without their name.
"""

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Table, delete, or_, select, update

from dayspring.accounts.audit import audit_log, audit_personal
from dayspring.accounts.keys import keys
from dayspring.accounts.people.invites import invites, password_resets
from dayspring.accounts.people.memberships import project_members
from dayspring.accounts.people.sessions import sessions
from dayspring.accounts.people.users import users
from dayspring.contracts.holdings import Held, Subject
from dayspring.store.database import Database

__all__ = ["ERASED", "AccountRecords"]

ERASED = "erased"
"""The name of an erased person's keys."""

_SECRETS = frozenset({"password", "digest", "prefix", "previous_digest", "previous_prefix"})
_AT_ONCE = 1000


class AccountRecords:
    """See `contracts.holdings.Holder`. Its kind is `logs`: what expires are the addresses beside the audit log."""

    kind = "logs"

    def __init__(self, db: Database) -> None:
        self._db = db

    async def export(self, subject: Subject) -> AsyncIterator[Held]:
        """`account/*.json`, without any secret. An end user has no account."""
        user_id = subject.user_id
        if not user_id:
            return
        own = audit_log.c.id.in_(select(audit_personal.c.entry_id).where(audit_personal.c.user_id == user_id))
        about = or_(audit_log.c.actor_user_id == user_id, audit_log.c.target_id == user_id, own)
        parts: Sequence[tuple[str, Table, ColumnElement[bool]]] = (
            ("user", users, users.c.id == user_id),
            ("projects", project_members, project_members.c.user_id == user_id),
            ("sessions", sessions, sessions.c.user_id == user_id),
            ("keys", keys, keys.c.user_id == user_id),
            ("invites", invites, invites.c.user_id == user_id),
            ("audit_log", audit_log, about),
            ("addresses", audit_personal, audit_personal.c.user_id == user_id),
        )
        for name, table, where in parts:
            rows = await self._db.read(partial(_rows, table, where))
            yield Held(f"account/{name}.json", msgspec.json.format(msgspec.json.encode(rows)))

    async def erase(self, subject: Subject) -> int:
        user_id = subject.user_id
        if not user_id:
            return 0

        def make(connection: Connection) -> int:
            email = connection.execute(select(users.c.email).where(users.c.id == user_id)).scalar_one_or_none() or ""
            gone = 0
            for table, where in (
                (audit_personal, audit_personal.c.user_id == user_id),
                (sessions, sessions.c.user_id == user_id),
                (password_resets, password_resets.c.user_id == user_id),
                (project_members, project_members.c.user_id == user_id),
                (invites, or_(invites.c.user_id == user_id, invites.c.login == email.casefold()[:320])),
            ):
                gone += connection.execute(delete(table).where(where)).rowcount
            connection.execute(update(keys).where(keys.c.user_id == user_id).values(name=ERASED))
            return gone + connection.execute(delete(users).where(users.c.id == user_id)).rowcount

        return await self._db.write(make)

    async def expire(self, project_id: str, before_ns: int) -> int:
        query = (
            select(audit_personal.c.entry_id)
            .join(audit_log, audit_log.c.id == audit_personal.c.entry_id)
            .where(audit_log.c.project_id == project_id, audit_personal.c.at_ns < before_ns)
            .limit(_AT_ONCE)
        )
        expired = 0
        while True:
            found = await self._db.read(lambda connection: connection.execute(query).scalars().all())
            if not found:
                return expired
            statement = delete(audit_personal).where(audit_personal.c.entry_id.in_(found))
            expired += await self._db.write(lambda connection: connection.execute(statement).rowcount)  # noqa: B023

    async def stored_bytes(self, project_id: str) -> int:
        """None: the database does not count towards the quota."""
        return 0


def _rows(table: Table, where: ColumnElement[bool], connection: Connection) -> list[dict[str, Any]]:
    columns = [column for column in table.c if column.name not in _SECRETS]
    return [dict(row) for row in connection.execute(select(*columns).where(where)).mappings()]
