"""Where finished models stand: `<home>/models/<id>/`, readable names linked to blobs, and a row for each.

What holds: a folder and its row come and go together, one change at a time across processes; a file is let go of only
when no model is made of it.
"""

import asyncio
import fcntl
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import msgspec
from sqlalchemy import Connection

from dayspring.contracts.blobs import BlobStore
from dayspring.contracts.models import Model
from dayspring.core.errors import NotFound
from dayspring.store.database import Database
from dayspring.store.models import (
    ModelFile,
    add_model,
    delete_model,
    list_files,
    list_models,
    model_exists,
    referenced_blobs,
)

__all__ = ["Shelf"]


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

    async def referenced(self) -> set[str]:
        return await self._db.read(referenced_blobs)

    async def check_free(self, model_id: str) -> None:
        """Raises Conflict when the id is taken."""
        if any(model.id == model_id for model in await self._db.read(list_models)):
            raise model_exists(model_id)

    async def publish(self, model: Model, files: Sequence[ModelFile]) -> None:
        """Put the files in place and then the row. Raises Conflict for a taken id, NotFound for a missing blob."""
        await asyncio.to_thread(self._publish, model, files)

    def _publish(self, model: Model, files: Sequence[ModelFile]) -> None:
        with self._alone():
            place = self._place(model.id)
            if files:
                if any(other.id == model.id for other in self._db.read_sync(list_models)):
                    raise model_exists(model.id)
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
            row = msgspec.structs.replace(model, path=_relative(model.id, files))
            self._db.write_sync(lambda connection: add_model(connection, row, files))

    async def remove(self, model_id: str) -> None:
        """Raises NotFound."""
        await asyncio.to_thread(self._remove, model_id)

    def _remove(self, model_id: str) -> None:
        with self._alone():
            for digest in self._db.write_sync(lambda connection: _take_out(connection, model_id)):
                self._blobs.remove(digest)
            shutil.rmtree(self._place(model_id), ignore_errors=True)

    def sweep(self, grace_s: float) -> None:
        """Remove folders that a killed process left half made."""
        oldest = time.time() - grace_s
        for folder in self._folder.glob(".new-*"):
            if folder.stat().st_mtime <= oldest:
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


def _take_out(connection: Connection, model_id: str) -> list[str]:
    """Delete the row and its files' rows; the digests that no other model has."""
    digests = {file.sha256 for file in list_files(connection, model_id)}
    if not delete_model(connection, model_id):
        raise NotFound("model", model_id, "See 'dayspring models list'.")
    return sorted(digests - referenced_blobs(connection))
