"""Clients that never stop asking, remember what they received in full, and compare it with the books."""

import asyncio
import random
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from sqlalchemy import select

from dayspring.core.settings import Settings
from dayspring.ledger.requests import requests
from dayspring.ledger.reservations import reservations
from dayspring.server.house import House

__all__ = ["CLIENTS", "Load"]

CLIENTS = 8


class Load:
    def __init__(self, url: str, key: str, dice: random.Random) -> None:
        self.url = url
        self.key = key
        self.dice = dice
        self.received: dict[str, tuple[int, int, int]] = {}
        """Request id: input tokens, output tokens, price in nano-units."""
        self.errors: dict[str, int] = {}
        self.broken = 0

    async def client(self, stop: asyncio.Event) -> None:
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {self.key}"}) as session:
            while not stop.is_set():
                try:
                    await self.ask(session)
                except (aiohttp.ClientError, ConnectionError, asyncio.IncompleteReadError, TimeoutError):
                    self.broken += 1
                    await asyncio.sleep(0.02)  # a refused connection while the server is down: not a wait for anything

    async def ask(self, session: aiohttp.ClientSession) -> None:
        """One request of a random kind."""
        await (self._stream(session) if self.dice.random() < 0.6 else self._whole(session))

    def _body(self, *, stream: bool) -> dict[str, Any]:
        words = " ".join("word" for _ in range(self.dice.randint(3, 25)))
        body: dict[str, Any] = {"model": "echo", "messages": [{"role": "user", "content": words}], "max_tokens": 40}
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return body

    async def _whole(self, session: aiohttp.ClientSession) -> None:
        async with session.post(f"{self.url}/v1/chat/completions", json=self._body(stream=False)) as response:
            answer = orjson.loads(await response.read())
            if response.status != 200:
                self._count(answer)
                return
            price = int(response.headers["x-dayspring-price-nanos"])
            self._keep(response.headers["x-request-id"], answer["usage"], price)

    async def _stream(self, session: aiohttp.ClientSession) -> None:
        leave_after = self.dice.randint(1, 20) if self.dice.random() < 0.2 else None
        async with session.post(f"{self.url}/v1/chat/completions", json=self._body(stream=True)) as response:
            if response.status != 200:
                self._count(orjson.loads(await response.read()))
                return
            usage: dict[str, Any] = {}
            price, seen = 0, 0
            async for line in response.content:
                if not line.startswith(b"data: "):
                    continue
                if line.startswith(b"data: [DONE]"):
                    self._keep(response.headers["x-request-id"], usage, price)
                    return
                chunk = orjson.loads(line[6:])
                if "error" in chunk:
                    self._count(chunk)
                    return
                if chunk.get("usage"):
                    usage, price = chunk["usage"], chunk["dayspring"]["price_nanos"]
                seen += 1
                if leave_after is not None and seen >= leave_after:
                    return

    def _keep(self, request_id: str, usage: dict[str, Any], price: int) -> None:
        assert request_id not in self.received
        self.received[request_id] = (usage["prompt_tokens"], usage["completion_tokens"], price)

    def _count(self, answer: dict[str, Any]) -> None:
        code = answer["error"]["code"]
        self.errors[code] = self.errors.get(code, 0) + 1

    async def compare(self, home: Path, key_id: str, budget_nanos: int, **settings: Any) -> None:
        """Every answer received is in the books once, as told; nothing is held; the books agree with themselves."""
        with House.open(Settings(home=home, **settings)) as house:
            assert await house.ledger.verify() == []
            budget = await house.accounts.budget(key_id)
            held = await house.db.read(lambda connection: connection.execute(select(reservations)).all())
            rows = await house.db.read(lambda connection: connection.execute(select(requests)).all())
        assert budget.held_nanos == 0
        assert budget.spent_nanos <= budget_nanos
        assert held == []
        by_id: dict[str, list[Any]] = {}
        for row in rows:
            by_id.setdefault(row.request_id, []).append(row)
        for request_id, told in self.received.items():
            (row,) = by_id[request_id]
            assert row.status == "completed"
            assert (row.input_tokens + row.cached_tokens, row.output_tokens, row.price_nanos) == told
