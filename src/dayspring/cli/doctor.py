"""`dayspring doctor`: looks at everything that can be wrong, and says what to do about it."""

import shutil
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import typer
from sqlalchemy.exc import SQLAlchemyError

from dayspring import __version__
from dayspring.cli.terminal import AsJson, Home, in_house, print_json, print_table, settings_for
from dayspring.compute.devices import find_devices
from dayspring.contracts.engine import LoadOptions
from dayspring.contracts.registry import broken_engines, engines
from dayspring.core.errors import Conflict, DayspringError
from dayspring.core.settings import Settings
from dayspring.server.house import House, lock_home

__all__ = ["doctor"]

_LITTLE_DISK_BYTES = 2 << 30


class Finding(NamedTuple):
    state: str
    """`ok`, `note` or `bad`."""
    what: str
    detail: str


def doctor(as_json: AsJson = False, home: Home = None) -> None:
    """Check the installation. Exit status 1 when something is broken."""
    settings = settings_for(home)
    findings = [*_machine(settings), *_engines(settings), *_house(settings)]
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        print_table(("", "What", "Detail"), findings, empty="")
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(1)


def _machine(settings: Settings) -> Iterator[Finding]:
    yield Finding("ok", "Dayspring", f"{__version__} on Python {sys.version.split()[0]}")
    for device in find_devices():
        yield Finding("ok", f"device {device.id}", f"{device.name}, {device.memory_bytes >> 20} MiB")
    folder = next(each for each in (settings.home, *settings.home.parents) if each.exists())
    free = shutil.disk_usage(folder).free
    state = "ok" if free > _LITTLE_DISK_BYTES else "bad"
    more = "" if state == "ok" else "; make room: models and the database need it"
    yield Finding(state, "disk", f"{free >> 20} MiB free at {settings.home}{more}")
    if settings.home.exists() and stat.S_IMODE(settings.home.stat().st_mode) & 0o077:
        yield Finding("note", "data folder", f"others may look into {settings.home}; chmod 700 closes it")
    if _is_served(settings.home):
        yield Finding("ok", "server", "one runs on this data folder")
        return
    used = "in use by something else" if _answers(settings.host, settings.port) else "free"
    yield Finding("ok", "port", f"{settings.port} is {used}")


def _is_served(home: Path) -> bool:
    """Whether a server holds the data folder."""
    if not (home / "server.lock").exists():
        return False
    try:
        lock_home(home).close()
    except Conflict:
        return True
    return False


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def _engines(settings: Settings) -> Iterator[Finding]:
    for name, engine in sorted(engines().items()):
        lacks = engine.missing(LoadOptions(executables=settings.executables))
        yield Finding("note" if lacks else "ok", f"engine {name}", lacks or ", ".join(sorted(engine.abilities)))
    for name, reason in sorted(broken_engines().items()):
        yield Finding("bad", f"engine {name}", f"{reason}; reinstall or remove the package that brings it")


def _house(settings: Settings) -> Iterator[Finding]:
    if not (settings.home / "dayspring.db").exists() and not settings.database_url:
        yield Finding("note", "database", "none yet; the first 'dayspring serve' makes it")
        return

    async def work(house: House) -> list[Finding]:
        differences = await house.ledger.verify()
        models = await house.hub.list()
        found = [Finding("ok", "database", f"{house.db.dialect}, at this release's version")]
        found += [Finding("bad", "ledger", f"{d.what} {d.id}: {d.found}, should be {d.expected}") for d in differences]
        if not differences:
            found.append(Finding("ok", "ledger", "every sum agrees with its entries"))
        found += [Finding("ok", f"model {model.id}", f"{model.engine}, {model.licence}") for model in models]
        if not models:
            found.append(Finding("note", "models", "none; add one with 'dayspring models add'"))
        return found

    try:
        yield from in_house(settings.home, work)
    except DayspringError as error:
        yield Finding("bad", "database", error.message)
    except SQLAlchemyError as error:
        yield Finding("bad", "database", f"it cannot be read ({type(error).__name__}); put back a copy of it")
