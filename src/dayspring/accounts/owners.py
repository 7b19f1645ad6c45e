"""Who has limits and a budget: an organization, a project, a key or a user, and who may see or change them.

What holds: to one who manages nothing every owner is refused alike; to one who does, another's owner is not found,
like one that does not exist. Nobody lifts what was set above them: an organization's limits are the operator's to
change, a project's its organization's managers', a key's those of its project too, but not with that key.
"""

import re

import msgspec
from sqlalchemy import ColumnElement, Connection, literal, select, true

from dayspring.accounts.budgets import KEY, ORGANIZATION, PROJECT
from dayspring.accounts.keys import keys
from dayspring.accounts.limits import NAMES
from dayspring.accounts.organizations import organizations, projects
from dayspring.accounts.people.users import users
from dayspring.accounts.principals import Principal, Scope
from dayspring.core.errors import NotFound, PermissionDenied

__all__ = ["Owner", "Ref", "find_owner", "list_owners"]

_ID = re.compile(r"[\w-]{1,64}")


_QUERIES = (
    select(organizations.c.id, literal(ORGANIZATION), organizations.c.id, literal(""), organizations.c.name),
    select(projects.c.id, literal(PROJECT), projects.c.organization_id, projects.c.id, projects.c.name),
    select(keys.c.id, literal(KEY), keys.c.organization_id, keys.c.project_id, keys.c.name),
    select(users.c.id, literal(KEY), users.c.organization_id, literal(""), users.c.email),
)


class Owner(msgspec.Struct, frozen=True):
    id: str
    level: int
    organization_id: str
    project_id: str
    """Empty for an organization, and for a user, who may be in several."""
    name: str


class Ref(msgspec.Struct, frozen=True):
    """How a caller names an owner. Empty `id`: the caller's organization; a level or project that is given must fit."""

    id: str = ""
    level: int | None = None
    project_id: str = ""


def find_owner(connection: Connection, principal: Principal | None, ref: Ref, *, change: bool = False) -> Owner:
    """`principal` is None for the terminal. Raises NotFound, PermissionDenied."""
    if principal is not None and not any(principal.may(scope) for scope in (Scope.MANAGE, Scope.PROJECT)):
        raise PermissionDenied("This key may not manage limits", "Use a key or an account that manages the project.")
    owner_id = ref.id or ("" if principal is None else principal.organization_id)
    found = _find(connection, owner_id) if _ID.fullmatch(owner_id) else None
    wrong_level = ref.level is not None and found is not None and found.level != ref.level
    elsewhere = bool(ref.project_id) and found is not None and found.project_id != ref.project_id
    if found is None or wrong_level or elsewhere or not _sees(principal, found):
        level = KEY if ref.level is None else ref.level
        raise NotFound(NAMES[level], owner_id[:64])
    if change:
        _check_change(principal, found)
    return found


def list_owners(connection: Connection, principal: Principal | None) -> list[Owner]:
    """Those the caller manages: organizations, then projects, keys and users, each oldest first."""
    if principal is None or principal.is_admin:
        everywhere = true()
        return _all(connection, everywhere, everywhere, everywhere, everywhere)
    mine = principal.organization_id
    if principal.may(Scope.MANAGE):
        return _all(
            connection, organizations.c.id == mine, projects.c.organization_id == mine, keys.c.organization_id == mine,
            users.c.organization_id == mine,
        )  # fmt: skip
    return []


def _all(connection: Connection, *wheres: ColumnElement[bool]) -> list[Owner]:
    queries = zip(_QUERIES, wheres, strict=True)
    return [
        Owner(*row)
        for query, where in queries
        for row in connection.execute(query.where(where).order_by(query.selected_columns[0]))
    ]


def _find(connection: Connection, owner_id: str) -> Owner | None:
    for column, query in zip((organizations, projects, keys, users), _QUERIES, strict=True):
        row = connection.execute(query.where(column.c.id == owner_id)).one_or_none()
        if row is not None:
            return Owner(*row)
    return None


def _sees(principal: Principal | None, owner: Owner) -> bool:
    if principal is None or principal.is_admin:
        return True
    if owner.organization_id != principal.organization_id:
        return False
    return principal.may(Scope.MANAGE) or (bool(owner.project_id) and owner.project_id == principal.project_id)


def _check_change(principal: Principal | None, owner: Owner) -> None:
    if principal is None or principal.is_admin:
        return
    if owner.level == KEY:
        if owner.id == principal.key_id and not principal.may(Scope.MANAGE):
            raise PermissionDenied("Nobody lifts the limits of the key in hand", "Ask who manages the organization.")
        return
    if owner.level == ORGANIZATION:
        raise PermissionDenied("The limits of an organization are set by the operator", "Ask them to change them.")
    if not principal.may(Scope.MANAGE):
        raise PermissionDenied("The limits of a project are set by its organization", "Ask one of its managers.")
