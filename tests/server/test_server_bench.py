"""`dayspring bench` against a server that runs: its sums are the ledger's."""

import asyncio
import json
from pathlib import Path

from dayspring.accounts.principals import Scope
from live import LiveServer, echo_model


async def test_a_measurement_agrees_with_the_ledger(tmp_path: Path) -> None:
    server = LiveServer(tmp_path)
    await server.prepare(echo_model())
    _, dark = await server.key(sees_cost=False, scopes=frozenset({Scope.INFERENCE}))
    await server.start()
    try:
        words = ("bench", "--model", "echo", "--url", server.url, "--tokens", "7", "--streams", "1,3", "--rounds", "2")
        one, three = json.loads(await asyncio.to_thread(server.command, *words, "--json"))
        rows = json.loads(await asyncio.to_thread(server.command, "usage", "--requests", "--json"))
        table = await asyncio.to_thread(server.command, *words, "--key", dark)
    finally:
        await server.stop()
    assert [line["requests"] for line in (one, three)] == [2, 6]
    assert [line["output_tokens"] for line in (one, three)] == [14, 42]
    assert len(rows) == 1 + 2 + 6  # the first only loads the model
    measured = sorted(rows, key=lambda row: row["id"])[1:]
    assert sum(row["charged_nanos"] for row in measured) == one["price_nanos"] + three["price_nanos"]
    assert sum(row["compute_cost_nanos"] for row in measured) == one["cost_nanos"] + three["cost_nanos"]
    for line in (one, three):
        assert line["tokens_per_s"] > 0
        assert 0 < line["first_token_p50_ms"] <= line["first_token_p95_ms"]
    assert table.count("not shown") == 4
