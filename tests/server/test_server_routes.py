"""What clients meet at the routes: streams that settle first, reports as tables, odd methods, counted labels."""

import asyncio
import csv
import io
import time
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
from server_house import CHAT, HELLO, Served, served, settled
from starlette.types import Message

from live import echo_model

REQUESTS = "/v1/organization/requests"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path, echo_model(), echo_model("slow", delay_s=0.01)) as house:
        yield house


@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
async def test_the_last_chunks_leave_when_the_money_is_settled(house: Served, path: str) -> None:
    body = HELLO if path == CHAT else {"model": "echo", "prompt": "one two three"}
    visit = house.visiting(path, orjson.dumps(body | {"stream": True}))
    (key,) = await house.house.accounts.list_keys()
    held: list[tuple[bool, int]] = []
    send = visit._send

    async def watched(message: Message) -> None:
        sent = message.get("body", b"")
        if sent.startswith(b"data: "):
            budget = await house.house.accounts.budget(key.id)
            held.append((b'"finish_reason":null' not in sent, budget.held_nanos))
        await send(message)

    visit._send = watched  # type: ignore[method-assign]
    await visit.run()
    assert [nanos > 0 for end, nanos in held if not end] == [True] * (len(held) - 2)
    assert [nanos for end, nanos in held if end] == [0, 0]  # the end of the choice, and [DONE]


async def test_a_client_that_leaves_a_whole_answer_pays_for_what_was_made(house: Served) -> None:
    words = " ".join(["word"] * 300)
    visit = house.visiting(CHAT, orjson.dumps({"model": "slow", "messages": [{"role": "user", "content": words}]}))
    running = asyncio.create_task(visit.run())
    compute = house.app.state.compute
    while not [worker for worker in compute.status().workers if worker.running]:  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.1)
    visit.leave()
    assert (await running).status == 0
    await settled(house)
    (row,) = (await house.ask("GET", REQUESTS)).json["data"]
    assert row["status"] == "cancelled"
    assert row["output_tokens"] < 300


async def test_the_callers_notes_are_kept_with_the_account(house: Served) -> None:
    await house.ask("POST", CHAT, json=HELLO | {"user": "u1", "metadata": {"team": "a"}})
    await house.ask("POST", "/v1/embeddings", json={"model": "echo", "input": "x", "user": "u2"})
    rows = (await house.ask("GET", f"{REQUESTS}?order=asc")).json["data"]
    assert [row["metadata"] for row in rows] == [{"user": "u1", "team": "a"}, {"user": "u2"}]


@pytest.mark.parametrize("asked", ["?format=csv", "?"])
async def test_reports_can_be_had_as_tables(house: Served, asked: str) -> None:
    headers = {} if "csv" in asked else {"accept": "text/csv"}
    for _ in range(2):
        await house.ask("POST", CHAT, json=HELLO | {"user": "=cmd()"})
    answer = await house.ask("GET", REQUESTS + asked, headers=headers)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.body.decode())))
    assert [row["status"] for row in rows] == ["completed"] * 2
    answer = await house.ask("GET", f"/v1/organization/costs{asked}&start_time=1700000000&limit=31", headers=headers)
    assert answer.status == 200
    query = f"/v1/organization/margins{asked}&start_time={_today()}&group_by[]=model&group_by=device"
    (row, *_) = csv.DictReader(io.StringIO((await house.ask("GET", query, headers=headers)).body.decode()))
    assert (row["model"], row["device"], row["num_model_requests"]) == ("echo", "cpu", "2")


def _today() -> int:
    return int(time.time()) // 86_400 * 86_400


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("", "start_time"),
        ("start_time=x", "start_time"),
        ("start_time=1&user_ids=a", "user_ids"),
        ("start_time=1&batch=true", "batch"),
        ("start_time=1&group_by=user", "group_by"),
        ("start_time=1&limit=0", "limit"),
        ("start_time=1&bucket_width=1y", "bucket_width"),
        ("start_time=99999999999999999999", "start_time"),
        ("start_time=1&page=x", "page"),
    ],
)
async def test_a_report_that_has_no_sense_says_where(house: Served, query: str, param: str) -> None:
    answer = await house.ask("GET", f"/v1/organization/usage/completions?{query}")
    assert (answer.status, answer.error["param"]) == (400, param)


async def test_odd_methods_and_paths_have_the_shape_and_few_labels(house: Served) -> None:
    for method, path, status in (
        ("HEAD", "/v1/models", 405),
        ("OPTIONS", CHAT, 405),
        ("PROPFIND", CHAT, 405),
        ("GET", "/v1/models/", 404),
        ("GET", "/v1/nothing", 404),
        ("GET", "//", 404),
        ("GET", "/../etc/passwd", 404),
    ):
        answer = await house.ask(method, path)
        assert (answer.status, answer.error["type"]) == (status, "invalid_request_error"), (method, path)
    for number in range(20):
        await house.ask("GET", f"/nowhere/{number}")
        await house.ask("GET", f"/v1/models/none-{number}")
        await house.ask(f"VERB{number}", CHAT)
    text = (await house.ask("GET", "/metrics", key="")).body.decode()
    lines = [line for line in text.splitlines() if line.startswith("dayspring_http_requests_total{")]
    assert 'dayspring_http_requests_total{method="GET",route="unmatched",status="404"} 23.0' in lines
    assert 'dayspring_http_requests_total{method="other",route="/v1/chat/completions",status="405"} 21.0' in lines
    assert 'dayspring_http_requests_total{method="GET",route="/v1/models/{model:path}",status="404"} 21.0' in lines
    assert len(lines) < 10


async def test_metrics_are_for_this_machine(house: Served) -> None:
    assert (await house.ask("GET", "/metrics", host="203.0.113.5")).status == 403
    assert (await house.ask("GET", "/metrics", headers={"x-forwarded-for": "203.0.113.5"})).status == 403
    assert (await house.ask("GET", "/metrics", host="::1")).status == 200


async def test_a_budget_refusal_is_told_before_the_stream_begins(house: Served) -> None:
    _, key = await house.new_key(budget_nanos=10)
    answer = await house.ask("POST", CHAT, key=key, json=HELLO | {"stream": True})
    assert (answer.status, answer.error["code"]) == (429, "insufficient_quota")
    assert answer.headers["content-type"] == "application/json"
