"""Where finished models stand: `<home>/models/<id>/`, readable names linked to blobs, and a row for each.

What holds: a folder and its row come and go together, one change at a time across processes; a file is let go of only
when no model is made of it.
"""

import asyncio
import fcntl
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import quote

import msgspec
from sqlalchemy import Connection

from dayspring.contracts.blobs import BlobStore
from dayspring.contracts.models import Model
from dayspring.core.errors import NotFound
from dayspring.store.aliases import find_alias
from dayspring.store.database import Database
from dayspring.store.models import (
    ModelFile,
    add_model,
    alias_exists,
    delete_model,
    list_files,
    list_models,
    model_exists,
)
from dayspring.store.references import referenced_blobs, still_referenced

__all__ = ["Shelf"]

Also = Callable[[Connection], None]


class Shelf:
    def __init__(self, db: Database, blobs: BlobStore, folder: Path) -> None:
        self._db = db
        self._blobs = blobs
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    async def models(self) -> list[Model]:
        """Every model, oldest first, with its path on this machine."""
        return [
            msgspec.structs.replace(model, path=str(self._folder / model.path)) if model.path else model
            for model in await self._db.read(list_models)
        ]

    async def files(self, model_id: str) -> list[ModelFile]:
        return await self._db.read(lambda connection: list_files(connection, model_id))

    def referenced(self) -> set[str]:
        """Every digest that a row refers to. Blocks."""
        return self._db.read_sync(referenced_blobs)

    async def check_free(self, model_id: str) -> None:
        """Raises Conflict when the id is taken, by a model or by an alias."""

        def check(connection: Connection) -> None:
            if any(model.id == model_id for model in list_models(connection)):
                raise model_exists(model_id)
            if find_alias(connection, model_id) is not None:
                raise alias_exists(model_id)

        await self._db.read(check)

    async def publish(self, model: Model, files: Sequence[ModelFile], also: Also) -> None:
        """Put the files in place and then the row. Raises Conflict for a taken id, NotFound for a missing blob.

        `also` is done in the transaction of the row.
        """
        await asyncio.to_thread(self._publish, model, files, also)

    def _publish(self, model: Model, files: Sequence[ModelFile], also: Also) -> None:
        with self._alone(), self._blobs.keeping():
            place = self._place(model.id)
            if files:
                if any(other.id == model.id for other in self._db.read_sync(list_models)):
                    raise model_exists(model.id)
                self._link(files, place)
            row = msgspec.structs.replace(model, path=_relative(model.id, files))

            def write(connection: Connection) -> None:
                add_model(connection, row, files)
                also(connection)

            self._db.write_sync(write)

    def _link(self, files: Sequence[ModelFile], place: Path) -> None:
        """The files under their readable names, all at once."""
        fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=self._folder))
        try:
            for file in files:
                self._blobs.link(file.sha256, fresh / file.path)
            # A folder without a row is what a killed process left.
            shutil.rmtree(place, ignore_errors=True)
            fresh.chmod(0o755)
            fresh.rename(place)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    async def remove(self, model_id: str, also: Also) -> None:
        """Raises NotFound."""
        await asyncio.to_thread(self._remove, model_id, also)

    def _remove(self, model_id: str, also: Also) -> None:
        with self._alone():
            self.let_go(self._db.write_sync(lambda connection: _take_out(connection, model_id, also)))
            shutil.rmtree(self._place(model_id), ignore_errors=True)

    async def release(self, digests: set[str]) -> None:
        """Let go of the files that nothing refers to."""
        await asyncio.to_thread(self.let_go, digests)

    def let_go(self, digests: set[str]) -> None:
        """As `release`. Blocks."""
        self._blobs.release(digests, lambda: self._db.read_sync(partial(still_referenced, digests=digests)))

    def relink(self) -> list[str]:
        """Put models in place again whose folder is missing, as after a restore. Ids of those whose files are too."""
        missing: list[str] = []
        with self._alone():
            for model in self._db.read_sync(list_models):
                place = self._place(model.id)
                if not model.path or place.exists():
                    continue
                files = self._db.read_sync(partial(list_files, model_id=model.id))
                if all(self._blobs.has(file.sha256) for file in files):
                    self._link(files, place)
                else:
                    missing.append(model.id)
        return missing

    def sweep(self, grace_s: float) -> None:
        """Remove folders that a killed process left: half made, or of a model that has no row."""
        oldest = time.time() - grace_s
        with self._alone():
            rows = {self._place(model.id) for model in self._db.read_sync(list_models)}
            for folder in self._folder.iterdir():
                if folder.is_dir() and folder not in rows and folder.stat().st_mtime <= oldest:
                    shutil.rmtree(folder, ignore_errors=True)

    def _place(self, model_id: str) -> Path:
        return self._folder / quote(model_id, safe="")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One change to the shelf at a time; the lock dies with its process."""
        with (self._folder / ".lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _relative(model_id: str, files: Sequence[ModelFile]) -> str:
    """The one file, the first of a split one, or the folder; below the models' folder."""
    if not files:
        return ""
    folder = quote(model_id, safe="")
    one = len(files) == 1 or files[0].path.endswith(".gguf")
    return f"{folder}/{files[0].path}" if one else folder


def _take_out(connection: Connection, model_id: str, also: Also) -> set[str]:
    """Delete the row and its files' rows; the digests it was made of."""
    digests = {file.sha256 for file in list_files(connection, model_id)}
    if not delete_model(connection, model_id):
        raise NotFound("model", model_id, "See 'dayspring models list'.")
    also(connection)
    return digests
