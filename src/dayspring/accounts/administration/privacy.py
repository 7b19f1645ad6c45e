"""A person's data: all of it in one file, or gone. A person is one of our users, or whom a client named as end user.

What holds: every room's holder is asked, so nothing that is kept is left out; an erasure that was cut short ends when
it is asked for again; the books stay as they were booked, and name nobody afterwards. Both are in the audit log, by id.
What it does not do: reach backups. What was erased since must be erased again in a restored one.
"""

import asyncio
import zipfile
from collections.abc import Sequence
from typing import IO

import msgspec
from sqlalchemy import Connection

from dayspring.accounts.access import check_over, organization_for, organization_of
from dayspring.accounts.administration.desk import Desk
from dayspring.accounts.audit import record
from dayspring.accounts.authentication import Authentication
from dayspring.accounts.organizations import list_organizations
from dayspring.accounts.people.service import forget_user
from dayspring.accounts.people.users import find_user
from dayspring.accounts.principals import Principal
from dayspring.contracts.clock import Clock
from dayspring.contracts.holdings import Holder, Subject
from dayspring.core.errors import InvalidRequest
from dayspring.store.database import Database

__all__ = ["Privacy"]

_LONGEST_END_USER = 512


class Privacy(Desk):
    """`holders` is shared: rooms may be added to it later."""

    def __init__(self, db: Database, clock: Clock, authentication: Authentication, holders: Sequence[Holder]) -> None:
        super().__init__(db, clock, authentication)
        self._holders = holders

    async def user(self, actor: Principal | None, user_id: str) -> Subject:
        """Who shall be exported: any user of the organization, removed ones too, or oneself. Raises NotFound."""

        def find(connection: Connection) -> Subject:
            if actor is None or not (actor.is_session and actor.user_id == user_id):
                organization_for(actor, connection)
            user = find_user(connection, user_id, organization_of(actor), removed=True)
            return Subject(user.organization_id, user_id=user.id)

        return await self._db.read(find)

    async def end_user(self, actor: Principal | None, end_user: str) -> Subject:
        """Whom a client of the organization named as `user` or `safety_identifier`. Raises PermissionDenied."""
        if not 1 <= len(end_user) <= _LONGEST_END_USER:
            raise InvalidRequest(f"An end user's name has 1 to {_LONGEST_END_USER} characters.", param="end_user")
        organization_id = await self._db.read(lambda connection: organization_for(actor, connection))
        return Subject(organization_id, end_user=end_user)

    async def export(self, actor: Principal | None, subject: Subject, out: IO[bytes]) -> int:
        """Writes everything kept of the person into `out`, as one zip. How many things."""
        now_ns, things, listed = self._clock.time_ns(), 0, []
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for holder in self._holders:
                async for held in holder.export(subject):
                    await asyncio.to_thread(archive.writestr, held.name, held.content)
                    listed.append(held.name)
                    things += 1
            about = {"exported_at_ns": now_ns, "subject": msgspec.to_builtins(subject), "files": listed}
            content = msgspec.json.format(msgspec.json.encode(about))
            await asyncio.to_thread(archive.writestr, "contents.json", content)
        await self._change(lambda connection: self._record(connection, actor, subject, "exported", now_ns))
        return things

    async def erase_user(self, actor: Principal | None, user_id: str) -> int:
        """Removes the user and erases everything kept of them. How many things. Raises NotFound, PermissionDenied."""
        now_ns = self._clock.time_ns()

        def remove(connection: Connection) -> None:
            organization_for(actor, connection)
            user = find_user(connection, user_id, organization_of(actor), removed=True)
            check_over(actor, user)
            if not user.is_removed:
                forget_user(connection, user_id, now_ns)
            self._record(connection, actor, Subject(user.organization_id, user_id=user_id), "erased", now_ns)

        await self._change(remove, user_id)
        # An operator may have worked in every organization.
        everywhere = await self._db.read(list_organizations)
        return await self._erase(*(Subject(each.id, user_id=user_id) for each in everywhere))

    async def erase_end_user(self, actor: Principal | None, end_user: str, organization_id: str | None = None) -> int:
        """Erases everything kept of whom clients named so. How many things. The terminal may name an organization."""
        subject, now_ns = await self.end_user(actor, end_user), self._clock.time_ns()
        if actor is None and organization_id is not None:
            subject = Subject(organization_id, end_user=end_user)
        await self._change(lambda connection: self._record(connection, actor, subject, "erased", now_ns))
        return await self._erase(subject)

    async def _erase(self, *subjects: Subject) -> int:
        """In the order opposite to an export's: the account, by which the rest is found, goes last."""
        return sum([await holder.erase(subject) for holder in reversed(self._holders) for subject in subjects])

    def _record(
        self, connection: Connection, actor: Principal | None, subject: Subject, what: str, now_ns: int
    ) -> None:
        # An end user's name may be an address, and the log is for ever: neither it nor a digest of it is told.
        kind = "user" if subject.user_id else "end_user"
        record(
            connection, now_ns=now_ns, actor=actor, event=f"{kind}.{what}", target_id=subject.user_id or kind,
            organization_id=subject.organization_id,
        )  # fmt: skip
