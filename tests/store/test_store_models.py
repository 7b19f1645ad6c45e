"""The rows of models: whole or not there, on both databases."""

from dataclasses import dataclass

import pytest

from dayspring.contracts.models import Ability, Model
from dayspring.core.errors import Conflict
from dayspring.store.database import Database
from dayspring.store.models import (
    LicenceAcceptance,
    ModelFile,
    add_model,
    delete_model,
    list_acceptances,
    list_files,
    list_models,
    record_acceptance,
)
from dayspring.store.references import referenced_blobs


@dataclass
class Row:
    model: Model
    files: list[ModelFile]


def row(name: str, *digests: str) -> Row:
    model = Model(name, "runner", (Ability.CHAT,), source="file:/m", created_at=1, metadata={"parameters": 3})
    return Row(model, [ModelFile(f"{index}.gguf", digest * 64, 5) for index, digest in enumerate(digests)])


async def add(database: Database, added: Row) -> None:
    await database.write(lambda connection: add_model(connection, added.model, added.files))


async def test_a_model_comes_back_as_it_went_in(database: Database) -> None:
    one = row("one", "a", "b")
    await add(database, one)
    assert await database.read(list_models) == [one.model]
    assert await database.read(lambda connection: list_files(connection, "one")) == one.files
    assert await database.read(referenced_blobs) == {"a" * 64, "b" * 64}


async def test_an_id_is_taken_once_and_the_first_stays(database: Database) -> None:
    await add(database, row("one", "a"))
    with pytest.raises(Conflict, match="already"):
        await add(database, row("one", "b"))
    assert await database.read(referenced_blobs) == {"a" * 64}


async def test_a_deleted_model_leaves_no_file_behind(database: Database) -> None:
    for name in ("one", "two"):
        await add(database, row(name, "a", name[0]))
    assert await database.write(lambda connection: delete_model(connection, "one"))
    assert not await database.write(lambda connection: delete_model(connection, "one"))
    assert await database.read(referenced_blobs) == {"a" * 64, "t" * 64}
    assert [model.id for model in await database.read(list_models)] == ["two"]


async def test_acceptances_outlive_their_model(database: Database) -> None:
    acceptance = LicenceAcceptance("one", "file:/m", "cc-by-nc-4.0", "f" * 64, "ada", 7)
    await database.write(lambda connection: record_acceptance(connection, acceptance))
    assert await database.read(list_acceptances) == [acceptance]
