"""Test databases, as a pytest plugin: `database` is an empty, migrated one, once on SQLite and once on PostgreSQL.

PostgreSQL is a throw-away cluster of the system's own programs, made once a session: on a socket in a temporary folder,
no TCP, no fsync. As root it runs as the user `postgres`, since it refuses to be root. Where its programs are missing
the tests are skipped, or fail when DAYSPRING_REQUIRE lists `postgres`.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import pytest
from sqlalchemy import inspect, text

from dayspring.core.ids import new_id
from dayspring.store import migrate
from dayspring.store.database import Database
from dayspring.store.engines import make_engine

__all__ = [
    "Cluster",
    "database",
    "database_url",
    "empty_database_url",
    "migrated_postgres",
    "migrated_sqlite",
    "postgres_cluster",
]

_REMEDY = "no PostgreSQL server programs: apt-get install postgresql, or put initdb on PATH"


class Cluster:
    """A throw-away PostgreSQL of the system's own programs, as a context manager. Raises LookupError without them.

    `durable`: what was committed survives the death of its processes (not of the machine), at a cost in speed.
    """

    def __init__(self, *, durable: bool = False) -> None:
        programs = _programs()
        if programs is None:
            raise LookupError(_REMEDY)
        self._control = str(programs / "pg_ctl")
        self._make = str(programs / "initdb")
        self._user = _user()
        self._folder = Path(tempfile.mkdtemp(prefix="dayspring-pg-"))
        self._options = (
            f"-k {self._folder} -c listen_addresses= -c fsync=off -c full_page_writes=off "
            f"-c synchronous_commit={'on' if durable else 'off'} "
            "-c max_connections=200 -c shared_buffers=32MB -c deadlock_timeout=200ms"
        )
        self.url = f"postgresql+psycopg://test@/{{name}}?host={self._folder}"
        """Without a database's name, which `format(name=...)` puts in."""

    def __enter__(self) -> Self:
        if self._user is not None:
            shutil.chown(self._folder, self._user)
        _run(self._user, self._make, "-D", self._data, "-U", "test", "-A", "trust", "-E", "UTF8", "--locale=C",
             "--no-sync")  # fmt: skip
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop("immediate")
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    def start(self) -> None:
        log = str(self._folder / "log")
        _run(self._user, self._control, "-D", self._data, "-l", log, "-o", self._options, "-w", "start")

    def stop(self, mode: Literal["fast", "immediate"]) -> None:
        """`fast` ends its sessions; `immediate` is a crash that the next start recovers from."""
        _run(self._user, self._control, "-D", self._data, "-m", mode, "-w", "stop")

    def administer(self, statement: str) -> None:
        """Runs what no transaction may hold, such as CREATE DATABASE."""
        _administer(self.url, statement)


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[str]:
    """The URL of a running cluster, without a database's name at its end."""
    try:
        cluster = Cluster()
    except LookupError:
        if "postgres" in os.environ.get("DAYSPRING_REQUIRE", "").split(","):
            pytest.fail(_REMEDY)
        pytest.skip(_REMEDY)
    with cluster:
        yield cluster.url


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated file to copy."""
    path = tmp_path_factory.mktemp("template") / "template.db"
    migrate.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def migrated_postgres(postgres_cluster: str) -> tuple[str, list[str]]:
    """The URL of a migrated database, emptied for each test, and its tables. Making one for each costs 0.6 s."""
    _administer(postgres_cluster, "CREATE DATABASE migrated")
    url = postgres_cluster.format(name="migrated")
    migrate.upgrade(url)
    engine = make_engine(url)
    tables = inspect(engine).get_table_names()
    engine.dispose()
    return url, tables


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without any table."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'test.db'}"
        return
    cluster, name = request.getfixturevalue("postgres_cluster"), new_id("test")
    _administer(cluster, f"CREATE DATABASE {name} TEMPLATE template0")
    yield cluster.format(name=name)
    _administer(cluster, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a migrated database without rows. A test may add tables to it, and change none of ours."""
    if request.param == "sqlite":
        path = tmp_path / "test.db"
        shutil.copyfile(request.getfixturevalue("migrated_sqlite"), path)
        yield f"sqlite:///{path}"
        return
    url, tables = request.getfixturevalue("migrated_postgres")
    _empty(url, tables)
    yield url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """An open one."""
    opened = Database.open(database_url)
    yield opened
    opened.close()


def _empty(url: str, tables: list[str]) -> None:
    """Deletes every row, past triggers and foreign keys, every table a test has added, and what DBOS keeps."""
    engine = make_engine(url)
    with engine.connect() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text("DROP SCHEMA IF EXISTS dayspring_jobs CASCADE"))
        for table in inspect(connection).get_table_names():
            if table not in tables:
                connection.execute(text(f'DROP TABLE "{table}"'))
            elif table != "alembic_version":
                connection.execute(text(f'DELETE FROM "{table}"'))  # noqa: S608 - a table's own name
        connection.commit()
    engine.dispose()


def _administer(cluster: str, statement: str) -> None:
    engine = make_engine(cluster.format(name="postgres"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(statement))
    engine.dispose()


def _programs() -> Path | None:
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return installed[-1].parent if installed else None


def _user() -> str | None:
    """Whom the server runs as; None for whoever runs the tests."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        return "nobody"


def _run(user: str | None, *command: str) -> None:
    prefix = ["runuser", "-u", user, "--"] if user else []
    # A server that inherits a pipe keeps it open, and reading to its end would wait for the server's.
    done = subprocess.run(  # noqa: S603 - the system's own programs with our own arguments
        [*prefix, *command], cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        timeout=60, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        pytest.fail(f"{command[0]} ended with {done.returncode}")
