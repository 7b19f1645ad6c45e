"""Every router of the HTTP door, in the order in which paths are tried."""

from typing import Final

from fastapi import APIRouter

from dayspring.batches import routes as batches
from dayspring.chat import routes as chat
from dayspring.chat.kept import routes as kept
from dayspring.chat.messages import routes as messages
from dayspring.chat.rerank import routes as rerank
from dayspring.chat.responses import routes as responses
from dayspring.server import (
    alerts,
    files,
    health,
    jobs,
    limits,
    models,
    reference,
    uploads,
    usage,
    webhooks,
    welcome,
)
from dayspring.server.administration.routes import routers as administration
from dayspring.server.hub import aliases, downloads, inventory, searching

__all__ = ["ROUTERS"]

ROUTERS: Final[tuple[APIRouter, ...]] = (
    # Paths that take any model's id come last within their kind: `models` reads every one.
    chat.router, kept.router, responses.router, messages.router, rerank.router,
    searching.router, downloads.router, aliases.router, inventory.router, models.router,
    files.router, uploads.router, batches.router, jobs.router,
    usage.router, limits.router, alerts.router, webhooks.router, *administration,
    health.router, welcome.router, reference.router,
)  # fmt: skip
