"""What the administration's routes share: paging, roles under OpenAI's names, times in seconds, the house."""

from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field

from dayspring.accounts.people.roles import Role
from dayspring.core.errors import Malformed
from dayspring.server.house import House

__all__ = [
    "Paging", "Strict", "expiry_ns", "house_of", "in_organization", "in_project", "organization_role", "page",
    "project_role", "seconds",
]  # fmt: skip

R = TypeVar("R", bound=BaseModel)

_FROM_WIRE = {"owner": Role.ADMIN, "reader": Role.MEMBER} | {str(role): role for role in Role}
_LONGEST_S = 100 * 366 * 86_400


class Strict(BaseModel):
    """A body whose unknown fields are refused by name."""

    model_config = ConfigDict(extra="forbid")


class Paging(BaseModel):
    """OpenAI's cursor: `after` is the last id of the page before."""

    after: str | None = Field(None, max_length=64)
    limit: int = Field(20, ge=1, le=100)


def page(found: list[R], limit: int) -> dict[str, Any]:
    """The fields of a list page, from one item more than the page has where there are more."""
    data: list[Any] = found[:limit]
    ends = (data[0].id, data[-1].id) if data else (None, None)
    return {"data": data, "first_id": ends[0], "last_id": ends[1], "has_more": len(found) > limit}


def in_organization(role: Role) -> str:
    """A role in the organization as OpenAI writes it; `viewer` is ours."""
    return {Role.ADMIN: "owner", Role.MEMBER: "reader", Role.VIEWER: "viewer"}[role]


def in_project(role: Role) -> str:
    """A role in a project as OpenAI writes it; `viewer` is ours."""
    return {Role.ADMIN: "owner", Role.MEMBER: "member", Role.VIEWER: "viewer"}[role]


def organization_role(name: str) -> Role:
    return _role(name, "owner, reader or viewer")


def project_role(name: str) -> Role:
    return _role(name, "owner, member or viewer")


def _role(name: str, known: str) -> Role:
    if name not in _FROM_WIRE:
        raise Malformed(f"a role is {known}. Correct it.", location="role")
    return _FROM_WIRE[name]


def seconds(at_ns: int | None) -> int | None:
    """Unix seconds."""
    return None if at_ns is None else at_ns // 10**9


def expiry_ns(request: Request, in_s: int | None) -> int | None:
    """The time that many seconds from now."""
    if in_s is None:
        return None
    if not 1 <= in_s <= _LONGEST_S:
        raise Malformed(f"it is 1 to {_LONGEST_S} seconds. Correct it.", location="expires_in_seconds")
    return house_of(request).clock.time_ns() + in_s * 10**9


def house_of(request: Request) -> House:
    house: House = request.app.state.house
    return house
