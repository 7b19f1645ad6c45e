"""The data of release 0.1.0, made by its own code, under today's program: nothing lost, nothing doubled.

`make_release_0_1_0.py` beside this file says how it was made.
"""

import gzip
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from dayspring.core.settings import Settings
from dayspring.server.backups.checking import check_backup
from dayspring.server.backups.making import make_backup
from dayspring.server.backups.restoring import restore_backup
from dayspring.store import migrate
from dayspring.store.dump import continue_counting, dump_table, load_table, tables_of
from dayspring.store.engines import make_engine
from dayspring.store.failpoints import EXIT_CODE
from server.backup_kit import NewHome, all_rows, new_home, quiet, reopened

assert new_home

REVISION = "2026_11_21_immutable_ledger"
FACTS: dict[str, Any] = json.loads((Path(__file__).parent / "release-0.1.0.json").read_text(encoding="utf-8"))
CHAT = "/v1/chat/completions"
KINDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


def lay_out(file: Path) -> None:
    """The old database as it stood."""
    dump = gzip.decompress((Path(__file__).parent / "release-0.1.0.sql.gz").read_bytes()).decode()
    file.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(dump)
        connection.execute("PRAGMA journal_mode = WAL")


def copied(file: Path, url: str) -> None:
    """Its rows, in a database of that release's tables."""
    migrate.upgrade(url, REVISION)
    source, target = make_engine(f"sqlite:///{file}"), make_engine(url)
    with source.connect() as read, target.connect() as written:
        there = {table.name: table for table in tables_of(written)}
        for table in tables_of(read, without=frozenset({"alembic_version"})):
            load_table(written, there[table.name], dump_table(read, table))
            continue_counting(written, there[table.name])
        written.commit()
    source.dispose()
    target.dispose()


@pytest.fixture(params=KINDS)
def old(request: pytest.FixtureRequest, new_home: NewHome, tmp_path: Path) -> Settings:
    """An installation of 0.1.0 on either database."""
    settings = new_home(request.param)
    if request.param == "sqlite":
        lay_out(settings.home / "dayspring.db")
    else:
        settings.home.mkdir()
        lay_out(tmp_path / "old.db")
        copied(tmp_path / "old.db", settings.database_url)
    (settings.home / "admin.key").write_text(FACTS["tokens"]["administrator"] + "\n", encoding="utf-8")
    return settings


def old_requests(settings: Settings) -> list[tuple[Any, ...]]:
    """What was booked then."""
    columns = "request_id, key_id, model, status, price_nanos, compute_cost_nanos, input_tokens, output_tokens"
    engine = make_engine(settings.effective_database_url)
    with engine.connect() as connection:
        query = f"SELECT {columns} FROM requests WHERE status = 'completed' ORDER BY request_id"
        rows = [tuple(row) for row in connection.execute(text(query))]
    engine.dispose()
    return rows


async def _is_whole(settings: Settings, requests: list[tuple[Any, ...]]) -> None:
    """Today's program serves it, with every account and balance as it was."""
    async with reopened(settings) as house:
        assert migrate.current(settings.effective_database_url) == migrate.head()
        accounts = house.house.accounts
        for owner, (limit, spent, _) in FACTS["budgets"].items():
            budget = await accounts.budget(owner)
            assert (budget.limit_nanos, budget.spent_nanos, budget.held_nanos) == (limit, spent, 0), owner
        assert await house.house.ledger.verify() == []
        assert old_requests(settings) == requests
        keys = FACTS["tokens"]
        body = {"model": "echo", "messages": [{"role": "user", "content": "still here"}]}
        for name, status in (("administrator", 200), ("plain", 200), ("second", 200), ("broke", 429), ("revoked", 401)):
            assert (await house.ask("POST", CHAT, key=keys[name], json=body)).status == status, name
        assert (await house.ask("POST", CHAT, key=keys["narrow"], json=body)).status == 404
        assert (await house.ask("POST", CHAT, key=keys["narrow"], json=body | {"model": "other"})).status == 200
        usage = await house.ask("GET", "/v1/organization/requests?limit=100", key=keys["administrator"])
        assert len(usage.json["data"]) == 100
        plain = next(key.id for key in await accounts.list_keys() if key.name == "plain")
        assert (await accounts.budget(plain)).spent_nanos > FACTS["budgets"][plain][1], "the old price still counts"
        assert await house.house.ledger.verify() == []


async def test_todays_program_starts_on_it_with_every_account_as_it_was(old: Settings) -> None:
    requests = old_requests(old)
    assert len(requests) == 120
    await _is_whole(old, requests)
    await _is_whole_again(old)


async def _is_whole_again(settings: Settings) -> None:
    """A second start changes nothing."""
    before = all_rows(settings) if (settings.home / "jobs.db").exists() else None
    async with reopened(settings) as house:
        assert await house.house.ledger.verify() == []
    assert before is None or all_rows(settings) == before


@pytest.mark.parametrize("kind", KINDS)
async def test_a_backup_of_it_that_was_made_before_the_upgrade_comes_forward(
    new_home: NewHome, tmp_path: Path, kind: str
) -> None:
    settings, target = new_home("sqlite"), new_home(kind)
    lay_out(settings.home / "dayspring.db")
    (settings.home / "admin.key").write_text(FACTS["tokens"]["administrator"] + "\n", encoding="utf-8")
    requests = old_requests(settings)
    manifest = make_backup(settings, tmp_path / "old.tar", progress=quiet)
    assert manifest.header.revision == REVISION == migrate.current(settings.effective_database_url)
    assert check_backup(tmp_path / "old.tar", "", quiet) == manifest
    restore_backup(target, tmp_path / "old.tar", progress=quiet)
    await _is_whole(target, requests)


@pytest.mark.parametrize("point", ["migrate.before-commit", "migrate.revision:1", "migrate.revision:3"])
async def test_a_killed_migration_leaves_the_old_database_as_it_was(old: Settings, point: str) -> None:
    requests = old_requests(old)
    program = "import sys; from dayspring.store.migrate import upgrade; upgrade(sys.argv[1])"
    environment = os.environ | {"DAYSPRING_FAILPOINT": point}
    command = [sys.executable, "-c", program, old.effective_database_url]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)  # noqa: ASYNC221
    assert done.returncode == EXIT_CODE, done.stderr
    assert migrate.current(old.effective_database_url) == REVISION
    engine = make_engine(old.effective_database_url)
    with engine.connect() as connection:
        assert "files" not in {table.name for table in tables_of(connection)}
    engine.dispose()
    assert old_requests(old) == requests
    await _is_whole(old, requests)


async def test_a_migration_that_fails_leaves_the_old_database_as_it_was(
    old: Settings,
) -> None:
    engine = make_engine(old.effective_database_url)
    with engine.connect() as connection:
        connection.execute(text("CREATE TABLE uploads (mine INTEGER)"))  # what a migration wants to make itself
        connection.commit()
    with pytest.raises(Exception, match=r"uploads|migrated"):
        migrate.upgrade(old.effective_database_url)
    assert migrate.current(old.effective_database_url) == REVISION
    with engine.connect() as connection:
        names = {table.name for table in tables_of(connection)}
        connection.execute(text("DROP TABLE uploads"))
        connection.commit()
    engine.dispose()
    assert "files" not in names
    await _is_whole(old, old_requests(old))
