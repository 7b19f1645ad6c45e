"""The official client's own examples of files and uploads, against a live server."""

import asyncio
import hashlib
import os
import random
import resource
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from live import Started

JSONL = b'{"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "echo"}}\n'


def test_a_file_is_made_listed_shown_read_and_deleted(client: OpenAI, tmp_path: Path) -> None:
    written = tmp_path / "requests.jsonl"
    written.write_bytes(JSONL)
    with written.open("rb") as stream:
        made = client.files.create(
            file=stream, purpose="batch", expires_after={"anchor": "created_at", "seconds": 7200}
        )
    assert (made.filename, made.bytes, made.purpose, made.status) == (
        "requests.jsonl",
        len(JSONL),
        "batch",
        "processed",
    )
    assert made.expires_at == made.created_at + 7200
    others = [client.files.create(file=(f"{n}.txt", b"%d" % n), purpose="user_data") for n in range(3)]
    listed = [file.id for file in client.files.list(purpose="user_data", limit=2)]
    assert listed[:3] == [file.id for file in reversed(others)]
    assert client.files.retrieve(made.id) == made
    assert client.files.content(made.id).content == JSONL
    for file in (made, *others):
        assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(made.id)


def test_an_upload_of_parts_is_completed_or_cancelled(client: OpenAI) -> None:
    data = random.Random(1).randbytes(1000)
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    upload = client.uploads.create(
        bytes=1000, filename="data.bin", mime_type="application/octet-stream", purpose="user_data"
    )
    parts = [client.uploads.parts.create(upload.id, data=data[at : at + 400]) for at in (800, 400, 0)]
    done = client.uploads.complete(upload.id, part_ids=[part.id for part in reversed(parts)], md5=md5)
    assert (done.status, done.file and done.file.bytes) == ("completed", 1000)
    assert done.file is not None
    assert client.files.content(done.file.id).content == data
    other = client.uploads.create(bytes=10, filename="x", mime_type="text/plain", purpose="user_data")
    assert client.uploads.cancel(other.id).status == "cancelled"


def test_the_client_s_own_way_with_large_files(client: OpenAI, tmp_path: Path) -> None:
    big = tmp_path / "big.bin"
    big.write_bytes(b"\x01" + os.urandom(5 << 20))
    done = client.uploads.upload_file_chunked(
        file=big, mime_type="application/octet-stream", purpose="user_data", part_size=1 << 20
    )
    assert done.file is not None
    assert client.files.content(done.file.id).content == big.read_bytes()


async def test_files_work_from_asyncio_too(echo_server: Started) -> None:
    async with AsyncOpenAI(base_url=echo_server.base_url, api_key=echo_server.key, max_retries=0) as client:
        made = await client.files.create(file=("a.csv", b"a,b\n1,2\n"), purpose="assistants")
        assert (await client.files.content(made.id)).content == b"a,b\n1,2\n"


def _resident_bytes(pid: int) -> int:
    fields = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
    return int(fields[1]) * resource.getpagesize()


async def test_a_large_file_passes_in_little_memory(echo_server: Started) -> None:
    """256 MiB in, 256 MiB out; the server's memory grows by less than a tenth of it."""
    server = echo_server.server
    assert server.process is not None
    headers = {"Authorization": f"Bearer {echo_server.key}"}
    piece, count = os.urandom(1 << 20), 256
    peak = before = _resident_bytes(server.process.pid)

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal peak
        assert server.process is not None
        for _ in range(count):
            yield piece
            peak = max(peak, _resident_bytes(server.process.pid))

    form = aiohttp.FormData()
    form.add_field("purpose", "user_data")
    form.add_field("file", pieces(), filename="large.bin", content_type="application/octet-stream")
    started = time.monotonic()
    async with aiohttp.ClientSession(headers=headers) as session:
        async with session.post(f"{server.url}/v1/files", data=form) as answer:
            assert answer.status == 200, await answer.text()
            made = await answer.json()
        assert made["bytes"] == count << 20
        took_s = time.monotonic() - started
        seen = 0
        async with session.get(f"{server.url}/v1/files/{made['id']}/content") as answer:
            async for chunk in answer.content.iter_chunked(1 << 20):
                seen += len(chunk)
                peak = max(peak, _resident_bytes(server.process.pid))
        assert seen == count << 20
        async with session.delete(f"{server.url}/v1/files/{made['id']}") as answer:
            assert answer.status == 200
    assert peak - before < (count << 20) // 10, f"{(peak - before) >> 20} MiB more, {took_s:.1f} s"


async def test_a_cut_connection_leaves_nothing_and_the_server_well(echo_server: Started) -> None:
    server = echo_server.server
    head = (
        f"POST /v1/files HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        f"Authorization: Bearer {echo_server.key}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000000\r\n\r\n"
        '--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
    )
    incoming = server.home / "blobs" / "incoming"
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(head.encode() + b"x" * 100_000)
    await writer.drain()
    async with asyncio.timeout(10):
        while not list(incoming.iterdir()):  # noqa: ASYNC110 - another process's folder tells nobody
            await asyncio.sleep(0.01)
        writer.close()
        while list(incoming.iterdir()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
