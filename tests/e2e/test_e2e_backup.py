"""A backup taken under load, restored beside it: the books agree, and nothing that was answered is missing."""

import asyncio
import hashlib
import json
import os
import time
from pathlib import Path

import aiohttp

from dayspring.core.settings import Settings
from dayspring.server.house import House
from live import LiveServer, echo_model


async def _chat(session: aiohttp.ClientSession, server: LiveServer, ended: list[tuple[float, str]]) -> None:
    body = {"model": "echo", "messages": [{"role": "user", "content": "one two three"}], "stream": True}
    while True:
        async with session.post(f"{server.url}/v1/chat/completions", json=body) as answer:
            assert answer.status == 200, await answer.text()
            assert (await answer.read()).endswith(b"data: [DONE]\n\n")
            ended.append((time.monotonic(), answer.headers["x-request-id"]))


async def _files(session: aiohttp.ClientSession, server: LiveServer, stored: list[tuple[float, str]]) -> None:
    """Stores files and deletes every other one, so that the backup meets both."""
    for number in range(100_000):
        content = os.urandom(200_000) if number % 3 else b"the same again"
        form = aiohttp.FormData()
        form.add_field("purpose", "user_data")
        form.add_field("file", content, filename=f"{number}.bin")
        async with session.post(f"{server.url}/v1/files", data=form) as answer:
            assert answer.status == 200, await answer.text()
            made = await answer.json()
        if number % 2:
            async with session.delete(f"{server.url}/v1/files/{made['id']}") as answer:
                assert answer.status == 200
        else:
            stored.append((time.monotonic(), made["id"]))


async def test_a_backup_under_load_has_everything_that_was_answered_before_it(tmp_path: Path) -> None:
    server = LiveServer(tmp_path / "home")
    server.home.mkdir()
    key = await server.prepare(echo_model())
    await server.start()
    backup, target = tmp_path / "backup.tar", tmp_path / "restored"
    ended: list[tuple[float, str]] = []
    stored: list[tuple[float, str]] = []
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as session:
        clients = [asyncio.create_task(_chat(session, server, ended)) for _ in range(6)]
        clients.append(asyncio.create_task(_files(session, server, stored)))
        while len(ended) < 100 or len(stored) < 5:  # noqa: ASYNC110 - what the clients count tells nobody
            await asyncio.sleep(0.01)
        begun = time.monotonic()
        await asyncio.to_thread(server.command, "backup", str(backup))
        over = time.monotonic()
        for client in clients:
            assert not client.done(), client
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
    assert sum(at > begun for at, _ in ended) > 10, "answers went on while the backup was made"
    facts = json.loads(server.command("backup", "--verify", "--json", str(backup)))
    assert facts["files"] >= 2
    assert await server.stop() == 0
    beside = LiveServer(target)
    beside.command("restore", str(backup))
    with House.open(Settings(home=target)) as house:
        assert await house.ledger.verify() == []
    for file in (target / "blobs" / "sha256").glob("*/*/*"):
        assert hashlib.sha256(file.read_bytes()).hexdigest() == file.name
    await beside.start()
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as session:
        for at, request_id in ended:
            async with session.get(f"{beside.url}/v1/organization/requests/{request_id}") as answer:
                assert at > begun or answer.status == 200, request_id
                assert at < over or answer.status == 404, "a backup has nothing of after its end"
        for at, file_id in stored:
            async with session.get(f"{beside.url}/v1/files/{file_id}/content") as answer:
                assert at > begun or answer.status == 200, file_id
                await answer.read()
        async with session.get(f"{beside.url}/v1/files") as answer:
            for file in (await answer.json())["data"]:
                async with session.get(f"{beside.url}/v1/files/{file['id']}/content") as content:
                    assert len(await content.read()) == file["bytes"]
    (owner,) = {row.id for row in await _keys(target)}
    assert (await beside.spent(owner))[1] == 0, "what was under way is let go"
    assert await beside.stop() == 0
    with House.open(Settings(home=target)) as house:
        assert await house.ledger.verify() == []


async def _keys(home: Path) -> list[object]:
    with House.open(Settings(home=home)) as house:
        return list(await house.accounts.list_keys())
