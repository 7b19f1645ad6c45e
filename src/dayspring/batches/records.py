"""The table of batches.

What holds: one that has ended changes no more, but for a retry of one that failed. A batch's id is its job's.
"""

from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    Integer,
    String,
    Table,
    Text,
    delete,
    insert,
    select,
    update,
)

from dayspring.accounts.principals import Principal, Scope
from dayspring.batches.values import ENDED, Batch, BatchFault, Tally
from dayspring.core.errors import NotFound
from dayspring.store.parts import in_parts
from dayspring.store.schema import metadata

__all__ = [
    "add",
    "batches",
    "change",
    "ended_before",
    "find",
    "no_batch",
    "of_person",
    "of_project",
    "page",
    "remove",
    "unfinished",
]

_TALLY = tuple(name for name in Tally.__struct_fields__ if name != "expired")

batches = Table(
    "batches",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("organization_id", String(64), nullable=False),
    Column("project_id", String(64), nullable=False),
    Column("key_id", String(64), nullable=False),
    Column("user_id", String(64), nullable=False),
    Column("endpoint", String(64), nullable=False),
    Column("input_file_id", String(64), nullable=False),
    Column("completion_window", String(16), nullable=False),
    Column("output_expires_s", Integer),
    Column("metadata", Text),
    Column("status", String(16), nullable=False),
    Column("model", String(256)),
    Column("total", Integer, nullable=False),
    Column("completed", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("faults", Text, nullable=False),
    Column("output_file_id", String(64)),
    Column("error_file_id", String(64)),
    Column("created_at_ns", BigInteger, nullable=False),
    Column("expires_at_ns", BigInteger, nullable=False),
    Column("in_progress_at_ns", BigInteger),
    Column("finalizing_at_ns", BigInteger),
    Column("cancelling_at_ns", BigInteger),
    Column("ended_at_ns", BigInteger),
    Index(None, "project_id", "id"),
    Index(None, "organization_id", "id"),
)


def add(connection: Connection, batch: Batch) -> None:
    connection.execute(insert(batches), _row(batch))


def find(connection: Connection, batch_id: str, principal: Principal | None = None) -> Batch:
    """With a principal, one that they may see. Raises NotFound."""
    query = select(batches).where(batches.c.id == batch_id)
    if principal is not None:
        query = _seen_by(query, principal)
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise no_batch(batch_id)
    return _batch(dict(row))


def no_batch(batch_id: str) -> NotFound:
    return NotFound("batch", batch_id, "GET /v1/batches lists those of this project.")


def page(connection: Connection, principal: Principal, after: str | None, limit: int) -> list[Batch]:
    """Newest first. Raises NotFound for an unknown `after`."""
    query = _seen_by(select(batches), principal).order_by(batches.c.id.desc()).limit(limit)
    if after is not None:
        query = query.where(batches.c.id < find(connection, after, principal).id)
    return [_batch(dict(row)) for row in connection.execute(query).mappings()]


def change(connection: Connection, batch_id: str, came_from: frozenset[str], **values: Any) -> bool:
    """Whether the batch was in one of these states and has the values now."""
    if (tally := values.pop("tally", None)) is not None:
        values |= _counts(tally)
    if "faults" in values:
        values["faults"] = _text(values["faults"])
    statement = update(batches).where(batches.c.id == batch_id, batches.c.status.in_(sorted(came_from)))
    return bool(connection.execute(statement.values(**values)).rowcount)


def unfinished(connection: Connection, ids: list[str]) -> set[str]:
    """Those of the ids that are batches whose answers are not delivered yet, or may be asked for by a retry."""
    states = sorted(ENDED - {"failed"})
    found = set[str]()
    for part in in_parts(ids):
        query = select(batches.c.id).where(batches.c.id.in_(part), batches.c.status.not_in(states))
        found.update(connection.execute(query).scalars())
    return found


def of_project(connection: Connection, project_id: str) -> list[str]:
    """Ids of those that may have a folder, as `unfinished` has it."""
    states = sorted(ENDED - {"failed"})
    query = select(batches.c.id).where(batches.c.project_id == project_id, batches.c.status.not_in(states))
    return list(connection.execute(query).scalars())


def of_person(connection: Connection, organization_id: str, user_id: str) -> list[Batch]:
    """Those that one of our users began, oldest first."""
    query = select(batches).where(batches.c.organization_id == organization_id, batches.c.user_id == user_id)
    return [_batch(dict(row)) for row in connection.execute(query.order_by(batches.c.id)).mappings()]


def ended_before(connection: Connection, project_id: str, before_ns: int) -> list[str]:
    """Ids of the project's batches that had ended by then."""
    query = select(batches.c.id).where(batches.c.project_id == project_id, batches.c.ended_at_ns < before_ns)
    return list(connection.execute(query.order_by(batches.c.id)).scalars())


def remove(connection: Connection, ids: list[str]) -> int:
    """How many there were."""
    parts = in_parts(ids)
    return sum(connection.execute(delete(batches).where(batches.c.id.in_(part))).rowcount for part in parts)


def _seen_by(query: Any, principal: Principal) -> Any:
    if principal.is_admin:
        return query
    if principal.may(Scope.MANAGE):
        return query.where(batches.c.organization_id == principal.organization_id)
    return query.where(batches.c.project_id == principal.project_id)


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _counts(tally: Tally) -> dict[str, int]:
    return {name: getattr(tally, name) for name in _TALLY}


def _row(batch: Batch) -> dict[str, Any]:
    row = msgspec.structs.asdict(batch)
    row |= _counts(row.pop("tally"))
    row["faults"] = _text(batch.faults)
    row["metadata"] = None if batch.metadata is None else _text(batch.metadata)
    return row


def _batch(row: dict[str, Any]) -> Batch:
    tally = Tally(**{name: row.pop(name) for name in _TALLY})
    row["faults"] = msgspec.json.decode(row["faults"], type=tuple[BatchFault, ...])
    row["metadata"] = None if row["metadata"] is None else msgspec.json.decode(row["metadata"])
    return Batch(**row, tally=tally)
