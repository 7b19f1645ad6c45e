"""The HTTP door: the FastAPI app over the rooms of a running server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware import Middleware

from dayspring import __version__
from dayspring.core.settings import Settings
from dayspring.server.house import House
from dayspring.server.rooms import Rooms
from dayspring.server.routing import ROUTERS
from dayspring.web import errors, openapi
from dayspring.web.edge.entry import Entry
from dayspring.web.middleware import BodyLimit, RequestFrame

__all__ = ["create_app"]

_DESCRIPTION = "An open, self-hosted generative-AI platform. Every path that OpenAI has, has OpenAI's shape."
_FRAMING_BYTES = 1 << 20
"""A form's boundaries and its other fields."""


def create_app(house: House) -> FastAPI:
    """The app over an opened house; it closes the house when it stops."""
    rooms, settings = Rooms(house), house.settings

    @asynccontextmanager
    async def life(_app: FastAPI) -> AsyncIterator[None]:
        async with rooms.life():
            yield

    frame = Middleware(
        RequestFrame,
        entry=Entry(settings),
        max_body_bytes=settings.max_body_bytes,
        observe=rooms.metrics.observe,
        body_limits=_body_limits(settings),
    )
    app = FastAPI(
        title="Dayspring",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=life,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        middleware=[frame],
    )
    errors.install(app)
    openapi.install(app)
    for name, value in rooms.offered().items():
        setattr(app.state, name, value)
    for router in ROUTERS:
        app.include_router(router)
    return app


def _body_limits(settings: Settings) -> dict[str, BodyLimit]:
    """The routes that read more than DAYSPRING_MAX_BODY_BYTES, as they stream to disk."""
    files = BodyLimit(settings.max_file_bytes + _FRAMING_BYTES, "DAYSPRING_MAX_FILE_BYTES")
    return {"/v1/files": files, "/v1/uploads/*/parts": files}
