"""An app in this process over a data folder of its own, with the test kit's echo model behind it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from asgi import Answer, Visit, visit
from dayspring.accounts.principals import Principal
from dayspring.accounts.service import KeyRequest
from dayspring.contracts.models import Model
from dayspring.core.settings import Settings
from dayspring.ledger.prices import PriceRequest
from dayspring.server.app import create_app
from dayspring.server.house import House
from dayspring.store.models import add_model
from live import PRICE, echo_model

CHAT = "/v1/chat/completions"
HELLO = {"model": "echo", "messages": [{"role": "user", "content": "one two three"}]}


class Served:
    def __init__(self, house: House, app: FastAPI) -> None:
        self.house = house
        self.app = app
        self.key = (house.settings.home / "admin.key").read_text().strip()

    async def ask(self, method: str, path: str, *, key: str | None = None, **more: Any) -> Answer:
        """As the administrator unless another key is given; with an empty one, as nobody."""
        return await visit(self.app, method, path, headers=self.bearer(key) | more.pop("headers", {}), **more)

    def visiting(self, path: str, body: bytes) -> Visit:
        return Visit(self.app, "POST", path, [body], self.bearer(None), "127.0.0.1")

    def bearer(self, key: str | None) -> dict[str, str]:
        token = self.key if key is None else key
        return {"authorization": f"Bearer {token}"} if token else {}

    async def new_key(self, **request: Any) -> tuple[Principal, str]:
        made = await self.house.accounts.create_key(KeyRequest(**{"name": "test", **request}))
        return made.key.principal, made.token


@asynccontextmanager
async def served(home: Path, *models: Model, **settings: Any) -> AsyncIterator[Served]:
    """The app between its start and its stop."""
    house = House.open(Settings(**{"home": home, "default_pack": False, **settings}))
    app = create_app(house)
    async with app.router.lifespan_context(app):
        for model in models or (echo_model(),):
            await house.db.write(lambda connection, model=model: add_model(connection, model, []))
            await house.prices.set(PriceRequest(model_id=model.id, rates=PRICE))
        yield Served(house, app)


async def settled(served: Served) -> None:
    """Until nothing is held any more."""
    (key, *_) = await served.house.accounts.list_keys()
    while (await served.house.accounts.budget(key.id)).held_nanos:  # noqa: ASYNC110 - the ledger tells nobody
        await asyncio.sleep(0.005)


def api_routes(routes: list[Any]) -> Iterator[APIRoute]:
    """These routes, also those inside of an included router."""
    for route in routes:
        if isinstance(route, APIRoute):
            yield route
        for inner in ("original_router", "router"):
            if (router := getattr(route, inner, None)) is not None:
                yield from api_routes(router.routes)
