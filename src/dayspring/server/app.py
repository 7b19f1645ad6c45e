"""The HTTP door: the FastAPI app and the life of everything behind it.

Start: recover what an earlier death left, make the first key, then serve; the default models are fetched beside that,
and /readyz tells. Stop: streams are settled first, then the workers end, then the database closes.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI
from starlette.middleware import Middleware

from dayspring import __version__
from dayspring.chat import routes as chat_routes
from dayspring.chat.service import ChatService
from dayspring.compute.service import Compute
from dayspring.dispatch.service import Dispatch
from dayspring.server import health, models, reference, usage, welcome
from dayspring.server.background import Background
from dayspring.server.house import House, lock_home
from dayspring.server.metrics import Metrics
from dayspring.server.readiness import Readiness
from dayspring.web import errors, openapi
from dayspring.web.middleware import RequestFrame

__all__ = ["create_app"]

_DESCRIPTION = "An open, self-hosted generative-AI platform. Every path that OpenAI has, has OpenAI's shape."


def create_app(house: House) -> FastAPI:
    """The app over an opened house; it closes the house when it stops."""
    settings = house.settings
    compute = Compute(settings, house.clock)
    metrics = Metrics(compute)
    dispatch = Dispatch(house.hub, house.prices, house.ledger, compute, settings, house.clock, metrics.settled)
    readiness = Readiness()

    @asynccontextmanager
    async def life(_app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            # Undone from the last to the first, each whatever becomes of the others.
            stack.enter_context(lock_home(settings.home))
            stack.push_async_callback(asyncio.to_thread, house.close)
            stack.push_async_callback(house.hub.close)
            background = Background(house, compute, dispatch, readiness)
            stack.push_async_callback(house.ledger.stop)
            stack.push_async_callback(compute.close)
            stack.push_async_callback(background.stop)
            stack.push_async_callback(dispatch.drain)
            await background.start()
            yield

    app = FastAPI(
        title="Dayspring",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=life,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        middleware=[Middleware(RequestFrame, max_body_bytes=settings.max_body_bytes, observe=metrics.observe)],
    )
    errors.install(app)
    openapi.install(app)
    app.state.settings = settings
    app.state.house = house
    app.state.accounts = house.accounts
    app.state.hub = house.hub
    app.state.reports = house.reports
    app.state.compute = compute
    app.state.metrics = metrics
    app.state.readiness = readiness
    app.state.chat = ChatService(dispatch, house.clock)
    for router in (chat_routes.router, models.router, usage.router, health.router, welcome.router, reference.router):
        app.include_router(router)
    return app
