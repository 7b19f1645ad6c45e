"""Webhook endpoints: the verbs of those who manage a project or an organization.

What holds: every endpoint has a secret, made here and shown once; an address inside a private network can be given by
the operator alone; another's endpoint is not found, like one that does not exist.
"""

import re

import msgspec
from sqlalchemy import ColumnElement, Connection, delete, select, true, update

from dayspring.accounts import audit
from dayspring.accounts.organizations import find_project
from dayspring.accounts.principals import Principal, Scope
from dayspring.accounts.webhooks.outbox import known_events
from dayspring.accounts.webhooks.signing import new_secret
from dayspring.accounts.webhooks.tables import Endpoint, webhook_deliveries, webhook_endpoints
from dayspring.contracts.clock import Clock
from dayspring.core.errors import Conflict, InvalidRequest, NotFound, PermissionDenied
from dayspring.core.ids import new_id
from dayspring.net.locations import location
from dayspring.store.database import Database

__all__ = ["EndpointChange", "EndpointRequest", "Webhooks", "find_endpoint"]

MAX_ENDPOINTS = 100
"""Of one organization."""
GRACE_NS = 24 * 3600 * 10**9


class EndpointRequest(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    url: str
    event_types: tuple[str, ...]
    project_id: str | None = None
    """None: the caller's own; empty: the organization as a whole."""


class EndpointChange(msgspec.Struct, frozen=True, kw_only=True):
    """None: as it was."""

    name: str | None = None
    url: str | None = None
    event_types: tuple[str, ...] | None = None


class Webhooks:
    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def create(self, principal: Principal, request: EndpointRequest) -> Endpoint:
        """Raises InvalidRequest, Refused for an address out of bounds, Conflict for one endpoint too many, NotFound for
        a project of another organization."""
        project_id = principal.project_id if request.project_id is None else request.project_id
        if not principal.may_manage(principal.organization_id, project_id):
            raise _denied()
        now_ns = self._clock.time_ns()
        made = Endpoint(
            new_id("whe"), principal.organization_id, project_id, request.name, request.url,
            " ".join(sorted(set(request.event_types))), new_secret(), "", 0, principal.is_admin, now_ns, now_ns,
        )  # fmt: skip
        self._check(made)

        def add(connection: Connection) -> Endpoint:
            if project_id and find_project(connection, project_id).organization_id != made.organization_id:
                raise NotFound("project", project_id)
            ours = select(webhook_endpoints.c.id).where(webhook_endpoints.c.organization_id == made.organization_id)
            if len(connection.execute(ours.limit(MAX_ENDPOINTS)).all()) >= MAX_ENDPOINTS:
                raise Conflict(f"There are {MAX_ENDPOINTS} webhook endpoints already", "Delete one.")
            connection.execute(webhook_endpoints.insert(), msgspec.structs.asdict(made))
            self._record(connection, principal, "webhook_endpoint.created", made, now_ns)
            return made

        return await self._db.write(add)

    async def list(self, principal: Principal, after: str | None = None, limit: int = 20) -> list[Endpoint]:
        """Oldest first, one more than `limit` where there are more."""
        query = select(webhook_endpoints).where(_visible(principal)).order_by(webhook_endpoints.c.id).limit(limit + 1)
        if after is not None:
            query = query.where(webhook_endpoints.c.id > after)
        return await self._db.read(lambda connection: [Endpoint(*row) for row in connection.execute(query)])

    async def get(self, principal: Principal, endpoint_id: str) -> Endpoint:
        """Raises NotFound."""
        return await self._db.read(lambda connection: find_endpoint(connection, principal, endpoint_id))

    async def change(self, principal: Principal, endpoint_id: str, change: EndpointChange) -> Endpoint:
        """Raises NotFound, InvalidRequest, Refused."""
        now_ns = self._clock.time_ns()
        fields: dict[str, object] = {
            name: value for name, value in msgspec.structs.asdict(change).items() if value is not None
        }
        if change.event_types is not None:
            fields["event_types"] = " ".join(sorted(set(change.event_types)))
        if change.url is not None:
            fields["private"] = principal.is_admin

        def edit(connection: Connection) -> Endpoint:
            found = find_endpoint(connection, principal, endpoint_id)
            changed = msgspec.structs.replace(found, **fields)
            if changed == found:
                return found
            self._check(changed)
            return self._store(connection, principal, msgspec.structs.replace(changed, updated_at_ns=now_ns), "updated")

        return await self._db.write(edit)

    async def rotate_secret(self, principal: Principal, endpoint_id: str, *, keep_old: bool = False) -> Endpoint:
        """A new secret; with `keep_old` the present one signs too for 24 hours."""
        now_ns, secret = self._clock.time_ns(), new_secret()

        def edit(connection: Connection) -> Endpoint:
            found = find_endpoint(connection, principal, endpoint_id)
            rotated = msgspec.structs.replace(
                found, secret=secret, old_secret=found.secret if keep_old else "",
                old_secret_until_ns=now_ns + GRACE_NS if keep_old else 0, updated_at_ns=now_ns,
            )  # fmt: skip
            return self._store(connection, principal, rotated, "secret_rotated")

        return await self._db.write(edit)

    async def delete(self, principal: Principal, endpoint_id: str) -> None:
        """With everything that was still to be sent to it. Raises NotFound."""
        now_ns = self._clock.time_ns()

        def drop(connection: Connection) -> None:
            found = find_endpoint(connection, principal, endpoint_id)
            connection.execute(delete(webhook_deliveries).where(webhook_deliveries.c.endpoint_id == found.id))
            connection.execute(delete(webhook_endpoints).where(webhook_endpoints.c.id == found.id))
            self._record(connection, principal, "webhook_endpoint.deleted", found, now_ns)

        await self._db.write(drop)

    def _store(self, connection: Connection, principal: Principal, endpoint: Endpoint, what: str) -> Endpoint:
        values = msgspec.structs.asdict(endpoint)
        connection.execute(update(webhook_endpoints).where(webhook_endpoints.c.id == endpoint.id).values(values))
        self._record(connection, principal, f"webhook_endpoint.{what}", endpoint, endpoint.updated_at_ns)
        return endpoint

    def _record(self, connection: Connection, principal: Principal, event: str, of: Endpoint, now_ns: int) -> None:
        details = {"data": {"name": of.name, "event_types": of.event_types.split()}}
        audit.record(
            connection, now_ns=now_ns, actor=principal, event=event, target_id=of.id,
            organization_id=of.organization_id, project_id=of.project_id, details=details,
        )  # fmt: skip

    def _check(self, endpoint: Endpoint) -> None:
        if not endpoint.name.strip() or len(endpoint.name) > 200:
            raise InvalidRequest("A webhook's name has 1 to 200 characters. Give another.", param="name")
        location(endpoint.url, private=endpoint.private)
        wanted = set(endpoint.event_types.split())
        if not wanted or not wanted <= known_events:
            known = ", ".join(sorted(known_events))
            raise InvalidRequest(f"The events sent here are {known}. Choose out of these.", param="event_types")


def find_endpoint(connection: Connection, principal: Principal, endpoint_id: str) -> Endpoint:
    """Raises NotFound, also for another's."""
    row = None
    if re.fullmatch(r"[\w-]{1,64}", endpoint_id):
        query = select(webhook_endpoints).where(webhook_endpoints.c.id == endpoint_id, _visible(principal))
        row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound("webhook endpoint", endpoint_id[:64])
    return Endpoint(*row)


def _visible(principal: Principal) -> ColumnElement[bool]:
    """Which rows the caller manages. Raises PermissionDenied for one who manages nothing."""
    if principal.is_admin:
        return true()
    ours = webhook_endpoints.c.organization_id == principal.organization_id
    if principal.may(Scope.MANAGE):
        return ours
    if principal.may(Scope.PROJECT):
        return ours & (webhook_endpoints.c.project_id == principal.project_id)
    raise _denied()


def _denied() -> PermissionDenied:
    return PermissionDenied("This key may not manage webhooks", "Use a key of a manager of the project.")
