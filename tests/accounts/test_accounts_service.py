"""First start, keys, authentication and budgets."""

import asyncio
import subprocess
import sys

import pytest
from sqlalchemy import text

from dayspring.accounts.authentication import TTL_S
from dayspring.accounts.keys import digest_of, new_token
from dayspring.accounts.principals import Scope
from dayspring.accounts.service import Accounts, KeyRequest, NewKey
from dayspring.contracts.clock import SystemClock
from dayspring.core.errors import Conflict, InvalidRequest, NotFound, Unauthenticated
from dayspring.store.database import Database
from dayspring.testing.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def accounts(database: Database, clock: FakeClock) -> Accounts:
    return Accounts(database, clock)


@pytest.fixture
async def admin(accounts: Accounts) -> NewKey:
    made = await accounts.bootstrap("EUR")
    assert made is not None
    return made


async def test_the_first_start_makes_one_administrator_and_later_ones_none(accounts: Accounts, admin: NewKey) -> None:
    assert await accounts.bootstrap("EUR") is None
    principal = await accounts.authenticate(admin.token)
    assert principal.is_admin
    assert principal.sees_cost
    assert [project.name for project in await accounts.list_projects()] == ["default"]
    assert len(await accounts.list_keys()) == 1


async def test_another_currency_is_refused_later(accounts: Accounts, admin: NewKey) -> None:
    with pytest.raises(Conflict, match="counts in EUR and DAYSPRING_CURRENCY says USD"):
        await accounts.bootstrap("USD")


async def test_a_secret_kept_before_the_first_start_is_the_administrators(accounts: Accounts) -> None:
    token = new_token()
    made = await accounts.bootstrap("USD", token)
    assert made is not None
    assert made.token == token
    assert (await accounts.authenticate(token)).is_admin


_RACER = """
import asyncio, sys
from dayspring.accounts.service import Accounts
from dayspring.contracts.clock import SystemClock
from dayspring.store.database import Database
from dayspring.testing.clock import FakeClock
db = Database.open(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
made = asyncio.run(Accounts(db, SystemClock()).bootstrap("USD"))
print("none" if made is None else made.token, flush=True)
db.close()
"""


def test_of_several_servers_that_start_at_once_exactly_one_wins(database_url: str) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", _RACER, database_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    said = [racer.communicate(timeout=30)[0].strip() for racer in racers]
    winners = [line for line in said if line.startswith("ds-")]
    assert len(winners) == 1
    assert said.count("none") == 3
    db = Database.open(database_url)
    accounts = Accounts(db, SystemClock())
    assert asyncio.run(accounts.authenticate(winners[0])).is_admin
    assert len(asyncio.run(accounts.list_keys())) == 1
    db.close()


async def test_a_key_carries_what_it_was_made_with(accounts: Accounts, admin: NewKey, clock: FakeClock) -> None:
    project = await accounts.create_project("research")
    made = await accounts.create_key(
        KeyRequest(
            name="ci", project_id=project.id, scopes=frozenset({Scope.INFERENCE}), allowed_models=frozenset({"a", "b"}),
            sees_cost=True, budget_nanos=500,
        )
    )  # fmt: skip
    principal = await accounts.authenticate(made.token)
    assert (principal.project_id, principal.key_id) == (project.id, made.key.id)
    assert principal.may(Scope.INFERENCE)
    assert not principal.may(Scope.USAGE)
    assert principal.may_use("a")
    assert not principal.may_use("c")
    assert principal.sees_cost
    assert await accounts.get_key(made.key.id) == made.key
    assert (await accounts.budget(made.key.id)).left_nanos == 500
    assert [key.id for key in await accounts.list_keys(project.id)] == [made.key.id]


async def test_no_secret_is_stored_or_shown(accounts: Accounts, admin: NewKey, database: Database) -> None:
    assert admin.token not in repr(admin)
    rows = await database.read(
        lambda connection: [tuple(row) for row in connection.execute(text("SELECT * FROM keys"))]
    )
    assert admin.token[13:] not in repr(rows)
    assert any(bytes(value) == digest_of(admin.token) for value in rows[0] if isinstance(value, (bytes, memoryview)))
    assert len(admin.token) == 46


@pytest.mark.parametrize("token", ["", "ds-", "sk-123", "ds-" + "A" * 43, "ds-" + "é" * 43, "x" * 100_000])
async def test_a_strangers_token_is_refused(accounts: Accounts, admin: NewKey, token: str) -> None:
    with pytest.raises(Unauthenticated):
        await accounts.authenticate(token)


