"""All routes of the administration, for the app."""

from fastapi import APIRouter

from dayspring.server.administration import (
    admin_keys,
    audit,
    invites,
    keys,
    oidc,
    privacy,
    projects,
    roles,
    service_accounts,
    sessions,
    storage,
    users,
)

__all__ = ["routers"]

routers: tuple[APIRouter, ...] = (
    sessions.router, oidc.router, projects.router, projects.installation, keys.router, admin_keys.router,
    service_accounts.router, users.router, privacy.router, invites.router, roles.router, audit.router, storage.router,
)  # fmt: skip
"""In the order in which their paths are tried."""
