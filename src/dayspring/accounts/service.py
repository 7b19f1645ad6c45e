"""Organizations, projects, keys and budgets: the user's verbs.

What holds: of any number of first starts at once, exactly one makes the installation and gets the administrator's key;
no other way to make a first key exists, so a stranger has nothing to win. A key's secret is returned once, by the call
that made it.
"""

import msgspec
from sqlalchemy import Connection

from dayspring.accounts import budgets
from dayspring.accounts.audit import record
from dayspring.accounts.authentication import Authentication
from dayspring.accounts.budgets import Budget
from dayspring.accounts.keys import Key, add_key, check_key, find_key, list_keys, new_token, prefix_of, revoke_key
from dayspring.accounts.organizations import (
    Project,
    add_organization,
    add_project,
    claim_installation,
    currency_of,
    find_organization,
    find_project,
    first_project,
    list_projects,
)
from dayspring.accounts.people.users import find_user
from dayspring.accounts.principals import Principal, Scope
from dayspring.accounts.retention import quota_of, retention_of
from dayspring.contracts.clock import Clock
from dayspring.core.errors import Conflict
from dayspring.core.ids import new_id
from dayspring.store.database import Database

__all__ = ["Accounts", "Budget", "KeyRequest", "NewKey"]


class KeyRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a new key shall be. Without a project it belongs to the installation's first one."""

    name: str
    project_id: str | None = None
    scopes: frozenset[str] = frozenset({Scope.INFERENCE, Scope.USAGE})
    allowed_models: frozenset[str] | None = None
    sees_cost: bool = False
    expires_at_ns: int | None = None
    budget_nanos: int | None = None
    user_id: str = ""
    """Whose it shall be; it can do no more than that user, and ends with them. Empty: nobody's."""
    service_account_id: str = ""


class NewKey(msgspec.Struct, frozen=True):
    key: Key
    token: str
    """The secret. It cannot be had again."""

    def __repr__(self) -> str:
        return f"NewKey(key={self.key!r})"


