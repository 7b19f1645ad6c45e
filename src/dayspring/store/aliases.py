"""Names that stand for models, and the models to try when the first is not there. One row each.

What holds: an alias never has the name of a model; what it leads to may come and go. Chains are resolved by the hub.
"""

import msgspec
from sqlalchemy import BigInteger, Column, Connection, String, Table, Text, delete, insert, select, update

from dayspring.store.schema import metadata

__all__ = ["Alias", "delete_alias", "find_alias", "list_aliases", "put_alias"]

model_aliases = Table(
    "model_aliases",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("targets", Text, nullable=False, comment="JSON list of ids: the target, then the fallbacks in order."),
    Column("created_at", BigInteger, nullable=False, comment="Unix seconds."),
    Column("updated_at", BigInteger, nullable=False),
)


class Alias(msgspec.Struct, frozen=True):
    name: str
    targets: tuple[str, ...]
    """Ids of models, or names of other aliases: the target first, then the fallbacks."""
    created_at: int = 0
    updated_at: int = 0


_columns = (model_aliases.c.name, model_aliases.c.targets, model_aliases.c.created_at, model_aliases.c.updated_at)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(tuple[str, ...]).decode


def list_aliases(connection: Connection) -> list[Alias]:
    """By name."""
    rows = connection.execute(select(*_columns).order_by(model_aliases.c.name))
    return [Alias(row.name, _decode(row.targets), row.created_at, row.updated_at) for row in rows]


def find_alias(connection: Connection, name: str) -> Alias | None:
    row = connection.execute(select(*_columns).where(model_aliases.c.name == name)).first()
    return Alias(row.name, _decode(row.targets), row.created_at, row.updated_at) if row else None


def put_alias(connection: Connection, alias: Alias) -> Alias:
    """As it is then: one of this name is changed and keeps the time it was made."""
    fields = {"targets": _encode(alias.targets).decode(), "updated_at": alias.updated_at}
    made = connection.execute(update(model_aliases).where(model_aliases.c.name == alias.name).values(fields))
    if not made.rowcount:
        connection.execute(insert(model_aliases), {"name": alias.name, "created_at": alias.created_at, **fields})
    found = find_alias(connection, alias.name)
    return found or alias


def delete_alias(connection: Connection, name: str) -> bool:
    """Whether it was there."""
    return bool(connection.execute(delete(model_aliases).where(model_aliases.c.name == name)).rowcount)
