"""Batches against a real server in a process of its own, which is killed and started again."""

import asyncio
import io
import random
import time
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from sqlalchemy import select

from dayspring.core.settings import Settings
from dayspring.ledger.billed import billed
from dayspring.ledger.requests import requests
from dayspring.ledger.reservations import reservations
from dayspring.server.house import House
from live import LiveServer

__all__ = ["check_books", "create", "download", "finish", "killed_often", "without_times"]

ENDED = {"completed", "failed", "expired", "cancelled"}
_LONGEST_S = 3600.0


def _session(key: str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"})


async def create(server: LiveServer, key: str, lines: list[dict[str, Any]], endpoint: str) -> str:
    """Uploads the lines and begins the batch; its id."""
    content = b"".join(orjson.dumps(line) + b"\n" for line in lines)
    form = aiohttp.FormData()
    form.add_field("purpose", "batch")
    form.add_field("file", io.BytesIO(content), filename="in.jsonl", content_type="application/jsonl")
    async with _session(key) as session:
        async with session.post(f"{server.url}/v1/files", data=form) as response:
            file = await response.json()
        body = {"input_file_id": file["id"], "endpoint": endpoint, "completion_window": "24h"}
        async with session.post(f"{server.url}/v1/batches", json=body) as response:
            made = await response.json()
    return str(made["id"])


async def _get(session: aiohttp.ClientSession, server: LiveServer, batch_id: str) -> dict[str, Any]:
    async with session.get(f"{server.url}/v1/batches/{batch_id}") as response:
        found: dict[str, Any] = await response.json()
        return found


async def finish(server: LiveServer, key: str, batch_id: str) -> dict[str, Any]:
    """The batch when it has ended."""
    async with _session(key) as session:
        async with session.get(f"{server.url}/v1/jobs/{batch_id}/events", timeout=_forever()) as response:
            await response.read()  # the stream ends with the job
        return await _get(session, server, batch_id)


def _forever() -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=_LONGEST_S)


async def killed_often(
    server: LiveServer, key: str, batch_id: str, instants: list[float], dice: random.Random, work_s: float
) -> tuple[dict[str, Any], float]:
    """Kills the server at each of these parts of the batch's lines (or a moment later) and starts it again at once.

    The ended batch, and the seconds the server was away: from each kill until it answers again.
    """
    away_s = 0.0
    async with _session(key) as session:
        total = (await _counted(session, server, batch_id))["request_counts"]["total"]
        for instant in instants:
            while True:
                batch = await _get(session, server, batch_id)
                counts = batch["request_counts"]
                if batch["status"] in ENDED or counts["completed"] + counts["failed"] >= instant * total:
                    break
                await asyncio.sleep(0.02)  # between two looks
            await asyncio.sleep(dice.uniform(0, work_s))  # the random instant
            begun = time.monotonic()
            server.kill()
            await server.start()
            away_s += time.monotonic() - begun
    return await finish(server, key, batch_id), away_s


async def _counted(session: aiohttp.ClientSession, server: LiveServer, batch_id: str) -> dict[str, Any]:
    """The batch, once its input is counted."""
    while True:
        batch = await _get(session, server, batch_id)
        if batch["request_counts"]["total"] or batch["status"] in ENDED:
            return batch
        await asyncio.sleep(0.02)


async def download(server: LiveServer, key: str, file_id: str) -> list[dict[str, Any]]:
    async with _session(key) as session, session.get(f"{server.url}/v1/files/{file_id}/content") as response:
        assert response.status == 200
        return [orjson.loads(line) for line in (await response.read()).splitlines()]


def without_times(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What two runs of the same lines must have in common: all but the names of requests and the hour."""
    for answer in answers:
        answer.pop("id")
        answer["response"].pop("request_id")
        answer["response"]["body"].pop("id", None)
        answer["response"]["body"].pop("created", None)
    return answers


async def check_books(home: Path, batch_id: str, price_nanos: dict[int, int]) -> dict[str, int]:
    """That these lines were charged once, at these prices, and that nothing is held. What was repeated for nothing."""
    with House.open(Settings(home=home)) as house:
        assert await house.ledger.verify() == []
        held = await house.db.read(lambda connection: connection.execute(select(reservations)).all())
        paid = await house.db.read(lambda connection: connection.execute(select(billed)).all())
        rows = await house.db.read(lambda connection: connection.execute(select(requests)).all())
    assert held == []
    ours = {row.bill_key: row.request_id for row in paid if row.bill_key.startswith(f"{batch_id}/")}
    assert sorted(ours) == sorted(f"{batch_id}/{number}" for number in price_nanos)
    by_id = {row.request_id: row for row in rows}
    charged = {number: by_id[ours[f"{batch_id}/{number}"]].price_nanos for number in price_nanos}
    assert charged == price_nanos
    assert sum(row.price_nanos for row in rows) == sum(price_nanos.values())
    statuses = [row.status for row in rows]
    free = sum(row.status == "completed" and not row.price_nanos for row in rows)
    return {"repeated": free, "lost": statuses.count("lost"), "failed": statuses.count("failed")}
