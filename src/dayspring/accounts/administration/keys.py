"""Keys and service accounts: the administrator's verbs, with who asks; and what people may do with their own keys.

Each verb takes `actor` (None: the terminal on this machine), checks it inside its transaction and writes the audit log
there. What holds: nobody makes, changes or takes over a key that may do more than they; a key keeps its id, budget and
history through a rotation; what ends here ends at once in this process and within a second in others.
"""

from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection

from dayspring.accounts.access import (
    check_grant,
    check_over,
    may_manage,
    organization_for,
    project_for,
    visible_project,
)
from dayspring.accounts.administration.desk import Desk
from dayspring.accounts.administration.service_accounts import (
    ServiceAccount,
    add_service_account,
    delete_service_account,
    find_service_account,
    list_service_accounts,
    rename_service_account,
)
from dayspring.accounts.audit import record
from dayspring.accounts.keys import (
    Key,
    add_key,
    change_key,
    check_key,
    credential_of,
    find_key,
    keys,
    list_keys,
    new_token,
    prefix_of,
    revoke_key,
    rotate_key,
)
from dayspring.accounts.organizations import Project, list_projects
from dayspring.accounts.people.memberships import list_members
from dayspring.accounts.people.roles import Role
from dayspring.accounts.people.users import User, find_user
from dayspring.accounts.principals import Principal, Scope
from dayspring.accounts.service import KeyRequest, NewKey
from dayspring.core.errors import Conflict, InvalidRequest, NotFound, PermissionDenied
from dayspring.core.ids import new_id

__all__ = ["LONGEST_GRACE_S", "KeyChange", "KeyOwner", "Keys"]

LONGEST_GRACE_S = 90 * 86_400

_MANAGING = frozenset({Scope.MANAGE, Scope.ADMIN})


class KeyChange(msgspec.Struct, frozen=True, kw_only=True):
    """What is set is changed."""

    name: str | msgspec.UnsetType = msgspec.UNSET
    scopes: frozenset[str] | msgspec.UnsetType = msgspec.UNSET
    allowed_models: frozenset[str] | msgspec.UnsetType | None = msgspec.UNSET
    sees_cost: bool | msgspec.UnsetType = msgspec.UNSET
    expires_at_ns: int | msgspec.UnsetType | None = msgspec.UNSET


class KeyOwner(msgspec.Struct, frozen=True):
    """At most one of the two."""

    user: User | None = None
    role: Role | None = None
    """The user's in the key's project."""
    service_account: ServiceAccount | None = None


