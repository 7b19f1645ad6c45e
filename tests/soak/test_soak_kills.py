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

import pytest
from soak_load import CLIENTS, Load

from live import LiveServer, echo_model

pytestmark = pytest.mark.soak

KILLS = int(os.environ.get("DAYSPRING_SOAK_KILLS", "200"))
BUDGET_NANOS = 10**15
SEED = int(os.environ.get("DAYSPRING_SOAK_SEED", "1"))


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
    await load.compare(tmp_path, key_id, BUDGET_NANOS)
