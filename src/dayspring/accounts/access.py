"""Whether who asks may change a thing, asked inside the transaction that changes it.

`actor` is a Principal, or None for the terminal on this machine, which may do everything. What is in another
organization is NotFound, exactly as what does not exist; what is in the own one and not allowed is PermissionDenied.
What holds: nobody gives away, or takes over, more than they may do themselves.
"""

from collections.abc import Set as AbstractSet

from sqlalchemy import Connection

from dayspring.accounts.organizations import Project, find_project, first_project
from dayspring.accounts.people.roles import Role
from dayspring.accounts.people.users import User
from dayspring.accounts.principals import Principal, Scope
from dayspring.core.errors import NotFound, PermissionDenied

__all__ = [
    "check_grant", "check_over", "may_manage", "organization_for", "organization_of", "project_for", "visible_project",
]  # fmt: skip

_BELOW_MANAGE = frozenset({Scope.INFERENCE, Scope.USAGE, Scope.PROJECT})


def organization_for(actor: Principal | None, connection: Connection) -> str:
    """The organization that who asks may manage: the own, or for the terminal the first. Raises PermissionDenied."""
    if actor is None:
        return first_project(connection).organization_id
    if not actor.may(Scope.MANAGE):
        raise PermissionDenied("This key may not manage the organization", "Ask one of its administrators.")
    return actor.organization_id


def organization_of(actor: Principal | None) -> str | None:
    """To which organization what is looked up must belong; None: to any."""
    return None if actor is None or actor.is_admin else actor.organization_id


def may_manage(actor: Principal | None, project: Project) -> bool:
    return actor is None or actor.may_manage(project.organization_id, project.id)


def visible_project(actor: Principal | None, connection: Connection, project_id: str) -> Project:
    """A project whose existence who asks may know. Raises NotFound."""
    project = find_project(connection, project_id)
    if may_manage(actor, project) or (actor is not None and actor.project_id == project_id):
        return project
    raise NotFound("project", project_id)


def project_for(actor: Principal | None, connection: Connection, project_id: str) -> Project:
    """A project that who asks may manage. Raises NotFound, PermissionDenied for the own one."""
    project = visible_project(actor, connection, project_id)
    if not may_manage(actor, project):
        raise PermissionDenied("This key may not manage the project", "Ask one of its administrators.")
    return project


def check_grant(actor: Principal | None, scopes: AbstractSet[str], models: AbstractSet[str] | None) -> None:
    """Raises PermissionDenied where a key with these scopes and models (None: all) could do more than who asks."""
    if actor is None or actor.is_admin:
        return
    allowed = actor.scopes
    if Scope.PROJECT in allowed or Scope.MANAGE in allowed:
        allowed = allowed | _BELOW_MANAGE
    if not scopes <= allowed:
        raise PermissionDenied("A key cannot be given or taken over by who may do less", "Leave the scope out.")
    own = actor.allowed_models
    if own is not None and (models is None or not models <= own):
        raise PermissionDenied(
            "A key cannot be given or taken over by who may use fewer models", "Name some of those this key may use."
        )


def check_over(actor: Principal | None, user: User, *, role: Role | None = None) -> None:
    """Raises PermissionDenied where who asks may do less than the user: an operator answers to operators only."""
    if actor is None or actor.is_admin:
        return
    if user.is_operator:
        raise PermissionDenied("This user administers the installation", "Ask another of its administrators.")
    if (user.role is Role.ADMIN or role is Role.ADMIN) and not actor.may(Scope.MANAGE):
        raise PermissionDenied("This user administers the organization", "Ask one of its administrators.")
