"""What the tests of backups share: databases of either kind, a house with something of everything, every row of it."""

import asyncio
import hashlib
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from sqlalchemy import text

from dayspring.core.ids import new_id
from dayspring.core.settings import Settings
from dayspring.jobs.durable import SCHEMA
from dayspring.server.app import create_app
from dayspring.server.backups.making import make_backup
from dayspring.server.backups.manifest import Manifest
from dayspring.server.house import House
from dayspring.store.dump import dump_table, tables_of
from dayspring.store.engines import is_sqlite, make_engine
from server.server_house import CHAT, HELLO, Served, served

__all__ = [
    "KINDS", "PASSPHRASE", "Made", "NewHome", "all_rows", "made", "make", "new_home", "one_made", "populate", "quiet",
    "reopened", "served_at", "stored_files",
]  # fmt: skip

KINDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]

PASSPHRASE = "correct horse battery"

NewHome = Callable[[str], Settings]
"""Settings of an empty data folder and an empty database of this kind."""

_OWN = {"alembic_version", "dbos_migrations", "server_instances", "uploads", "upload_parts"}
"""What a restore makes anew."""


@pytest.fixture
def new_home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NewHome]:
    made: list[str] = []

    def make(kind: str, **more: object) -> Settings:
        home = tmp_path / f"home-{new_id('h')}"
        if kind == "sqlite":
            return Settings(home=home, default_pack=False, **more)  # type: ignore[arg-type]
        cluster, name = request.getfixturevalue("postgres_cluster"), new_id("test")
        _administer(cluster, f"CREATE DATABASE {name} TEMPLATE template0")
        made.append(name)
        return Settings(home=home, default_pack=False, database_url=cluster.format(name=name), **more)  # type: ignore[arg-type]

    yield make
    for name in made:
        _administer(request.getfixturevalue("postgres_cluster"), f"DROP DATABASE {name} WITH (FORCE)")


def _administer(cluster: str, statement: str) -> None:
    engine = make_engine(cluster.format(name="postgres"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(statement))
    engine.dispose()


def quiet(_step: str, _done: int, _total: int) -> None:
    """Nobody watches."""


@asynccontextmanager
async def reopened(settings: Settings) -> AsyncIterator[Served]:
    """The app on an installation that is there."""
    house = House.open(settings)
    app = create_app(house)
    async with app.router.lifespan_context(app):
        yield Served(house, app)


async def populate(house: Served) -> dict[str, str]:
    """Requests, files, a batch that has ended; what can be asked for again."""
    _, key = await house.new_key(budget_nanos=10**12, sees_cost=True)
    for _ in range(3):
        assert (await house.ask("POST", CHAT, key=key, json=HELLO)).status == 200
    line = {"custom_id": "one", "method": "POST", "url": CHAT, "body": HELLO}
    form = (
        b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="in.jsonl"\r\n\r\n'
        + msgspec.json.encode(line)
        + b"\n\r\n--b--\r\n"
    )
    headers = {"content-type": "multipart/form-data; boundary=b"}
    file = (await house.ask("POST", "/v1/files", key=key, body=[form], headers=headers)).json
    order = {"input_file_id": file["id"], "endpoint": CHAT, "completion_window": "24h"}
    batch = (await house.ask("POST", "/v1/batches", key=key, json=order)).json
    while batch["status"] not in {"completed", "failed"}:
        await asyncio.sleep(0.05)
        batch = (await house.ask("GET", f"/v1/batches/{batch['id']}", key=key)).json
    assert batch["status"] == "completed", batch
    return {"key": key, "file": file["id"], "output": batch["output_file_id"], "batch": batch["id"]}


def all_rows(settings: Settings) -> dict[str, list[bytes]]:
    """Every row of every table, of the jobs' database too, but what each installation has of its own."""
    url = settings.effective_database_url
    rows = _rows(url, None)
    if is_sqlite(url):
        return rows | _rows(f"sqlite:///{settings.home / 'jobs.db'}", None)
    return rows | _rows(url, SCHEMA)


def _rows(url: str, schema: str | None) -> dict[str, list[bytes]]:
    engine = make_engine(url)
    found = {}
    with engine.connect() as connection:
        for table in tables_of(connection, schema):
            if table.name not in _OWN:
                head, *lines = dump_table(connection, table)
                columns = msgspec.json.decode(head)
                order = sorted(range(len(columns)), key=columns.__getitem__)
                decoded = (msgspec.json.decode(line) for line in lines)
                found[table.name] = sorted(
                    msgspec.json.encode({columns[index]: row[index] for index in order}) for row in decoded
                )
    engine.dispose()
    return found


def stored_files(settings: Settings) -> set[str]:
    """Digests of what is stored, each as sound as its name says."""
    found = set()
    for file in (settings.home / "blobs" / "sha256").glob("*/*/*"):
        assert hashlib.sha256(file.read_bytes()).hexdigest() == file.name
        found.add(file.name)
    return found


def make(settings: Settings, target: Path, **more: object) -> Manifest:
    return make_backup(settings, target, progress=quiet, **more)  # type: ignore[arg-type]


def served_at(settings: Settings) -> AbstractAsyncContextManager[Served]:
    return served(settings.home, database_url=settings.database_url)


class Made(NamedTuple):
    """A populated installation on SQLite, a backup that was made while it ran, and its rows then."""

    settings: Settings
    backup: Path
    rows: dict[str, list[bytes]]
    known: dict[str, str]


@pytest.fixture(scope="module")
def one_made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    settings = Settings(home=folder / "home", default_pack=False)

    async def run() -> Made:
        async with served_at(settings) as house:
            known = await populate(house)
            make(settings, folder / "backup.tar")
            return Made(settings, folder / "backup.tar", all_rows(settings), known)

    return asyncio.run(run())


@pytest.fixture
def made(one_made: Made, tmp_path: Path) -> Made:
    """A copy, to be harmed."""
    settings = Settings(home=tmp_path / "source", default_pack=False)
    shutil.copytree(one_made.settings.home, settings.home)
    shutil.copyfile(one_made.backup, tmp_path / "backup.tar")
    return one_made._replace(settings=settings, backup=tmp_path / "backup.tar")
