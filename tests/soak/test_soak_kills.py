"""`kill -9` of the server or of a worker at random instants under load, and then the books.

What must hold after every kill (the Money paragraph of the design): each answer a client received in full is in the
ledger exactly once, with the tokens and the price the client was told; every reservation is settled or released; no
budget is overdrawn; the projection equals the postings. The number of kills is DAYSPRING_SOAK_KILLS (default 200).
"""

import asyncio
import os
import random
import signal
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from sqlalchemy import select

from dayspring.core.settings import Settings
from dayspring.ledger.requests import requests
from dayspring.ledger.reservations import reservations
from dayspring.server.house import House
from live import LiveServer, echo_model

pytestmark = pytest.mark.soak

KILLS = int(os.environ.get("DAYSPRING_SOAK_KILLS", "200"))
CLIENTS = 8
BUDGET_NANOS = 10**15
SEED = int(os.environ.get("DAYSPRING_SOAK_SEED", "1"))


class Load:
    """Clients that never stop asking, and remember what they received in full."""

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
                    await (self._stream(session) if self.dice.random() < 0.6 else self._whole(session))
                except (aiohttp.ClientError, ConnectionError, asyncio.IncompleteReadError, TimeoutError):
                    self.broken += 1
                    await asyncio.sleep(0.02)  # a refused connection while the server is down: not a wait for anything

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


async def _kill_often(server: LiveServer, load: Load, kills: int, dice: random.Random) -> dict[str, int]:
    stop = asyncio.Event()
    clients = [asyncio.create_task(load.client(stop)) for _ in range(CLIENTS)]
    done = {"server": 0, "worker": 0}
    for _ in range(kills):
        await asyncio.sleep(dice.uniform(0.05, 1.5))  # the random instant
        workers = server.worker_pids()
        if workers and dice.random() < 0.4:
            os.kill(dice.choice(workers), signal.SIGKILL)
            done["worker"] += 1
        else:
            server.kill()
            done["server"] += 1
            await server.start()
    stop.set()
    await asyncio.wait_for(asyncio.gather(*clients), 60)
    return done


@pytest.mark.timeout(3600)
async def test_the_books_are_right_after_kills_at_random_instants(tmp_path: Path) -> None:
    dice = random.Random(SEED)
    server = LiveServer(tmp_path)
    await server.prepare(echo_model(delay_s=0.004))
    key_id, key = await server.key(budget_nanos=BUDGET_NANOS)
    await server.start()
    load = Load(server.url, key, dice)
    try:
        done = await _kill_often(server, load, KILLS, dice)
    finally:
        await server.stop()
    print(f"\nkills {done}, answers in full {len(load.received)}, broken {load.broken}, errors {load.errors}")
    assert len(load.received) > KILLS / 4, "too little was answered for the test to mean anything"
    with House.open(Settings(home=tmp_path)) as house:
        assert await house.ledger.verify() == []
        assert (await house.accounts.budget(key_id)).held_nanos == 0
        assert (await house.accounts.budget(key_id)).spent_nanos <= BUDGET_NANOS
        held = await house.db.read(lambda connection: connection.execute(select(reservations)).all())
        rows = await house.db.read(lambda connection: connection.execute(select(requests)).all())
    assert held == []
    by_id: dict[str, list[Any]] = {}
    for row in rows:
        by_id.setdefault(row.request_id, []).append(row)
    for request_id, told in load.received.items():
        (row,) = by_id[request_id]
        assert row.status == "completed"
        assert (row.input_tokens + row.cached_tokens, row.output_tokens, row.price_nanos) == told
