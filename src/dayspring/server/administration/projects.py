"""Organizations, projects and their people over HTTP, in OpenAI's shapes."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from dayspring.accounts.organizations import Organization, Project
from dayspring.accounts.people.memberships import Membership
from dayspring.core.errors import Malformed
from dayspring.server.administration.wire import Paging, Strict, house_of, in_project, page, project_role, seconds
from dayspring.web.auth import Actor
from dayspring.web.body import documented, read_body

__all__ = ["router"]

router = APIRouter(prefix="/v1/organization", tags=["Administration"])


class ProjectObject(BaseModel):
    """One project."""

    id: str
    object: Literal["organization.project"] = "organization.project"
    name: str
    created_at: int
    archived_at: int | None
    status: Literal["active", "archived"]


class ProjectList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ProjectObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class ProjectBody(Strict):
    name: str = Field(max_length=200)


class ProjectPaging(Paging):
    include_archived: bool = False


class ProjectUserObject(BaseModel):
    """Someone a project is open to."""

    id: str
    object: Literal["organization.project.user"] = "organization.project.user"
    email: str
    name: str
    role: str
    added_at: int


class ProjectUserList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ProjectUserObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class ProjectUserBody(Strict):
    role: str
    user_id: str | None = Field(None, max_length=64)
    email: str | None = Field(None, max_length=320)


class ProjectUserRoleBody(Strict):
    role: str


class ProjectUserDeleted(BaseModel):
    id: str
    object: Literal["organization.project.user.deleted"] = "organization.project.user.deleted"
    deleted: Literal[True] = True


class OrganizationObject(BaseModel):
    """One organization of the installation, with the project it began with where it was just made."""

    id: str
    object: Literal["organization"] = "organization"
    name: str
    created_at: int
    default_project_id: str | None = None


class OrganizationList(BaseModel):
    object: Literal["list"] = "list"
    data: list[OrganizationObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class OrganizationBody(Strict):
    name: str = Field(max_length=200)


@router.get("/projects")
async def list_projects(request: Request, actor: Actor, paging: Annotated[ProjectPaging, Query()]) -> ProjectList:
    """List the organization's projects, oldest first."""
    found = await house_of(request).projects.list_projects(
        actor, archived=paging.include_archived, after=paging.after, limit=paging.limit + 1
    )
    return ProjectList(**page([project_object(each) for each in found], paging.limit))


@router.post("/projects", openapi_extra=documented(ProjectBody))
async def create_project(request: Request, actor: Actor) -> ProjectObject:
    """Make a project."""
    body = await read_body(request, ProjectBody)
    return project_object(await house_of(request).projects.create(actor, body.name))


@router.get("/projects/{project_id}")
async def get_project(project_id: str, request: Request, actor: Actor) -> ProjectObject:
    """Show a project."""
    return project_object(await house_of(request).projects.get(actor, project_id))


@router.post("/projects/{project_id}", openapi_extra=documented(ProjectBody))
async def rename_project(project_id: str, request: Request, actor: Actor) -> ProjectObject:
    """Rename a project."""
    body = await read_body(request, ProjectBody)
    return project_object(await house_of(request).projects.rename(actor, project_id, body.name))


@router.post("/projects/{project_id}/archive")
async def archive_project(project_id: str, request: Request, actor: Actor) -> ProjectObject:
    """Archive a project: its keys end at once. It cannot be brought back; its books and files stay."""
    return project_object(await house_of(request).projects.archive(actor, project_id))


@router.get("/projects/{project_id}/users")
async def list_project_users(
    project_id: str, request: Request, actor: Actor, paging: Annotated[Paging, Query()]
) -> ProjectUserList:
    """List who the project is open to, besides the organization's owners."""
    found = await house_of(request).projects.members(actor, project_id, after=paging.after, limit=paging.limit + 1)
    return ProjectUserList(**page([_member(each) for each in found], paging.limit))


@router.post("/projects/{project_id}/users", openapi_extra=documented(ProjectUserBody))
async def add_project_user(project_id: str, request: Request, actor: Actor) -> ProjectUserObject:
    """Open the project to a user of the organization, by id or email."""
    body = await read_body(request, ProjectUserBody)
    if not (body.user_id or body.email):
        raise Malformed("it names nobody. Send user_id or email.", location="user_id")
    member = await house_of(request).projects.open_to(
        actor, project_id, project_role(body.role), user_id=body.user_id or "", email=body.email or ""
    )
    return _member(member)


@router.get("/projects/{project_id}/users/{user_id}")
async def get_project_user(project_id: str, user_id: str, request: Request, actor: Actor) -> ProjectUserObject:
    """Show a user's place in the project."""
    return _member(await house_of(request).projects.member(actor, project_id, user_id))


@router.post("/projects/{project_id}/users/{user_id}", openapi_extra=documented(ProjectUserRoleBody))
async def change_project_user(project_id: str, user_id: str, request: Request, actor: Actor) -> ProjectUserObject:
    """Give a user of the project another role in it."""
    body = await read_body(request, ProjectUserRoleBody)
    projects = house_of(request).projects
    await projects.member(actor, project_id, user_id)
    return _member(await projects.open_to(actor, project_id, project_role(body.role), user_id=user_id))


@router.delete("/projects/{project_id}/users/{user_id}")
async def remove_project_user(project_id: str, user_id: str, request: Request, actor: Actor) -> ProjectUserDeleted:
    """Take a user out of the project."""
    await house_of(request).projects.close_to(actor, project_id, user_id)
    return ProjectUserDeleted(id=user_id)


installation = APIRouter(prefix="/v1", tags=["Administration"])


@installation.get("/organizations")
async def list_organizations(request: Request, actor: Actor) -> OrganizationList:
    """List the installation's organizations, oldest first: the first is the operator's. For its administrators."""
    found = await house_of(request).projects.list_organizations(actor)
    return OrganizationList(**page([_organization(each) for each in found], len(found)))


@installation.post("/organizations", openapi_extra=documented(OrganizationBody))
async def create_organization(request: Request, actor: Actor) -> OrganizationObject:
    """Make an organization with its first project. For the installation's administrators."""
    body = await read_body(request, OrganizationBody)
    made, project = await house_of(request).projects.create_organization(actor, body.name)
    return _organization(made).model_copy(update={"default_project_id": project.id})


@router.get("")
async def get_organization(request: Request, actor: Actor) -> OrganizationObject:
    """Show the organization of the key or session."""
    return _organization(await house_of(request).projects.get_organization(actor, actor.organization_id))


def project_object(project: Project) -> ProjectObject:
    return ProjectObject(
        id=project.id,
        name=project.name,
        created_at=project.created_at_ns // 10**9,
        archived_at=seconds(project.archived_at_ns),
        status="active" if project.archived_at_ns is None else "archived",
    )


def _member(member: Membership) -> ProjectUserObject:
    return ProjectUserObject(
        id=member.user_id, email=member.email, name=member.name, role=in_project(member.role),
        added_at=member.added_at_ns // 10**9,
    )  # fmt: skip


def _organization(organization: Organization) -> OrganizationObject:
    return OrganizationObject(
        id=organization.id, name=organization.name, created_at=organization.created_at_ns // 10**9
    )
