"""Puts the rooms together that the server and the terminal both need; `app` adds what only the server needs.

What holds: the data folder is private to its owner; a newer database than this release knows is refused, not touched;
one server at a time uses a data folder.
"""

import contextlib
import fcntl
import os
import secrets
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from dayspring.accounts.keys import new_token
from dayspring.accounts.organizations import currency_of
from dayspring.accounts.service import Accounts, NewKey
from dayspring.blobs.disk import DiskBlobs
from dayspring.contracts.clock import Clock, SystemClock
from dayspring.core.errors import Conflict, Unauthenticated, Unavailable
from dayspring.core.settings import Settings
from dayspring.hub.service import Hub
from dayspring.ledger.prices import PriceBook
from dayspring.ledger.reports import Reports
from dayspring.ledger.service import Ledger
from dayspring.store.database import Database
from dayspring.store.migrate import upgrade

__all__ = ["House", "lock_home"]

_WAITING = ".admin.key."
"""How a file begins whose key may or may not be the administrator's."""


class House:
    """The rooms that need no running model."""

    def __init__(self, settings: Settings, db: Database, clock: Clock) -> None:
        self.settings = settings
        self.db = db
        self.clock = clock
        self.accounts = Accounts(db, clock)
        self.prices = PriceBook(db, clock)
        self.ledger = Ledger(db, clock, settings.currency)
        self.reports = Reports(db, clock, settings.currency)
        self.blobs = DiskBlobs(settings.home / "blobs")
        self.hub = Hub(db, self.blobs, settings, clock)

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Makes the data folder and brings the database up to this release. Raises Unavailable, Conflict."""
        prepare_home(settings.home)
        url = settings.effective_database_url
        upgrade(url)
        return cls(settings, Database.open(url, settings.synchronous), SystemClock())

    async def first_start(self) -> NewKey | None:
        """Makes the administrator's key at the first start, and puts it into `admin.key`; None later.

        The secret is on disk before the installation is claimed, so a crash between the two loses nothing: whoever
        claims wins, and only a winner's file takes its name, at this start or the next.
        """
        made = None
        if await self.db.read(currency_of) != self.settings.currency:
            token, waiting = new_token(), self.settings.home / f"{_WAITING}{secrets.token_hex(8)}"
            _write_secret(waiting, token)
            try:
                made = await self.accounts.bootstrap(self.settings.currency, token)
            except Conflict:
                waiting.unlink(missing_ok=True)  # another currency: nothing was made
                raise
        await self._take_key()
        return made

    async def _take_key(self) -> None:
        """Gives the winner's file its name, this start's or one that died between the two steps; the others go.

        The installation is claimed by now, so a token that is not known will never be.
        """
        path = self.settings.home / "admin.key"
        for waiting in self.settings.home.glob(f"{_WAITING}*"):
            with contextlib.suppress(FileNotFoundError):  # another start took it
                try:
                    await self.accounts.authenticate(waiting.read_text(encoding="utf-8", errors="replace").strip())
                except Unauthenticated:
                    waiting.unlink()
                else:
                    waiting.replace(path)

    def close(self) -> None:
        self.db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _write_secret(path: Path, secret: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secret + "\n")
        file.flush()
        os.fsync(file.fileno())


def prepare_home(home: Path) -> None:
    """Makes the data folder, and what this process puts into it, for its owner alone.

    Raises Unavailable where that is not possible.
    """
    os.umask(0o077)
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if home.stat().st_uid == os.geteuid():
            home.chmod(0o700)
        (home / "logs").mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise Unavailable(
            f"The data folder {str(home)!r} cannot be made ({error.strerror})",
            "Choose another with --home or DAYSPRING_HOME.",
        ) from None
    if not os.access(home, os.W_OK | os.X_OK):
        raise Unavailable(f"The data folder {str(home)!r} cannot be written", "Choose another with --home.")


def lock_home(home: Path) -> IO[str]:
    """Holds the data folder for one server until the file is closed. Raises Conflict when another has it."""
    file = (home / "server.lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise Conflict(
            f"Another server uses the data folder {str(home)!r}", "Stop it, or start this one with another --home."
        ) from None
    return file
