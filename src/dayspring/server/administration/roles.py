"""The roles there are, over HTTP, in OpenAI's shape. They are predefined; their permissions are our scopes."""

from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel

from dayspring.accounts.people.roles import Role, scopes_of
from dayspring.core.errors import NotFound
from dayspring.server.administration.wire import house_of, in_organization, in_project
from dayspring.web.auth import Actor

__all__ = ["router"]

router = APIRouter(prefix="/v1/organization/roles", tags=["Administration"])


class RoleObject(BaseModel):
    """A role and what it permits."""

    id: str
    object: Literal["role"] = "role"
    name: str
    description: str
    permissions: list[str]
    predefined_role: Literal[True] = True
    resource_type: Literal["api.organization", "api.project"]


class RoleList(BaseModel):
    object: Literal["list"] = "list"
    data: list[RoleObject]
    has_more: Literal[False] = False
    next: None = None


_SENTENCES = {
    Role.ADMIN: "Manages everything in it, calls models, reads usage.",
    Role.MEMBER: "Calls models and reads usage.",
    Role.VIEWER: "Reads usage.",
}


def _roles() -> list[RoleObject]:
    made = []
    for role, sentence in _SENTENCES.items():
        in_all = scopes_of(role, None, is_operator=False)
        name = in_organization(role)
        made.append(
            RoleObject(
                id=f"role_organization_{name}", name=name, permissions=sorted(in_all), resource_type="api.organization",
                description=sentence if in_all else f"{sentence} In the projects that are opened to them.",
            )
        )  # fmt: skip
    for role, sentence in _SENTENCES.items():
        scopes, name = scopes_of(Role.MEMBER, role, is_operator=False), in_project(role)
        made.append(
            RoleObject(
                id=f"role_project_{name}", name=name, permissions=sorted(scopes), resource_type="api.project",
                description=sentence,
            )
        )  # fmt: skip
    return made


@router.get("")
async def list_roles(request: Request, actor: Actor) -> RoleList:
    """List the roles that can be given."""
    await house_of(request).projects.get_organization(actor, actor.organization_id)
    return RoleList(data=_roles())


@router.get("/{role_id}")
async def get_role(role_id: str, request: Request, actor: Actor) -> RoleObject:
    """Show a role."""
    await house_of(request).projects.get_organization(actor, actor.organization_id)
    for role in _roles():
        if role.id == role_id:
            return role
    raise NotFound("role", role_id)