class Keys(Desk):
    async def create(self, actor: Principal | None, project_id: str, request: KeyRequest) -> NewKey:
        """A key of the project; of a person who does not manage it, only their own. Raises as `KeyRequest` says."""
        now_ns, key_id, token = self._clock.time_ns(), new_id("key"), new_token()

        def make(connection: Connection) -> Key:
            project = visible_project(actor, connection, project_id)
            user_id = request.user_id
            if actor is not None and not may_manage(actor, project):
                user_id = user_id or actor.user_id
                if not actor.is_session or user_id != actor.user_id:
                    raise PermissionDenied("This key may not make keys", "Ask who manages the project.")
                if request.sees_cost or request.budget_nanos is not None:
                    raise PermissionDenied("Only who manages the project sets that", "Leave it out.")
            check_grant(actor, request.scopes, request.allowed_models)
            if user_id:
                user = find_user(connection, user_id, project.organization_id)
                if actor is not None and user_id != actor.user_id:
                    check_over(actor, user)  # what the key does is done in their name
            if request.service_account_id:
                project_for(actor, connection, project_id)
                find_service_account(connection, project_id, request.service_account_id)
            request_ = msgspec.structs.replace(request, user_id=user_id)
            return _add(connection, actor, project, key_id, token, request_, now_ns)

        return NewKey(await self._change(make), token)

    async def create_admin(self, actor: Principal | None, name: str, expires_at_ns: int | None) -> NewKey:
        """A key that manages the organization and calls no models."""
        now_ns, key_id, token = self._clock.time_ns(), new_id("key"), new_token()
        scopes = frozenset({Scope.MANAGE, Scope.USAGE, Scope.PROJECT})

        def make(connection: Connection) -> Key:
            found = list_projects(connection, organization_for(actor, connection), archived=False, limit=1)
            if not found:
                raise Conflict("Every project of the organization is archived", "Make another one first.")
            request = KeyRequest(
                name=name, scopes=scopes, expires_at_ns=expires_at_ns, sees_cost=True, allowed_models=_models(actor)
            )
            return _add(connection, actor, found[0], key_id, token, request, now_ns)

        return NewKey(await self._change(make), token)

    async def list_keys(self, actor: Principal | None, project_id: str) -> list[Key]:
        """The project's, oldest first, without those that were revoked; for who does not manage it their own."""

        def find(connection: Connection) -> list[Key]:
            project = visible_project(actor, connection, project_id)
            where: list[ColumnElement[bool]] = [keys.c.revoked_at_ns.is_(None)]
            if actor is not None and not may_manage(actor, project):
                if not actor.is_session:
                    raise PermissionDenied("This key may not list keys", "Ask who manages the project.")
                where.append(keys.c.user_id == actor.user_id)
            return list_keys(connection, project_id, *where)

        return await self._db.read(find)

    async def list_admin(self, actor: Principal | None) -> list[Key]:
        """Those that may manage the organization, oldest first."""

        def find(connection: Connection) -> list[Key]:
            where = (keys.c.organization_id == organization_for(actor, connection), keys.c.revoked_at_ns.is_(None))
            return [key for key in list_keys(connection, None, *where) if key.scopes & _MANAGING]

        return await self._db.read(find)

    async def get(self, actor: Principal | None, key_id: str, project_id: str | None = None) -> Key:
        """Raises NotFound, also for another's, a revoked one, and one that is not in the project named."""
        return await self._db.read(lambda connection: _visible(actor, connection, key_id, project_id))

    async def owner_of(self, key: Key) -> tuple[KeyOwner, bool]:
        """Whose key it is, and whether that owner may still work in its project."""

        def find(connection: Connection) -> tuple[KeyOwner, bool]:
            if key.service_account_id:
                account = find_service_account(connection, key.project_id, key.service_account_id)
                return KeyOwner(service_account=account), True
            if not key.user_id:
                return KeyOwner(), True
            credential = credential_of(connection, key.id)
            active = credential is not None and bool(credential.principal.scopes) and credential.ends_at_ns != 0
            try:
                user = find_user(connection, key.user_id, None)
            except NotFound:
                return KeyOwner(), False
            members = list_members(connection, key.project_id, user_id=user.id)
            role = members[0].role if members else (Role.ADMIN if user.role is Role.ADMIN else None)
            return KeyOwner(user=user, role=role), active

        return await self._db.read(find)

    async def change(self, actor: Principal | None, key_id: str, change: KeyChange, project_id: str | None) -> Key:
        """Raises NotFound, PermissionDenied, InvalidRequest, Conflict for one that has expired."""
        now_ns = self._clock.time_ns()

        def make(connection: Connection) -> Key:
            key = _own(actor, connection, key_id, project_id)
            if not key.is_live(now_ns):
                raise Conflict("This key has expired", "Make another one.")
            asked = {
                name: value for name, value in msgspec.structs.asdict(change).items() if value is not msgspec.UNSET
            }
            if change.expires_at_ns not in (None, msgspec.UNSET) and change.expires_at_ns <= now_ns:
                raise InvalidRequest("The key would have expired already. Give a later time, or delete it.")
            if (
                actor is not None
                and not actor.may_manage(key.organization_id, key.project_id)
                and asked.keys() - {"name"}
            ):
                raise PermissionDenied("Only who manages the project changes that", "Leave it out.")
            changed = msgspec.structs.replace(key, **asked)
            check_grant(actor, changed.scopes, changed.allowed_models)
            changed = change_key(connection, changed)
            shown = {name: sorted(value) if isinstance(value, frozenset) else value for name, value in asked.items()}
            _record(connection, actor, "api_key.updated", key, now_ns, {"changes_requested": shown})
            return changed

        return await self._change(make, key_id)

    async def rotate(
        self, actor: Principal | None, key_id: str, grace_s: int = 0, project_id: str | None = None
    ) -> NewKey:
        """Another secret for the same key; the old one works for `grace_s` more seconds, for 0 no more.

        The secret before that, if a grace is still running, ends now. Raises NotFound, PermissionDenied, Conflict.
        """
        if not 0 <= grace_s <= LONGEST_GRACE_S:
            raise InvalidRequest(f"The grace is 0 to {LONGEST_GRACE_S} seconds. Correct it.", param="grace_seconds")
        now_ns, token = self._clock.time_ns(), new_token()
        until_ns = now_ns + grace_s * 10**9 if grace_s else None

        def make(connection: Connection) -> Key:
            before = _own(actor, connection, key_id, project_id)
            key = rotate_key(connection, key_id, token, now_ns, until_ns)
            details = {"changes_requested": {"rotated": True, "grace_seconds": grace_s}}
            _record(connection, actor, "api_key.updated", before, now_ns, details)
            return key

        return NewKey(await self._change(make, key_id), token)

    async def revoke(self, actor: Principal | None, key_id: str, project_id: str | None = None) -> Key:
        """Ends it; requests under way run to their end. Raises NotFound, PermissionDenied."""
        now_ns = self._clock.time_ns()

        def make(connection: Connection) -> Key:
            key = _own(actor, connection, key_id, project_id)
            _record(connection, actor, "api_key.deleted", key, now_ns, {})
            return revoke_key(connection, key_id, now_ns)

        return await self._change(make, key_id)

    async def create_service_account(
        self, actor: Principal | None, project_id: str, name: str, *, key: bool = True, expires_at_ns: int | None = None
    ) -> tuple[ServiceAccount, NewKey | None]:
        """A named bearer with its first key. Raises NotFound, PermissionDenied."""
        now_ns, token = self._clock.time_ns(), new_token()
        account = ServiceAccount(new_id("svc_acct"), project_id, name, now_ns)
        key_id = new_id("key")

        def make(connection: Connection) -> Key | None:
            project = project_for(actor, connection, project_id)
            add_service_account(connection, account)
            _record_account(connection, actor, "service_account.created", project, account, now_ns, {"data": {}})
            if not key:
                return None
            request = KeyRequest(
                name=name, expires_at_ns=expires_at_ns, service_account_id=account.id, allowed_models=_models(actor)
            )
            return _add(connection, actor, project, key_id, token, request, now_ns)

        made = await self._change(make)
        return account, None if made is None else NewKey(made, token)

    async def list_service_accounts(
        self, actor: Principal | None, project_id: str, after: str | None = None, limit: int | None = None
    ) -> list[ServiceAccount]:
        """Oldest first. Raises NotFound, PermissionDenied."""

        def find(connection: Connection) -> list[ServiceAccount]:
            project_for(actor, connection, project_id)
            return list_service_accounts(connection, project_id, after, limit)

        return await self._db.read(find)

    async def get_service_account(self, actor: Principal | None, project_id: str, account_id: str) -> ServiceAccount:
        """Raises NotFound, PermissionDenied."""

        def find(connection: Connection) -> ServiceAccount:
            project_for(actor, connection, project_id)
            return find_service_account(connection, project_id, account_id)

        return await self._db.read(find)

    async def rename_service_account(
        self, actor: Principal | None, project_id: str, account_id: str, name: str
    ) -> ServiceAccount:
        """Raises NotFound, PermissionDenied."""
        now_ns = self._clock.time_ns()

        def make(connection: Connection) -> ServiceAccount:
            project = project_for(actor, connection, project_id)
            account = find_service_account(connection, project_id, account_id)
            rename_service_account(connection, account_id, name)
            details = {"changes_requested": {"name": name}}
            _record_account(connection, actor, "service_account.updated", project, account, now_ns, details)
            return msgspec.structs.replace(account, name=name)

        return await self._change(make)

    async def delete_service_account(self, actor: Principal | None, project_id: str, account_id: str) -> None:
        """With its keys. Raises NotFound, PermissionDenied."""
        now_ns = self._clock.time_ns()

        def make(connection: Connection) -> list[str]:
            project = project_for(actor, connection, project_id)
            account = find_service_account(connection, project_id, account_id)
            its = list_keys(connection, project_id, keys.c.service_account_id == account_id)
            for key in its:
                revoke_key(connection, key.id, now_ns)
            delete_service_account(connection, account_id)
            _record_account(connection, actor, "service_account.deleted", project, account, now_ns, {})
            return [key.id for key in its]

        await self._change(make, project_id)


