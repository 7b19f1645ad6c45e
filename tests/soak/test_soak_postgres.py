"""PostgreSQL restarted at random instants under load, by turns politely and as a crash; the server stays up.

What must hold: requests fail with our error or wait; every answer received in full is in the ledger once; after each
restart the same server answers again; nothing stays held. DAYSPRING_SOAK_RESTARTS (default 20) says how often.
"""

import asyncio
import os
import random
from pathlib import Path
from typing import Any

import pytest
from soak_load import CLIENTS, Load

from dayspring.testing.databases import Cluster
from live import LiveServer, echo_model

pytestmark = [pytest.mark.soak, pytest.mark.postgres]

RESTARTS = int(os.environ.get("DAYSPRING_SOAK_RESTARTS", "20"))
BUDGET_NANOS = 10**15
SEED = int(os.environ.get("DAYSPRING_SOAK_SEED", "1"))
CLEAN = {"unavailable"}
RECOVERS_S = 20
"""How soon after a restart an answer must come again."""


async def _answers_again(load: Load) -> None:
    before = len(load.received)
    async with asyncio.timeout(RECOVERS_S):
        while len(load.received) == before:  # noqa: ASYNC110 - looks at what the clients have
            await asyncio.sleep(0.02)


@pytest.mark.timeout(3600)
async def test_the_books_are_right_after_restarts_of_postgres_under_load(tmp_path: Path, monkeypatch: Any) -> None:
    dice = random.Random(SEED)
    with Cluster(durable=True) as cluster:
        cluster.administer("CREATE DATABASE dayspring TEMPLATE template0")
        url = cluster.url.format(name="dayspring")
        monkeypatch.setenv("DAYSPRING_DATABASE_URL", url)
        server = LiveServer(tmp_path, DAYSPRING_DATABASE_URL=url)
        await server.prepare(echo_model(delay_s=0.004))
        key_id, key = await server.key(budget_nanos=BUDGET_NANOS)
        await server.start()
        load = Load(server.url, key, dice)
        stop = asyncio.Event()
        clients = [asyncio.create_task(load.client(stop)) for _ in range(CLIENTS)]
        try:
            for number in range(RESTARTS):
                await asyncio.sleep(dice.uniform(0.2, 1.5))  # the random instant
                await asyncio.to_thread(cluster.stop, "immediate" if number % 2 else "fast")
                await asyncio.sleep(dice.uniform(0, 0.5))  # down for a while
                await asyncio.to_thread(cluster.start)
                await _answers_again(load)
            stop.set()
            await asyncio.wait_for(asyncio.gather(*clients), 60)
        finally:
            await server.stop()
        print(f"\n{RESTARTS} restarts, answers in full {len(load.received)}, broken {load.broken}, {load.errors}")
        assert load.broken == 0, "a connection was cut: no request may end without an answer"
        assert set(load.errors) <= CLEAN, load.errors
        await load.compare(tmp_path, key_id, BUDGET_NANOS)