async def test_a_token_with_our_prefix_and_another_end_is_refused(accounts: Accounts, admin: NewKey) -> None:
    with pytest.raises(Unauthenticated):
        await accounts.authenticate(admin.token[:20] + "x" * 26)


async def test_a_revoked_key_is_refused_at_once(accounts: Accounts, admin: NewKey) -> None:
    made = await accounts.create_key(KeyRequest(name="x"))
    await accounts.authenticate(made.token)
    revoked = await accounts.revoke_key(made.key.id)
    with pytest.raises(Unauthenticated):
        await accounts.authenticate(made.token)
    assert await accounts.revoke_key(made.key.id) == revoked


async def test_another_process_refuses_a_revoked_key_within_a_second(
    accounts: Accounts, admin: NewKey, database: Database, clock: FakeClock
) -> None:
    elsewhere = Accounts(database, clock)
    made = await accounts.create_key(KeyRequest(name="x"))
    await elsewhere.authenticate(made.token)
    await accounts.revoke_key(made.key.id)
    assert TTL_S <= 1
    clock.advance(TTL_S)
    with pytest.raises(Unauthenticated):
        await elsewhere.authenticate(made.token)


async def test_an_expired_key_is_refused_also_when_it_was_just_seen(
    accounts: Accounts, admin: NewKey, clock: FakeClock
) -> None:
    made = await accounts.create_key(KeyRequest(name="x", expires_at_ns=clock.time_ns() + 10**8))
    await accounts.authenticate(made.token)
    clock.advance(0.1)
    with pytest.raises(Unauthenticated):
        await accounts.authenticate(made.token)


async def test_a_known_token_costs_no_read(
    accounts: Accounts, admin: NewKey, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await accounts.authenticate(admin.token)
    monkeypatch.setattr(database, "read", None)
    assert (await accounts.authenticate(admin.token)).is_admin


async def test_a_revocation_during_a_read_is_not_forgotten(
    accounts: Accounts, admin: NewKey, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await accounts.create_key(KeyRequest(name="x"))
    read = database.read

    async def slow(fn):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
        found = await read(fn)
        monkeypatch.setattr(database, "read", read)
        await accounts.revoke_key(made.key.id)
        return found

    monkeypatch.setattr(database, "read", slow)
    with pytest.raises(Unauthenticated):
        await accounts.authenticate(made.token)


async def test_what_cannot_be_a_key_is_refused(accounts: Accounts, admin: NewKey, clock: FakeClock) -> None:
    for request in (
        KeyRequest(name=" "),
        KeyRequest(name="x", scopes=frozenset()),
        KeyRequest(name="x", scopes=frozenset({"root"})),
        KeyRequest(name="x", expires_at_ns=clock.time_ns()),
        KeyRequest(name="x", budget_nanos=-1),
        KeyRequest(name="x", budget_nanos=2**63),
    ):
        with pytest.raises(InvalidRequest):
            await accounts.create_key(request)
    with pytest.raises(NotFound):
        await accounts.create_key(KeyRequest(name="x", project_id="proj_none"))
    assert len(await accounts.list_keys()) == 1


async def test_a_key_before_the_first_start_is_refused(accounts: Accounts) -> None:
    with pytest.raises(Conflict, match="never started"):
        await accounts.create_key(KeyRequest(name="x"))


async def test_two_projects_cannot_share_a_name(accounts: Accounts, admin: NewKey) -> None:
    with pytest.raises(Conflict):
        await accounts.create_project("default")
    made = await asyncio.gather(*(accounts.create_project("x") for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(one, Conflict) for one in made) == 4


async def test_a_budget_is_set_raised_and_removed(accounts: Accounts, admin: NewKey) -> None:
    key = admin.key.id
    assert (await accounts.budget(key)).left_nanos is None
    with pytest.raises(InvalidRequest, match="no budget to raise"):
        await accounts.raise_budget(key, 5)
    await accounts.set_budget(key, 100)
    assert await asyncio.gather(*(accounts.raise_budget(key, 10) for _ in range(3))) == [110, 120, 130]
    assert (await accounts.budget(key)).limit_nanos == 130
    await accounts.set_budget(key, None)
    assert (await accounts.budget(key)).limit_nanos is None
    for owner in ("key_none", "proj_none"):
        with pytest.raises(NotFound):
            await accounts.set_budget(owner, 1)
