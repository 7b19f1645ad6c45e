"""What a request costs, exactly: the price by the book, the measured cost, the margin, the same wherever one looks."""

import asyncio
import time

import aiohttp
import orjson
import pytest

from dayspring.core.money import Unit
from live import FLAT_NANOS, PRICE, Started

CHAT = "/v1/chat/completions"


def body(words: int, model: str = "echo", **fields: object) -> dict[str, object]:
    text = " ".join(f"w{number}" for number in range(words))
    return {"model": model, "messages": [{"role": "user", "content": text}], **fields}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def account(session: aiohttp.ClientSession, started: Started, request_id: str) -> dict[str, object]:
    url = f"{started.base_url}/organization/requests/{request_id}"
    async with session.get(url, headers=bearer(started.key)) as response:
        return orjson.loads(await response.read())


async def test_headers_and_ledger_say_the_same(echo_server: Started) -> None:
    async with aiohttp.ClientSession(headers=bearer(echo_server.key)) as session:
        async with session.post(echo_server.server.url + CHAT, json=body(12)) as response:
            answer = orjson.loads(await response.read())
            headers = response.headers
        usage = answer["usage"]
        expected = PRICE[Unit.INPUT_TOKEN].of(usage["prompt_tokens"]) + PRICE[Unit.OUTPUT_TOKEN].of(
            usage["completion_tokens"]
        )
        assert int(headers["x-dayspring-price-nanos"]) == expected
        row = await account(session, echo_server, headers["x-request-id"])
    assert row["status"] == "completed"
    assert row["charged_nanos"] == expected
    cost = -(-row["busy_ns"] * 5_000 // 10**9)
    assert row["compute_cost_nanos"] == cost == int(headers["x-dayspring-cost-nanos"])
    assert row["margin_nanos"] == expected - cost == int(headers["x-dayspring-margin-nanos"])


async def test_a_key_that_may_not_see_prices_sees_none(echo_server: Started) -> None:
    _, key = await echo_server.server.key(sees_cost=False)
    async with (
        aiohttp.ClientSession(headers=bearer(key)) as session,
        session.post(echo_server.server.url + CHAT, json=body(3)) as response,
    ):
        assert response.status == 200
        assert not [name for name in response.headers if name.lower().startswith("x-dayspring")]


async def test_a_client_that_leaves_pays_for_what_was_produced_and_the_work_stops(echo_server: Started) -> None:
    async with aiohttp.ClientSession(headers=bearer(echo_server.key)) as session:
        sent = body(500, "slow", stream=True)
        async with session.post(echo_server.server.url + CHAT, json=sent) as response:
            request_id = response.headers["x-request-id"]
            seen = 0
            async for line in response.content:
                seen += line.startswith(b"data: ")
                if seen == 6:
                    break
            response.close()
        left = time.monotonic()
        while True:
            row = await account(session, echo_server, request_id)
            if "error" not in row:
                break
            assert time.monotonic() - left < 30
            await asyncio.sleep(0.01)  # until the server has noticed
    assert row["status"] == "cancelled"
    assert 5 <= row["output_tokens"] < 60
    assert row["charged_nanos"] == PRICE[Unit.INPUT_TOKEN].of(row["input_tokens"]) + PRICE[Unit.OUTPUT_TOKEN].of(
        row["output_tokens"]
    )


async def test_a_worker_that_dies_in_the_middle_ends_the_stream_with_an_error_and_costs_nothing(
    echo_server: Started,
) -> None:
    async with aiohttp.ClientSession(headers=bearer(echo_server.key)) as session:
        sent = body(50, "fragile", stream=True)
        async with session.post(echo_server.server.url + CHAT, json=sent) as response:
            request_id = response.headers["x-request-id"]
            lines = [line async for line in response.content if line.startswith(b"data: ")]
        assert orjson.loads(lines[-1][6:])["error"]["code"] == "worker_died"
        row = await account(session, echo_server, request_id)
    assert row["status"] == "failed"
    assert row["charged_nanos"] == 0


@pytest.mark.parametrize("flat", [True, False])
async def test_no_more_is_spent_than_the_budget(echo_server: Started, flat: bool) -> None:
    budget = 100 * FLAT_NANOS if flat else 2_000_000
    name = "flat" if flat else "echo"
    key_id, key = await echo_server.server.key(budget_nanos=budget)
    async with aiohttp.ClientSession(headers=bearer(key), connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask() -> tuple[int, str]:
            sent = body(4, name, max_tokens=8)
            async with session.post(echo_server.server.url + CHAT, json=sent) as response:
                answer = orjson.loads(await response.read())
                return response.status, answer.get("error", {}).get("code", "")

        answers = await asyncio.gather(*(ask() for _ in range(300)))
    succeeded = [answer for answer in answers if answer[0] == 200]
    refused = [answer for answer in answers if answer == (429, "insufficient_quota")]
    assert len(succeeded) + len(refused) == 300
    if flat:
        assert len(succeeded) == 100
    spent, held = await echo_server.server.spent(key_id)
    assert held == 0
    assert 0 < spent <= budget


async def test_a_budget_too_small_says_which_maximum_would_fit(echo_server: Started) -> None:
    _, key = await echo_server.server.key(budget_nanos=100_000)
    async with aiohttp.ClientSession(headers=bearer(key)) as session:
        async with session.post(echo_server.server.url + CHAT, json=body(4)) as response:
            assert response.status == 429
            message = orjson.loads(await response.read())["error"]["message"]
        fits = int(message.split("max_completion_tokens of at most ")[1].split(",")[0])
        async with session.post(echo_server.server.url + CHAT, json=body(4, max_tokens=fits + 1)) as response:
            assert response.status == 429
        async with session.post(echo_server.server.url + CHAT, json=body(4, max_tokens=fits)) as response:
            assert response.status == 200
