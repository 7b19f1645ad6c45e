"""The official client's batches, and the jobs behind them, against a live server."""

import asyncio
import io
import time

import aiohttp
import openai
import orjson
import pytest
from openai import OpenAI

from live import LiveServer, Started


def _line(number: int, model: str = "echo") -> bytes:
    body = {"model": model, "messages": [{"role": "user", "content": f"say {number}"}]}
    line = {"custom_id": f"n{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
    return orjson.dumps(line) + b"\n"


def _upload(client: OpenAI, lines: bytes) -> str:
    return client.files.create(file=("in.jsonl", io.BytesIO(lines)), purpose="batch").id


def _wait(client: OpenAI, batch_id: str) -> openai.types.Batch:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        batch = client.batches.retrieve(batch_id)
        if batch.status in ("completed", "failed", "expired", "cancelled"):
            return batch
        time.sleep(0.05)  # between two looks, as OpenAI's own example does
    raise TimeoutError


def test_a_batch_is_made_listed_and_read(client: OpenAI) -> None:
    file_id = _upload(client, b"".join(_line(number) for number in range(20)))
    made = client.batches.create(
        input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"a": "b"}
    )
    assert made.object == "batch"
    assert made.expires_at == made.created_at + 86_400
    batch = _wait(client, made.id)
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert (batch.request_counts.total, batch.request_counts.completed) == (20, 20)
    assert (batch.metadata, batch.model) == ({"a": "b"}, "echo")
    assert batch.usage is not None
    assert batch.usage.total_tokens == batch.usage.input_tokens + batch.usage.output_tokens
    assert batch.output_file_id is not None
    rows = [orjson.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
    assert [row["custom_id"] for row in rows] == [f"n{number}" for number in range(20)]
    assert rows[3]["response"]["body"]["choices"][0]["message"]["content"] == "say 3"
    assert client.files.retrieve(batch.output_file_id).purpose == "batch_output"
    assert made.id in [each.id for each in client.batches.list(limit=1)]
    with pytest.raises(openai.ConflictError):
        client.batches.cancel(made.id)


def test_a_batch_that_is_cancelled_ends_as_cancelled(client: OpenAI) -> None:
    file_id = _upload(client, b"".join(_line(number, "slow") for number in range(3000)))
    made = client.batches.create(input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h")
    assert client.batches.cancel(made.id).status in ("cancelling", "cancelled")
    assert _wait(client, made.id).status == "cancelled"


def test_faults_of_the_input_are_told_with_their_lines(client: OpenAI) -> None:
    file_id = _upload(client, _line(1) + _line(1) + _line(3, "nowhere"))
    made = client.batches.create(input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h")
    batch = _wait(client, made.id)
    assert batch.status == "failed"
    assert batch.errors is not None
    assert [(each.line, each.code) for each in batch.errors.data or []] == [(2, "duplicate_custom_id")]


async def test_a_job_tells_what_happens_to_it(echo_server: Started, client: OpenAI) -> None:
    file_id = _upload(client, b"".join(_line(number) for number in range(5)))
    made = client.batches.create(input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h")
    headers = {"Authorization": f"Bearer {echo_server.key}"}
    place = f"{echo_server.base_url}/jobs/{made.id}"
    async with aiohttp.ClientSession(headers=headers) as session:
        async with session.get(f"{place}/events") as response:
            assert response.content_type == "text/event-stream"
            text = await asyncio.wait_for(response.read(), 60)
        events = [orjson.loads(line[6:]) for line in text.splitlines() if line.startswith(b"data: {")]
        assert text.endswith(b"data: [DONE]\n\n")
        states = [event["data"]["status"] for event in events if event["type"] == "state"]
        assert states == ["queued", "running", "completed"]
        async with session.get(f"{place}/events", params={"after": events[-2]["id"]}) as response:
            rest = await response.text()
        assert rest.count('"job.event"') == 1
        async with session.get(f"{place}/events", params={"after": "job_other/1"}) as response:
            assert response.status == 400
        async with session.get(place) as response:
            job = await response.json()
        assert (job["object"], job["kind"], job["status"]) == ("job", "batch", "completed")
        assert job["progress"]["done"] == job["progress"]["total"] == 5
        async with session.get(f"{echo_server.base_url}/jobs", params={"kind": "batch", "limit": 1}) as response:
            page = await response.json()
        assert page["first_id"] == page["data"][0]["id"] == made.id
        async with session.post(f"{place}/cancel") as response:
            assert response.status == 409
        async with session.post(f"{place}/retry") as response:
            assert response.status == 409


def test_the_terminal_shows_and_ends_jobs(echo_server: Started, client: OpenAI) -> None:
    server: LiveServer = echo_server.server
    file_id = _upload(client, b"".join(_line(number, "slow") for number in range(3000)))
    made = client.batches.create(input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h")
    listed = orjson.loads(server.command("jobs", "list", "--kind", "batch", "--json"))
    assert made.id in [job["id"] for job in listed]
    assert made.id in server.command("jobs", "list")
    assert "batch" in server.command("jobs", "show", made.id)
    assert "cancel" in server.command("jobs", "cancel", made.id)
    assert _wait(client, made.id).status == "cancelled"
