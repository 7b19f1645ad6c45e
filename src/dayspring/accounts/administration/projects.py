"""Organizations, projects and who is in them: the administrator's verbs, with who asks.

Each verb takes `actor` (None: the terminal on this machine), checks it inside its transaction and writes the audit log
there. What holds: an archived project's keys and sessions are refused at once in this process and within a second in
others, and it cannot be brought back; nothing of it is deleted.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from dayspring.accounts.access import check_over, organization_for, organization_of, project_for, visible_project
from dayspring.accounts.administration.desk import Desk
from dayspring.accounts.audit import record
from dayspring.accounts.organizations import (
    Organization,
    Project,
    add_organization,
    add_project,
    change_project,
    find_organization,
    list_organizations,
    list_projects,
)
from dayspring.accounts.people.memberships import Membership, close_projects, list_members, open_project
from dayspring.accounts.people.roles import Role
from dayspring.accounts.people.users import find_user, list_users
from dayspring.accounts.principals import Principal, Scope
from dayspring.accounts.retention import quota_of, retention_of, set_quota, set_retention
from dayspring.core.errors import Conflict, NotFound, PermissionDenied
from dayspring.core.ids import new_id

__all__ = ["Projects"]


class Projects(Desk):
    async def create_organization(self, actor: Principal | None, name: str) -> tuple[Organization, Project]:
        """Another organization with its first project, for operators only."""
        now_ns, organization_id, project_id = self._clock.time_ns(), new_id("org"), new_id("proj")
        _check_operator(actor)

        def make(connection: Connection) -> tuple[Organization, Project]:
            add_organization(connection, organization_id, name, now_ns)
            project = Project(project_id, organization_id, "default", now_ns)
            add_project(connection, project)
            for event, target in (("organization.created", organization_id), ("project.created", project_id)):
                record(
                    connection, now_ns=now_ns, actor=actor, event=event, target_id=target,
                    organization_id=organization_id, project_id=project_id if target == project_id else "",
                )  # fmt: skip
            return find_organization(connection, organization_id), project

        return await self._change(make)

    async def list_organizations(self, actor: Principal | None) -> list[Organization]:
        """All, oldest first, for operators only."""
        _check_operator(actor)
        return await self._db.read(list_organizations)

    async def get_organization(self, actor: Principal | None, organization_id: str) -> Organization:
        """Raises NotFound, also for another's."""
        if organization_of(actor) not in (None, organization_id):
            raise NotFound("organization", organization_id)
        return await self._db.read(lambda connection: find_organization(connection, organization_id))

    async def create(self, actor: Principal | None, name: str) -> Project:
        """Raises Conflict for a name that is taken."""
        now_ns, project_id = self._clock.time_ns(), new_id("proj")

        def make(connection: Connection) -> Project:
            project = Project(project_id, organization_for(actor, connection), name, now_ns)
            add_project(connection, project)
            _record(connection, actor, "project.created", project, now_ns, {"data": {"name": name}})
            return project

        return await self._change(make)

    async def list_projects(
        self, actor: Principal | None, *, archived: bool = False, after: str | None = None, limit: int = 100
    ) -> list[Project]:
        """The organization's, or for who may manage one project that one; oldest first, at most `limit`."""

        def find(connection: Connection) -> list[Project]:
            if actor is not None and not actor.may(Scope.MANAGE):
                mine = [visible_project(actor, connection, actor.project_id)] if actor.project_id else []
                return [project for project in mine if after is None or project.id > after][:limit]
            own = organization_for(actor, connection)
            return list_projects(connection, own, archived=archived, after=after, limit=limit)

        return await self._db.read(find)

    async def get(self, actor: Principal | None, project_id: str) -> Project:
        """Raises NotFound, also for another's."""
        return await self._db.read(lambda connection: visible_project(actor, connection, project_id))

    async def rename(self, actor: Principal | None, project_id: str, name: str) -> Project:
        """Raises NotFound, PermissionDenied, Conflict for a name that is taken."""
        now_ns = self._clock.time_ns()

        def make(connection: Connection) -> Project:
            project = project_for(actor, connection, project_id)
            change_project(connection, project_id, name=name)
            _record(connection, actor, "project.updated", project, now_ns, {"changes_requested": {"name": name}})
            return visible_project(actor, connection, project_id)

        return await self._change(make)

    async def archive(self, actor: Principal | None, project_id: str) -> Project:
        """Ends its keys and sessions. Idempotent. Raises NotFound, PermissionDenied."""
        now_ns = self._clock.time_ns()

        def make(connection: Connection) -> Project:
            project = visible_project(actor, connection, project_id)
            organization_for(actor, connection)
            if project.archived_at_ns is None:
                change_project(connection, project_id, archived_at_ns=now_ns)
                _record(connection, actor, "project.archived", project, now_ns, {})
            return visible_project(actor, connection, project_id)

        return await self._change(make, project_id)

    async def members(
        self, actor: Principal | None, project_id: str, *, after: str | None = None, limit: int = 100
    ) -> list[Membership]:
        """Who is in the project, besides the organization's administrators. Raises NotFound, PermissionDenied."""

        def find(connection: Connection) -> list[Membership]:
            project_for(actor, connection, project_id)
            return list_members(connection, project_id, after=after, limit=limit)

        return await self._db.read(find)

    async def member(self, actor: Principal | None, project_id: str, user_id: str) -> Membership:
        """Raises NotFound, PermissionDenied."""

        def find(connection: Connection) -> Membership:
            project_for(actor, connection, project_id)
            return _member(connection, project_id, user_id)

        return await self._db.read(find)

    async def open_to(
        self, actor: Principal | None, project_id: str, role: Role, *, user_id: str = "", email: str = ""
    ) -> Membership:
        """Gives a user of the same organization the role in the project, or another one. Ends nothing they hold."""
        now_ns = self._clock.time_ns()

        def make(connection: Connection) -> Membership:
            project = project_for(actor, connection, project_id)
            if project.archived_at_ns is not None:
                raise Conflict("This project is archived", "Use another one.")
            if user_id:
                user = find_user(connection, user_id, project.organization_id)
            else:
                found = list_users(connection, project.organization_id, emails=[email], limit=1)
                if not found:
                    raise NotFound("user", email, "Invite them first.", param="email")
                user = found[0]
            check_over(actor, user)
            open_project(connection, project_id, user.id, role, now_ns)
            details = {"data": {"user_id": user.id, "role": role}}
            _record(connection, actor, "role.assignment.created", project, now_ns, details, target_id=user.id)
            return _member(connection, project_id, user.id)

        member = await self._change(make, project_id)
        self._authentication.forget(member.user_id)
        return member

    async def close_to(self, actor: Principal | None, project_id: str, user_id: str) -> None:
        """Takes the user out of the project. Raises NotFound, PermissionDenied."""
        now_ns = self._clock.time_ns()

        def make(connection: Connection) -> None:
            project = project_for(actor, connection, project_id)
            _member(connection, project_id, user_id)
            check_over(actor, find_user(connection, user_id, project.organization_id))
            close_projects(connection, user_id, project_id)
            _record(connection, actor, "role.assignment.deleted", project, now_ns, {}, target_id=user_id)

        await self._change(make, user_id)

    async def retention(self, actor: Principal | None, project_id: str) -> dict[str, int]:
        """Days by kind. Raises NotFound."""

        def find(connection: Connection) -> dict[str, int]:
            visible_project(actor, connection, project_id)
            return retention_of(connection, project_id)

        return await self._db.read(find)

    async def set_retention(
        self, actor: Principal | None, project_id: str, days: Mapping[str, int | None]
    ) -> dict[str, int]:
        """Sets the kinds named; None keeps that kind. Raises NotFound, PermissionDenied, InvalidRequest."""
        now_ns = self._clock.time_ns()

        def make(connection: Connection) -> dict[str, int]:
            project = project_for(actor, connection, project_id)
            set_retention(connection, project_id, days)
            details = {"changes_requested": {"data_retention": dict(days)}}
            _record(connection, actor, "project.updated", project, now_ns, details)
            return retention_of(connection, project_id)

        return await self._change(make)

    async def quota(self, actor: Principal | None, project_id: str) -> int | None:
        """Bytes; None for no limit. Raises NotFound."""

        def find(connection: Connection) -> int | None:
            visible_project(actor, connection, project_id)
            return quota_of(connection, project_id)

        return await self._db.read(find)

    async def set_quota(self, actor: Principal | None, project_id: str, limit_bytes: int | None) -> None:
        """For who manages the organization: a project does not give itself room. Raises as `set_retention`."""
        now_ns = self._clock.time_ns()

        def make(connection: Connection) -> None:
            project = visible_project(actor, connection, project_id)
            organization_for(actor, connection)
            set_quota(connection, project_id, limit_bytes)
            details = {"changes_requested": {"storage_limit_bytes": limit_bytes}}
            _record(connection, actor, "project.updated", project, now_ns, details)

        await self._change(make)


def _check_operator(actor: Principal | None) -> None:
    if actor is not None and not actor.is_admin:
        raise PermissionDenied("This is for the installation's administrators", "Ask one of them.")


def _member(connection: Connection, project_id: str, user_id: str) -> Membership:
    found = list_members(connection, project_id, user_id=user_id)
    if not found:
        raise NotFound("user", user_id)
    return found[0]


def _record(
    connection: Connection, actor: Principal | None, event: str, project: Project, now_ns: int,
    details: dict[str, Any], target_id: str = "",
) -> None:  # fmt: skip
    record(
        connection, now_ns=now_ns, actor=actor, event=event, target_id=target_id or project.id,
        organization_id=project.organization_id, project_id=project.id, details=details,
    )  # fmt: skip