def _add(
    connection: Connection, actor: Principal | None, project: Project, key_id: str, token: str, request: KeyRequest,
    now_ns: int,
) -> Key:  # fmt: skip
    if project.archived_at_ns is not None:
        raise Conflict("This project is archived", "Use another one.")
    key = Key(
        key_id, project.organization_id, project.id, request.name, prefix_of(token), request.scopes,
        request.allowed_models, request.sees_cost, now_ns, request.expires_at_ns,
        user_id=request.user_id, service_account_id=request.service_account_id,
    )  # fmt: skip
    check_key(key)
    add_key(connection, key, token, request.budget_nanos)
    _record(connection, actor, "api_key.created", key, now_ns, {"data": {"scopes": sorted(key.scopes)}})
    return key


def _visible(actor: Principal | None, connection: Connection, key_id: str, project_id: str | None) -> Key:
    key = find_key(connection, key_id)
    hidden = key.revoked_at_ns is not None or project_id not in (None, key.project_id)
    managed = actor is None or actor.may_manage(key.organization_id, key.project_id)
    if hidden or not (managed or (actor is not None and actor.is_session and key.user_id == actor.user_id)):
        raise NotFound("key", key_id)
    return key


def _own(actor: Principal | None, connection: Connection, key_id: str, project_id: str | None) -> Key:
    """A key that who asks may change: one that can do no more than they. Raises NotFound, PermissionDenied."""
    key = _visible(actor, connection, key_id, project_id)
    if actor is None or actor.may_manage(key.organization_id, key.project_id):
        check_grant(actor, key.scopes, key.allowed_models)
    return key


def _models(actor: Principal | None) -> frozenset[str] | None:
    """Those of a key whose maker does not name any: what the maker may use."""
    return None if actor is None or actor.is_admin else actor.allowed_models


def _record(
    connection: Connection, actor: Principal | None, event: str, key: Key, now_ns: int, details: dict[str, Any]
) -> None:
    record(
        connection, now_ns=now_ns, actor=actor, event=event, target_id=key.id, organization_id=key.organization_id,
        project_id=key.project_id, details=details,
    )  # fmt: skip


def _record_account(
    connection: Connection, actor: Principal | None, event: str, project: Project, account: ServiceAccount,
    now_ns: int, details: dict[str, Any],
) -> None:  # fmt: skip
    record(
        connection, now_ns=now_ns, actor=actor, event=event, target_id=account.id,
        organization_id=project.organization_id, project_id=project.id, details=details,
    )  # fmt: skip