class Accounts:
    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self.authentication = Authentication(db, clock)

    async def bootstrap(self, currency: str, token: str | None = None) -> NewKey | None:
        """Makes organization, project `default` and the administrator's key at the first start; None at any later one.

        `token` is a secret from `new_token` that the caller has put in a safe place before, so that a crash after the
        commit does not lose it. Raises Conflict when the installation counts in another currency.
        """
        token = token or new_token()
        organization_id, now_ns = new_id("org"), self._clock.time_ns()
        project = Project(new_id("proj"), organization_id, "default", now_ns)
        key = Key(
            new_id("key"), organization_id, project.id, "administrator", prefix_of(token), Scope.ALL, None, True, now_ns
        )

        def make(connection: Connection) -> str | None:
            if not claim_installation(connection, currency, now_ns):
                return currency_of(connection)
            add_organization(connection, organization_id, "default", now_ns)
            add_project(connection, project)
            add_key(connection, key, token, None)
            record(
                connection, now_ns=now_ns, actor=None, event="api_key.created", target_id=key.id,
                organization_id=organization_id, project_id=project.id,
                details={"data": {"scopes": sorted(key.scopes)}},
            )  # fmt: skip
            return None

        existing = await self._db.write(make)
        if existing is None:
            return NewKey(key, token)
        if existing != currency:
            raise Conflict(
                f"This installation counts in {existing} and DAYSPRING_CURRENCY says {currency}",
                f"Set DAYSPRING_CURRENCY={existing}, or use another data folder.",
            )
        return None

    async def authenticate(self, token: str, project_id: str | None = None) -> Principal:
        """The principal behind a key's secret or a session's. Raises Unauthenticated.

        Microseconds when it was seen this second. `project_id`: in which project a session works; NotFound for one
        that is not open to its user.
        """
        return await self.authentication.authenticate(token, project_id)

    async def create_key(self, request: KeyRequest) -> NewKey:
        """Raises NotFound for an unknown project, InvalidRequest for what cannot be a key."""
        token, key_id, now_ns = new_token(), new_id("key"), self._clock.time_ns()

        def make(connection: Connection) -> Key:
            project = (
                first_project(connection) if request.project_id is None
                else find_project(connection, request.project_id)
            )  # fmt: skip
            key = Key(
                key_id, project.organization_id, project.id, request.name, prefix_of(token), request.scopes,
                request.allowed_models, request.sees_cost, now_ns, request.expires_at_ns, user_id=request.user_id,
            )  # fmt: skip
            check_key(key)
            if request.user_id:
                find_user(connection, request.user_id, project.organization_id)
            budgets.check_limit(request.budget_nanos)
            add_key(connection, key, token, request.budget_nanos)
            record(
                connection, now_ns=now_ns, actor=None, event="api_key.created", target_id=key.id,
                organization_id=key.organization_id, project_id=key.project_id,
                details={"data": {"scopes": sorted(key.scopes)}},
            )  # fmt: skip
            return key

        return NewKey(await self._db.write(make), token)

    async def get_key(self, key_id: str) -> Key:
        """Raises NotFound."""
        return await self._db.read(lambda connection: find_key(connection, key_id))

    async def list_keys(self, project_id: str | None = None) -> list[Key]:
        """Those of one project, or all; oldest first; revoked ones too."""
        return await self._db.read(lambda connection: list_keys(connection, project_id))

    async def revoke_key(self, key_id: str) -> Key:
        """Idempotent. At once in this process, within a second in others. Requests under way run to their end."""
        now_ns = self._clock.time_ns()

        def make(connection: Connection) -> Key:
            key = revoke_key(connection, key_id, now_ns)
            if key.revoked_at_ns == now_ns:
                record(
                    connection, now_ns=now_ns, actor=None, event="api_key.deleted", target_id=key_id,
                    organization_id=key.organization_id, project_id=key.project_id,
                )  # fmt: skip
            return key

        try:
            return await self._db.write(make)
        finally:
            # Also when the waiting task is cancelled, for then the write is done all the same.
            self.authentication.forget(key_id)

    async def create_project(self, name: str) -> Project:
        """In the installation's organization. Raises Conflict for a name that is taken."""
        project_id, now_ns = new_id("proj"), self._clock.time_ns()

        def make(connection: Connection) -> Project:
            project = Project(project_id, first_project(connection).organization_id, name, now_ns)
            add_project(connection, project)
            record(
                connection, now_ns=now_ns, actor=None, event="project.created", target_id=project.id,
                organization_id=project.organization_id, project_id=project.id,
            )  # fmt: skip
            return project

        return await self._db.write(make)

    async def check_organization(self, organization_id: str) -> None:
        """Raises NotFound."""
        await self._db.read(lambda connection: find_organization(connection, organization_id))

    async def get_project(self, project_id: str) -> Project:
        """Raises NotFound."""
        return await self._db.read(lambda connection: find_project(connection, project_id))

    async def list_projects(self) -> list[Project]:
        """All, oldest first."""
        return await self._db.read(list_projects)

    async def retention(self, project_id: str) -> dict[str, int]:
        """Days that the project's things are kept, by kind (`responses`, `files`, `logs`); what is not named stays."""
        return await self._db.read(lambda connection: retention_of(connection, project_id))

    async def quota(self, project_id: str) -> int | None:
        """Bytes of disk the project may fill; None where nothing was set for it."""
        return await self._db.read(lambda connection: quota_of(connection, project_id))

    async def budget(self, owner_id: str) -> Budget:
        """Of an organization, project or key, by its id. Raises NotFound."""
        now_ns = self._clock.time_ns()
        return await self._db.read(lambda connection: budgets.budget_of(connection, owner_id, now_ns))

    async def set_budget(self, owner_id: str, limit_nanos: int | None) -> None:
        """Sets the limit, in nano-units; None removes it. Raises NotFound, InvalidRequest."""
        await self._db.write(lambda connection: budgets.set_limit(connection, owner_id, limit_nanos))

    async def raise_budget(self, owner_id: str, by_nanos: int) -> int:
        """Adds to the limit and returns the new one. Raises NotFound, InvalidRequest where there is no limit."""
        return await self._db.write(lambda connection: budgets.raise_limit(connection, owner_id, by_nanos))
