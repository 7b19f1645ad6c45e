"""Endurance: minutes of mixed traffic at 80 % of the server's own peak, and then whether anything only ever grows.

What must hold after the warm-up: neither the private memory of the server and its worker nor their open handles rise
by more than noise. Noise is the spread of the minutes around their line: a slope counts when it is above zero by more
than its 99 % bound, and when it would come to more than a thousandth of what there is in an hour's run.
Caches do not count: the system's page cache is no private memory, the echo engine keeps no key-value or prompt cache,
and SQLite's page cache, which fills as the database grows up to 2 MB a connection, is held to 64 kB here.
DAYSPRING_SOAK_MINUTES (20 by default) counts the warm-up of a quarter of it.
"""

import asyncio
import json
import math
import os
import random
import statistics
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from soak_load import Load

from live import LiveServer, echo_model

pytestmark = pytest.mark.soak

MINUTES = float(os.environ.get("DAYSPRING_SOAK_MINUTES", "20"))
PEAK_S = min(20.0, MINUTES * 6)
SHARE = 0.8
CLIENTS = 16
SAMPLES = 6
"""A minute."""
SMALL_CACHES = """
import sqlite3.dbapi2

opened = sqlite3.dbapi2.connect

def connect(*places, **options):
    connection = opened(*places, **options)
    connection.execute("PRAGMA cache_size = -64")
    return connection

sqlite3.connect = sqlite3.dbapi2.connect = connect
"""
"""What the server runs first, as `sitecustomize`."""
LINE = b'{"note": "a line of a file that is kept for a moment"}\n'


class Mixed(Load):
    """Chats whole and streamed, embeddings, stored responses and files, in that order of frequency."""

    async def ask(self, session: aiohttp.ClientSession) -> None:
        dice = self.dice.random()
        if dice < 0.7:
            await super().ask(session)
        elif dice < 0.9:
            body = {"model": "echo", "input": ["some words"] * self.dice.randint(1, 8)}
            await self._expect(session.post(f"{self.url}/v1/embeddings", json=body))
        elif dice < 0.97:
            body = {"model": "echo", "input": "some words to answer", "max_output_tokens": 20}
            answer = await self._expect(session.post(f"{self.url}/v1/responses", json=body))
            if answer:
                await self._expect(session.delete(f"{self.url}/v1/responses/{answer['id']}"))
        else:
            form = aiohttp.FormData({"purpose": "user_data"})
            form.add_field("file", LINE * self.dice.randint(1, 50), filename="note.jsonl")
            answer = await self._expect(session.post(f"{self.url}/v1/files", data=form))
            if answer:
                await self._expect(session.delete(f"{self.url}/v1/files/{answer['id']}"))

    async def _expect(self, asking: Any) -> dict[str, Any]:
        async with asking as response:
            answer: dict[str, Any] = json.loads(await response.read())
            if response.status != 200:
                self._count(answer)
                return {}
            return answer


def private_bytes(pid: int) -> int:
    """Memory that is this process's alone: without the page cache and what it shares."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(("Private_Clean:", "Private_Dirty:")))


def handles(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def slope(values: list[float]) -> tuple[float, float]:
    """Of the least-squares line, by step, and the half-width of its one-sided 99 % bound."""
    count, middle = len(values), (len(values) - 1) / 2
    mean = statistics.fmean(values)
    spread = sum((x - middle) ** 2 for x in range(count))
    rise = sum((x - middle) * (y - mean) for x, y in enumerate(values)) / spread
    rest = sum((y - mean - rise * (x - middle)) ** 2 for x, y in enumerate(values))
    return rise, 2.6 * math.sqrt(rest / max(1, count - 2) / spread)


async def paced(load: Mixed, rate: float, until: float) -> int:
    """Requests at a steady rate, whatever their answers take. How many were begun."""
    begun, under_way = 0, set[asyncio.Task[None]]()
    async with aiohttp.ClientSession(
        headers={"Authorization": f"Bearer {load.key}"}, connector=aiohttp.TCPConnector(limit=64)
    ) as session:
        first = time.monotonic()
        while (now := time.monotonic()) < until:
            due = int((now - first) * rate)
            while begun < due:
                begun += 1
                if len(under_way) < 256:  # the server fell behind: an open queue here would measure itself
                    task = asyncio.create_task(load.ask(session))
                    under_way.add(task)
                    task.add_done_callback(under_way.discard)
            await asyncio.sleep(0.01)
        await asyncio.gather(*under_way)
    return begun


@pytest.mark.timeout(7200)
async def test_nothing_only_ever_grows(tmp_path: Path) -> None:
    first = tmp_path / "first"
    first.mkdir()
    (first / "sitecustomize.py").write_text(SMALL_CACHES)
    path = os.pathsep.join(filter(None, (str(first), os.environ.get("PYTHONPATH"))))
    server = LiveServer(tmp_path / "home", DAYSPRING_LOG_LEVEL="warning", PYTHONPATH=path)
    await server.prepare(echo_model())
    _, key = await server.key()
    await server.start()
    load = Mixed(server.url, key, random.Random(1))
    try:
        stop = asyncio.Event()
        clients = [asyncio.create_task(load.client(stop)) for _ in range(CLIENTS)]
        await asyncio.sleep(PEAK_S)
        stop.set()
        await asyncio.gather(*clients)
        rate = SHARE * len(load.received) / 0.7 / 0.88 / PEAK_S  # a fifth of the streams is left early on purpose
        load.received.clear()
        until = time.monotonic() + MINUTES * 60
        running = asyncio.create_task(paced(load, rate, until))
        pids = [server.pid, *server.worker_pids()]
        seen: dict[str, list[float]] = {"memory": [], "handles": []}
        while time.monotonic() < until - 1:
            await asyncio.sleep(min(60 / SAMPLES, MINUTES * 60 / 40))
            seen["memory"].append(sum(map(private_bytes, pids)))
            seen["handles"].append(sum(map(handles, pids)))
            load.received.clear()
        begun = await running
        assert [server.pid, *server.worker_pids()] == pids, "a process ended"
    finally:
        await server.stop()
    assert set(load.errors) <= {"insufficient_quota"}, load.errors
    print(f"\n{begun} requests at {rate:.0f}/s for {MINUTES:g} min")
    growing = []
    for name, values in seen.items():
        late = values[len(values) // 4 :]
        rise, noise = slope(late)
        hour = rise * len(late) / (0.75 * MINUTES) * 60
        print(
            f"{name}: {late[0]:.0f} -> {late[-1]:.0f}, slope {hour:+.0f} an hour, noise {noise / abs(rise or 1):.2f}x"
        )
        print([round(value / 1024) if name == "memory" else int(value) for value in values])
        if rise > noise and hour >= statistics.fmean(late) / 1000:
            growing.append(f"{name} {hour:+.0f} an hour")
    assert not growing, growing
