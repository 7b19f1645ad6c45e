"""Roles, and what each may do.

A person has one role in the organization and one in each project that was opened to them. An administrator of the
organization needs no project opened. A viewer of the organization is at most a viewer in every project.
"""

from enum import StrEnum

from dayspring.accounts.principals import Scope

__all__ = ["Role", "scopes_of"]


class Role(StrEnum):
    ADMIN = "admin"
    """Manages: in an organization all of it, in a project that project."""
    MEMBER = "member"
    """Calls models and reads usage."""
    VIEWER = "viewer"
    """Reads usage."""


_PROJECT = {
    Role.VIEWER: frozenset({Scope.USAGE}),
    Role.MEMBER: frozenset({Scope.INFERENCE, Scope.USAGE}),
    Role.ADMIN: frozenset({Scope.INFERENCE, Scope.USAGE, Scope.PROJECT}),
}


def scopes_of(role: Role, in_project: Role | None, *, is_operator: bool) -> frozenset[str]:
    """What a person may do in a project: by the role in the organization and the one in that project, if any."""
    if is_operator:
        return Scope.ALL
    if role is Role.ADMIN:
        return _PROJECT[Role.ADMIN] | {Scope.MANAGE}
    if in_project is None:
        return frozenset()
    return _PROJECT[Role.VIEWER if role is Role.VIEWER else in_project]
