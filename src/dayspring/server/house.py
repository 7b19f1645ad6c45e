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

from dayspring.accounts.administration.audit_search import AuditLog
from dayspring.accounts.administration.keys import Keys
from dayspring.accounts.administration.projects import Projects
from dayspring.accounts.keys import new_token
from dayspring.accounts.limiting import Limiting
from dayspring.accounts.organizations import claimed_at, currency_of
from dayspring.accounts.people.passwords import Passwords
from dayspring.accounts.people.service import People
from dayspring.accounts.people.sign_in import Lasting, SignIn
from dayspring.accounts.service import Accounts, NewKey
from dayspring.accounts.webhooks.service import Webhooks
from dayspring.blobs.disk import DiskBlobs
from dayspring.contracts.clock import Clock, SystemClock
from dayspring.core.errors import Conflict, Unauthenticated, Unavailable
from dayspring.core.settings import Settings
from dayspring.files.service import Files
from dayspring.files.uploads import Uploads
from dayspring.hub.service import Hub
from dayspring.ledger.prices import PriceBook
from dayspring.ledger.reports import Reports
from dayspring.ledger.service import Ledger
from dayspring.ledger.spending.service import Alerts
from dayspring.store.database import Database
from dayspring.store.migrate import upgrade

__all__ = ["RESTORING", "House", "lock_home", "prepare_home"]

RESTORING = ".restoring"
"""Lies in a data folder while a backup is restored into it."""
_MADE_WITH = "installation"
"""The file that says with which database a data folder goes."""
_WAITING = ".admin.key."
"""How a file begins whose key may or may not be the administrator's."""


class House:
    """The rooms that need no running model."""

    def __init__(self, settings: Settings, db: Database, clock: Clock) -> None:
        self.settings = settings
        self.db = db
        self.clock = clock
        self.accounts = Accounts(db, clock)
        self.passwords = Passwords()
        admission = (db, clock, self.accounts.authentication)
        self.people = People(*admission, self.passwords)
        self.sign_in = SignIn(*admission, self.passwords, Lasting(settings.session_idle_s, settings.session_longest_s))
        self.projects = Projects(*admission)
        self.keys = Keys(*admission)
        self.audit = AuditLog(db)
        self.limiting = Limiting(db, clock, self.accounts.authentication.forget)
        self.webhooks = Webhooks(db, clock)
        self.prices = PriceBook(db, clock)
        self.ledger = Ledger(db, clock, settings.currency)
        self.alerts = Alerts(db, clock)
        self.reports = Reports(db, clock, settings.currency)
        self.blobs = DiskBlobs(settings.home / "blobs")
        self.files = Files(db, self.blobs, settings, clock, quota=self.quota)
        self.uploads = Uploads(self.files, db, settings, clock)
        self.hub = Hub(db, self.blobs, settings, clock)

    async def quota(self, project_id: str) -> int | None:
        """Bytes a project may fill: its own quota, or what is set for all."""
        own = await self.accounts.quota(project_id)
        return self.settings.project_disk_bytes or None if own is None else own

    @classmethod
    def open(cls, settings: Settings, *, restoring: bool = False) -> Self:
        """Makes the data folder and brings the database up to this release. Raises Unavailable, Conflict."""
        prepare_home(settings.home)
        if not restoring and (settings.home / RESTORING).exists():
            raise Conflict(
                f"A restore into the data folder {str(settings.home)!r} did not end",
                "Run 'dayspring restore' again, with the same backup.",
            )
        url = settings.effective_database_url
        upgrade(url)
        return cls(settings, Database.open(url, settings.synchronous), SystemClock())

    async def first_start(self) -> NewKey | None:
        """Makes the administrator's key at the first start, and puts it into `admin.key`; None later.

        The secret is on disk before the installation is claimed, so a crash between the two loses nothing: whoever
        claims wins, and only a winner's file takes its name, at this start or the next. Raises Conflict for another
        database than the one that the data folder was made with.
        """
        await self._check_pair()
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
        await self._mark_pair()
        return made

    async def _check_pair(self) -> None:
        """Files in the folder are let go of when no row refers to them: with another database that would be all."""
        mark = self.settings.home / _MADE_WITH
        if mark.exists() and mark.read_text(encoding="utf-8").strip() != str(await self.db.read(claimed_at)):
            raise Conflict(
                f"The data folder {str(self.settings.home)!r} belongs to another database",
                "Correct DAYSPRING_DATABASE_URL, or start with another --home; 'dayspring backup' and 'restore' move "
                f"an installation. To join the two all the same, remove the file {_MADE_WITH!r} from the folder.",
            )

    async def _mark_pair(self) -> None:
        mark = self.settings.home / _MADE_WITH
        if not mark.exists():
            waiting = self.settings.home / f".{_MADE_WITH}.{secrets.token_hex(8)}"
            waiting.write_text(f"{await self.db.read(claimed_at)}\n", encoding="utf-8")
            waiting.replace(mark)

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
        self.passwords.close()
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
