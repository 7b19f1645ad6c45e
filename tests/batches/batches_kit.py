"""Batches through an app in this process: files in, batches run, files out."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson

from dayspring.accounts.principals import Principal
from dayspring.batches.service import Batches, NewBatch
from dayspring.batches.values import Batch
from dayspring.files.service import Files
from server.server_house import Served

CHAT = "/v1/chat/completions"
EMBEDDINGS = "/v1/embeddings"


def chat_line(number: int, text: str | None = None, **body: Any) -> dict[str, Any]:
    said = f"line number {number}" if text is None else text
    message = {"role": "user", "content": said}
    return {
        "custom_id": f"c{number}",
        "method": "POST",
        "url": CHAT,
        "body": {"model": "echo", "messages": [message], **body},
    }


def embedding_line(number: int, model: str = "echo", **body: Any) -> dict[str, Any]:
    fields = {"model": model, "input": f"text number {number}", **body}
    return {"custom_id": f"c{number}", "method": "POST", "url": EMBEDDINGS, "body": fields}


def jsonl(*lines: Any) -> bytes:
    return b"".join(orjson.dumps(line) + b"\n" for line in lines)


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


def files_of(served: Served) -> Files:
    return served.app.state.files


def batches_of(served: Served) -> Batches:
    return served.app.state.batches


async def upload(served: Served, who: Principal, content: bytes, purpose: str = "batch") -> str:
    file = await files_of(served).create(who, name="in.jsonl", purpose=purpose, chunks=_once(content))
    return file.id


async def begin(served: Served, who: Principal, content: bytes, endpoint: str = CHAT, **more: Any) -> Batch:
    file_id = await upload(served, who, content)
    return await batches_of(served).create(who, NewBatch(input_file_id=file_id, endpoint=endpoint, **more))


async def ended(served: Served, who: Principal, batch_id: str) -> Batch:
    """The batch, once its job has ended."""
    async with asyncio.timeout(60):
        async for _ in served.app.state.jobs.events(who, batch_id):
            pass
    return await batches_of(served).get(who, batch_id)


async def content(served: Served, who: Principal, file_id: str | None) -> list[Any]:
    assert file_id is not None
    _, chunks = await files_of(served).content(who, file_id)
    text = b"".join([chunk async for chunk in chunks])
    return [orjson.loads(line) for line in text.splitlines()]


def charged_once(rows: list[Any], batch: Batch, lines: int) -> bool:
    """Whether each line's work was charged exactly once."""
    prefix = f"{batch.id}/"
    keys = sorted(row.bill_key for row in rows if row.bill_key.startswith(prefix))
    return keys == sorted(f"{prefix}{number}" for number in range(1, lines + 1))
