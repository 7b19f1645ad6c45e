"""Responses over HTTP: how tests ask for them, read their events and wait for them."""

import asyncio
from typing import Any

import orjson
from server_house import Served
from sqlalchemy import func, select

from asgi import Answer
from dayspring.chat.responses.wire import ResponseObject
from dayspring.contracts.models import Model
from live import echo_model

__all__ = ["LONG", "URL", "count", "events_of", "make", "slow", "until"]

URL = "/v1/responses"


def events_of(answer: Answer) -> list[dict[str, Any]]:
    """The events of a stream; each is named by its type."""
    found = []
    for piece in answer.body.decode().split("\n\n"):
        lines = [line for line in piece.split("\n") if line and not line.startswith(":")]
        if lines:
            name, data = lines
            event = orjson.loads(data.removeprefix("data: "))
            assert name == f"event: {event['type']}"
            found.append(event)
    return found


async def make(house: Served, text: Any = "one two three", *, key: str | None = None, **fields: Any) -> dict[str, Any]:
    answer = await house.ask("POST", URL, json={"model": "echo", "input": text, **fields}, key=key)
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.json
    ResponseObject.model_validate(found)
    return found


async def until(house: Served, response_id: str, *statuses: str) -> dict[str, Any]:
    """The response, once it is in one of these states."""
    while True:
        found: dict[str, Any] = (await house.ask("GET", f"{URL}/{response_id}")).json
        if found["status"] in statuses:
            return found
        await asyncio.sleep(0.005)  # as a client polls


async def count(house: Served, table: Any) -> int:
    return int(
        await house.house.db.read(
            lambda connection: connection.execute(select(func.count()).select_from(table)).scalar_one()
        )
    )


def slow() -> Model:
    return echo_model("slow", delay_s=0.02)


LONG = " ".join(f"w{number}" for number in range(500))
