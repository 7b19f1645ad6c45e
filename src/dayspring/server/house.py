"""Puts the rooms together that the server and the terminal both need; `app` adds what only the server needs.

What holds: the data folder is private to its owner; a newer database than this release knows is refused, not touched;
one server at a time uses a data folder.
"""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from dayspring.accounts.keys import new_token
from dayspring.accounts.service import Accounts, NewKey
from dayspring.blobs.disk import DiskBlobs
from dayspring.contracts.clock import Clock, SystemClock
from dayspring.core.errors import Conflict, Unavailable
from dayspring.core.settings import Settings
from dayspring.hub.service import Hub
from dayspring.ledger.prices import PriceBook
from dayspring.ledger.reports import Reports
from dayspring.ledger.service import Ledger
from dayspring.store.database import Database
from dayspring.store.migrate import upgrade

__all__ = ["House", "lock_home"]


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
        claims wins, and only a winner's file takes its name.
        """
        token = new_token()
        path = self.settings.home / "admin.key"
        waiting = path.with_name(f".admin.key.{os.getpid()}")
        descriptor = os.open(waiting, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(token + "\n")
                file.flush()
                os.fsync(file.fileno())
            made = await self.accounts.bootstrap(self.settings.currency, token)
            if made is not None:
                waiting.replace(path)
            return made
        finally:
            waiting.unlink(missing_ok=True)

    def close(self) -> None:
        self.db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def prepare_home(home: Path) -> None:
    """Makes the data folder, for its owner alone. Raises Unavailable where that is not possible."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
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
