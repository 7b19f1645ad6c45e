"""The models that are here: one row each, the files each one is made of, and the licences that were accepted.

What holds: a row appears only when all its files are verified and in place, in one transaction with them.
"""

from collections.abc import Sequence

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    Table,
    Text,
    delete,
    insert,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite

from dayspring.contracts.models import Model
from dayspring.core.errors import Conflict
from dayspring.core.ids import new_id
from dayspring.store.aliases import find_alias
from dayspring.store.schema import metadata

__all__ = [
    "LicenceAcceptance", "ModelFile", "add_model", "delete_model", "list_acceptances", "list_files", "list_models",
    "record_acceptance",
]  # fmt: skip

models = Table(
    "models",
    metadata,
    Column("id", String(200), primary_key=True),
    Column("engine", String(64), nullable=False),
    Column("source", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("licence", String(200), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False, comment="The whole Model as JSON; its path is relative to the models."),
)

model_files = Table(
    "model_files",
    metadata,
    Column("model_id", String(200), ForeignKey("models.id", ondelete="CASCADE"), primary_key=True),
    Column("path", String(512), primary_key=True),
    Column("sha256", String(64), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Index(None, "sha256"),
)

licence_acceptances = Table(
    "model_licence_acceptances",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("model_id", String(200), nullable=False, comment="No foreign key: an acceptance outlives the model."),
    Column("source", Text, nullable=False),
    Column("licence", String(200), nullable=False),
    Column("text_sha256", String(64), nullable=False),
    Column("accepted_by", String(200), nullable=False),
    Column("accepted_at", BigInteger, nullable=False),
    Index(None, "model_id"),
)

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Model).decode


class ModelFile(msgspec.Struct, frozen=True):
    path: str
    sha256: str
    size_bytes: int


class LicenceAcceptance(msgspec.Struct, frozen=True):
    """Who accepted which licence, when (Unix seconds), and the SHA-256 of what they were shown."""

    model_id: str
    source: str
    licence: str
    text_sha256: str
    accepted_by: str
    accepted_at: int


def list_models(connection: Connection) -> list[Model]:
    """Every model, oldest first."""
    rows = connection.execute(select(models.c.body).order_by(models.c.created_at, models.c.id))
    return [_decode(row.body) for row in rows]


def add_model(connection: Connection, model: Model, files: Sequence[ModelFile]) -> None:
    """Raises Conflict when a model or an alias of this id is there."""
    if connection.execute(select(models.c.id).where(models.c.id == model.id)).first():
        raise model_exists(model.id)
    if find_alias(connection, model.id) is not None:
        raise alias_exists(model.id)
    row = {
        "id": model.id,
        "engine": model.engine,
        "source": model.source,
        "sha256": model.sha256,
        "licence": model.licence[:200],
        "created_at": model.created_at,
        "body": _encode(model),
    }
    upsert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    if not connection.execute(upsert(models).values(row).on_conflict_do_nothing()).rowcount:
        # Another server of the same database was quicker between the look and the insert.
        raise model_exists(model.id)
    if files:
        rows = [{"model_id": model.id, **msgspec.structs.asdict(file)} for file in files]
        connection.execute(insert(model_files), rows)


def model_exists(model_id: str) -> Conflict:
    return Conflict(f"There is a model {model_id!r} already", "Remove it first, or add this one under another id.")


def alias_exists(name: str) -> Conflict:
    return Conflict(f"There is an alias {name!r} already", "Remove it first, or add the model under another id.")


def delete_model(connection: Connection, model_id: str) -> bool:
    """Whether it was there."""
    connection.execute(delete(model_files).where(model_files.c.model_id == model_id))
    return bool(connection.execute(delete(models).where(models.c.id == model_id)).rowcount)


def list_files(connection: Connection, model_id: str) -> list[ModelFile]:
    rows = connection.execute(
        select(model_files).where(model_files.c.model_id == model_id).order_by(model_files.c.path)
    )
    return [ModelFile(row.path, row.sha256, row.size_bytes) for row in rows]


def record_acceptance(connection: Connection, acceptance: LicenceAcceptance) -> None:
    connection.execute(insert(licence_acceptances), {"id": new_id("lic"), **msgspec.structs.asdict(acceptance)})


def list_acceptances(connection: Connection) -> list[LicenceAcceptance]:
    """Oldest first."""
    rows = connection.execute(select(licence_acceptances).order_by(licence_acceptances.c.accepted_at))
    return [
        LicenceAcceptance(row.model_id, row.source, row.licence, row.text_sha256, row.accepted_by, row.accepted_at)
        for row in rows
    ]
