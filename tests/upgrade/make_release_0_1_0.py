"""How `release-0.1.0.*` was made, by that release's own code: no test runs this.

    git archive f9b1c08 | tar x -C OLD
    cd OLD && PYTHONPATH=OLD/src:OLD/tests:OLD/tests/server python make_release_0_1_0.py FOLDER

Keys of every kind, budgets, prices of every kind, 120 requests, a refused one, and one under way when it was copied.
"""

import asyncio
import gzip
import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

from server_house import Served, served, settled

from dayspring.accounts.service import KeyRequest
from dayspring.core.money import Rate, Unit
from dayspring.ledger.prices import PriceRequest
from live import echo_model

PRICE = {
    Unit.INPUT_TOKEN: Rate(250_000_000, 1_000_000),
    Unit.OUTPUT_TOKEN: Rate(900_000_000, 1_000_000),
    Unit.REQUEST: Rate(1000),
}


def asking(model: str, words: int, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "word " * words}], **more}


async def ask(house: Served, path: str, key: str, body: dict[str, Any], status: int = 200) -> None:
    answer = await house.ask("POST", path, key=key, json=body)
    assert answer.status == status, answer.body


async def keys_of(house: Served) -> dict[str, str]:
    accounts = house.house.accounts
    project = await accounts.create_project("second")
    tokens = {"administrator": house.key}
    wanted: dict[str, dict[str, Any]] = {
        "plain": {"budget_nanos": 10**9, "sees_cost": True},
        "second": {"project_id": project.id, "budget_nanos": 5_000_000},
        "narrow": {"allowed_models": frozenset({"other"})},
        "broke": {"budget_nanos": 10},
        "revoked": {},
    }
    for name, more in wanted.items():
        made = await accounts.create_key(KeyRequest(name=name, **more))
        tokens[name] = made.token
        if name == "revoked":
            await accounts.revoke_key(made.key.id)
    await accounts.set_budget(project.id, 10**10)
    return tokens


async def budgets_of(house: Served) -> dict[str, list[int | None]]:
    accounts, found = house.house.accounts, {}
    keys = await accounts.list_keys()
    for owner in sorted({each for key in keys for each in (key.id, key.project_id, key.organization_id)}):
        budget = await accounts.budget(owner)
        found[owner] = [budget.limit_nanos, budget.spent_nanos, budget.held_nanos]
    return found


async def main(folder: Path) -> None:
    async with served(folder, echo_model(), echo_model("other"), echo_model("slow", delay_s=0.2)) as house:
        prices = house.house.prices
        await prices.set(PriceRequest(model_id="echo", rates=PRICE))
        upstream = {Unit.INPUT_TOKEN: Rate(1, 1000)}
        await prices.set(PriceRequest(model_id="echo", rates=upstream, kind="upstream", target="api.example"))
        tokens = await keys_of(house)
        for number in range(30):
            for name in ("plain", "second", "narrow"):
                model = "other" if name == "narrow" else "echo"
                body = asking(model, number + 1, metadata={"n": str(number)})
                await ask(house, "/v1/chat/completions", tokens[name], body)
            await ask(house, "/v1/embeddings", tokens["plain"], {"model": "echo", "input": "word " * (number + 1)})
        await ask(house, "/v1/chat/completions", tokens["broke"], asking("echo", 1), 429)
        await settled(house)
        facts = {"tokens": tokens, "budgets": await budgets_of(house)}
        (folder / "release-0.1.0.json").write_text(json.dumps(facts, indent=1, sort_keys=True), encoding="utf-8")
        slow = asking("slow", 40, stream=True, max_tokens=50)
        visiting = house.visiting("/v1/chat/completions", json.dumps(slow).encode())
        task = asyncio.create_task(visiting.run())
        await visiting.sent.wait()
        with sqlite3.connect(folder / "dayspring.db") as source:
            dump = "\n".join(source.iterdump())
        (folder / "release-0.1.0.sql.gz").write_bytes(gzip.compress(dump.encode(), 9, mtime=0))
        visiting.leave()
        await asyncio.gather(task, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
