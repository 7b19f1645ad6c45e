"""The process is ended at a fail point, as `kill -9` would; the next start makes the account right."""

import asyncio
import os
import subprocess
import sys

import pytest
from sqlalchemy import text

from dayspring.accounts.service import Accounts
from dayspring.contracts.clock import SystemClock
from dayspring.ledger.service import Ledger
from dayspring.store.database import Database
from dayspring.store.failpoints import EXIT_CODE

_SERVER = """
import asyncio, os, sys
from dayspring.accounts.service import Accounts
from dayspring.contracts.clock import SystemClock
from dayspring.core.ids import new_id
from dayspring.ledger.service import Ledger
from dayspring.ledger.values import ReserveRequest, Settlement
from dayspring.store.database import Database

def say(*words):
    # One system call for a whole line: what the test reads was said in full.
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

async def serve():
    db, clock = Database.open(sys.argv[1]), SystemClock()
    accounts, ledger = Accounts(db, clock), Ledger(db, clock, "USD")
    made = await accounts.bootstrap("USD")
    say("key", made.token)
    await accounts.set_budget(made.key.id, 10**6)
    await ledger.start("home")

    async def client(n):
        for turn in range(200):
            request = new_id("req")
            await ledger.reserve(ReserveRequest(request, made.key.principal, "m", "chat", 100))
            say("reserved", request)
            if turn % 5 == 4:
                await ledger.release(request)
                say("released", request)
                continue
            await ledger.settle(Settlement(request_id=request, status="completed", started_at_ns=1, finished_at_ns=2,
                device="cpu", price_nanos=turn + 1, compute_cost_nanos=3))
            say("settled", request, turn + 1)

    await asyncio.gather(*(client(n) for n in range(6)))

asyncio.run(serve())
"""


@pytest.mark.parametrize("arrival", [5, 24, 61])
@pytest.mark.parametrize("point", ["store.before-commit", "store.after-commit"])
def test_what_was_answered_is_booked_once_and_nothing_stays_held(database_url: str, point: str, arrival: int) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _SERVER, database_url],
        env=os.environ | {"DAYSPRING_FAILPOINT": f"{point}:{arrival}"}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ended.returncode == EXIT_CODE, ended.stderr
    said = [line.split() for line in ended.stdout.splitlines()]
    answered = {line[1]: int(line[2]) for line in said if line[0] == "settled"}
    released = {line[1] for line in said if line[0] == "released"}
    reserved = {line[1] for line in said if line[0] == "reserved"}
    asyncio.run(_check(database_url, said[0][1], answered, released, reserved))


async def _check(url: str, token: str, answered: dict[str, int], released: set[str], reserved: set[str]) -> None:
    db, clock = Database.open(url), SystemClock()
    accounts, ledger = Accounts(db, clock), Ledger(db, clock, "USD")
    await ledger.start("home")
    rows = await db.read(
        lambda connection: connection.execute(text("SELECT request_id, status, price_nanos FROM requests")).all()
    )
    ends = {request: (status, price) for request, status, price in rows}
    assert len(ends) == len(rows)
    assert reserved <= set(ends)
    for request, price in answered.items():
        assert ends[request] == ("completed", price)
    for request in released:
        assert ends[request] == ("failed", 0)
    budget = await accounts.budget((await accounts.authenticate(token)).key_id)
    assert budget.held_nanos == 0
    assert budget.spent_nanos == sum(price for _, price in ends.values())
    assert await ledger.verify() == []
    db.close()
