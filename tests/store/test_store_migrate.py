"""Both databases, every migration, both ways."""

import sqlite3

import pytest
from sqlalchemy import inspect, text

import dayspring.accounts.administration.service_accounts
import dayspring.accounts.audit
import dayspring.accounts.people.invites
import dayspring.accounts.people.oidc.under_way
import dayspring.accounts.retention
import dayspring.accounts.service
import dayspring.batches.records
import dayspring.chat.responses.stored
import dayspring.files.parts
import dayspring.jobs.records
import dayspring.ledger.billed
import dayspring.ledger.prices
import dayspring.ledger.service
import dayspring.store.aliases
import dayspring.store.downloads
import dayspring.store.models
from dayspring.core.errors import Conflict, DayspringError, InvalidRequest, Unavailable
from dayspring.store import migrate
from dayspring.store.database import Database
from dayspring.store.engines import make_engine
from dayspring.store.schema import metadata

assert dayspring.accounts.service
assert dayspring.batches.records
assert dayspring.files.parts
assert dayspring.chat.responses.stored
assert dayspring.jobs.records
assert dayspring.ledger.prices
assert dayspring.ledger.service
assert dayspring.store.models


def _tables(url: str) -> set[str]:
    engine = make_engine(url)
    found = set(inspect(engine).get_table_names())
    engine.dispose()
    return found


def test_an_empty_database_is_migrated_to_the_declared_tables_and_back(empty_database_url: str) -> None:
    url = empty_database_url
    assert migrate.current(url) is None
    assert migrate.upgrade(url) == migrate.head() == migrate.current(url)
    assert migrate.check(url) == []
    assert _tables(url) >= set(metadata.tables)
    migrate.downgrade(url)
    assert _tables(url) <= {"alembic_version"}
    migrate.upgrade(url)
    assert migrate.current(url) == migrate.head()


def test_a_missing_column_is_found_by_the_check(empty_database_url: str) -> None:
    database_url = empty_database_url
    migrate.upgrade(database_url)
    engine = make_engine(database_url)
    with engine.connect() as connection:
        connection.execute(text("ALTER TABLE projects ADD COLUMN stray INTEGER"))
        connection.commit()
    engine.dispose()
    assert any("stray" in str(difference) for difference in migrate.check(database_url))


def test_a_database_of_a_newer_program_is_refused_and_untouched(empty_database_url: str) -> None:
    database_url = empty_database_url
    migrate.upgrade(database_url)
    engine = make_engine(database_url)
    with engine.connect() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '2999_01_01_future'"))
        connection.commit()
    with pytest.raises(Conflict, match="newer Dayspring"):
        migrate.upgrade(database_url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "2999_01_01_future"
    engine.dispose()


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("journals", "memo = 'x'"),
        ("postings", "amount_nanos = 0"),
        ("requests", "price_nanos = 0"),
        ("prices", "rates = ''"),
    ],
)
def test_what_was_booked_cannot_be_changed_or_deleted(database: Database, table: str, change: str) -> None:
    rows = {
        "journals": "INSERT INTO journals (id, request_id, kind, created_at_ns, memo)"
        " VALUES (1, 'r', 'request', 1, '')",
        "postings": "INSERT INTO postings (journal_id, line, account_id, amount_nanos) VALUES (1, 0, 1, 5)",
        "prices": "INSERT INTO prices (id, model_id, kind, target, rates, effective_from_ns, created_at_ns, created_by)"
        " VALUES (1, 'm', 'price', '', '{}', 1, 1, '')",
        "requests": "INSERT INTO requests (request_id, organization_id, project_id, key_id, model, task, status,"
        " engine, device, upstream, price_version, started_at_ns, finished_at_ns, busy_ns, input_tokens, cached_tokens,"
        " output_tokens, reserved_nanos, price_nanos, compute_cost_nanos, upstream_cost_nanos, excess_nanos, content)"
        " VALUES ('r', '', '', '', '', '', '', '', '', '', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, '')",
    }
    account = "INSERT INTO ledger_accounts (id, name, kind) VALUES (1, 'a', 'a')"
    needed = [rows["journals"], account, rows["postings"]] if table in {"journals", "postings"} else [rows[table]]
    for statement in needed:
        database.write_sync(lambda connection, statement=statement: connection.execute(text(statement)) and None)
    for statement in (f"UPDATE {table} SET {change}", f"DELETE FROM {table}"):
        with pytest.raises(Exception, match="immutable"):
            database.write_sync(lambda connection, statement=statement: connection.execute(text(statement)) and None)
    count = database.read_sync(lambda connection: connection.execute(text(f"SELECT count(*) FROM {table}")).scalar())
    assert count == 1


@pytest.mark.parametrize("url", ["mysql://host/name", "nonsense", "sqlite://", "sqlite:///:memory:"])
def test_a_url_that_cannot_be_served_is_refused_in_plain_words(url: str) -> None:
    with pytest.raises(InvalidRequest):
        Database.open(url)


def test_a_database_that_cannot_be_reached_is_unavailable() -> None:
    for opened in (Database.open, migrate.upgrade):
        with pytest.raises(Unavailable) as caught:
            opened("postgresql+psycopg://u:secret@127.0.0.1:1/x")
        assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_refused(tmp_path: pytest.TempPathFactory) -> None:
    path = tmp_path / "x.db"  # type: ignore[operator]
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises((DayspringError, sqlite3.DatabaseError)) as caught:
        migrate.upgrade(f"sqlite:///{path}")
    assert isinstance(caught.value, DayspringError)
