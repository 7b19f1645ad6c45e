"""One row for each request that ended: who, what, how much, and what it came to. Inserted once, never changed."""

import hashlib

import msgspec
from sqlalchemy import BigInteger, Column, Connection, Index, String, Table, Text, bindparam, select

from dayspring.core.money import Unit
from dayspring.ledger.notes import insert_notes
from dayspring.ledger.reservations import Reservation
from dayspring.ledger.values import Settled, Settlement
from dayspring.store.schema import metadata
from dayspring.store.statements import Statement

__all__ = ["content_of", "insert_request", "requests", "settled_before"]

requests = Table(
    "requests",
    metadata,
    Column("request_id", String(64), primary_key=True),
    Column("organization_id", String(64), nullable=False),
    Column("project_id", String(64), nullable=False),
    Column("key_id", String(64), nullable=False),
    Column("model", String(200), nullable=False),
    Column("task", String(32), nullable=False),
    Column("status", String(16), nullable=False),
    Column("engine", String(64), nullable=False),
    Column("device", String(64), nullable=False),
    Column("upstream", String(200), nullable=False),
    Column("price_version", BigInteger, nullable=False),
    Column("started_at_ns", BigInteger, nullable=False),
    Column("first_token_ns", BigInteger),
    Column("finished_at_ns", BigInteger, nullable=False),
    Column("busy_ns", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    # Without the cached ones.
    Column("cached_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("other_units", Text),
    # JSON: quantity by unit, for units that are no tokens.
    Column("reserved_nanos", BigInteger, nullable=False),
    Column("price_nanos", BigInteger, nullable=False),
    Column("compute_cost_nanos", BigInteger, nullable=False),
    Column("upstream_cost_nanos", BigInteger, nullable=False),
    Column("excess_nanos", BigInteger, nullable=False),
    Column("content", String(32), nullable=False),
    # Digest of the settlement without its notes, to tell a repetition from another one.
    Index(None, "project_id", "finished_at_ns"),
    Index(None, "finished_at_ns"),
    sqlite_with_rowid=False,
)

_TOKENS = (Unit.INPUT_TOKEN, Unit.CACHED_TOKEN, Unit.OUTPUT_TOKEN)
_insert = Statement(requests.insert(), *requests.c.keys())
_find = Statement(
    select(
        requests.c.content,
        requests.c.request_id,
        requests.c.status,
        requests.c.price_nanos,
        requests.c.compute_cost_nanos,
        requests.c.upstream_cost_nanos,
        requests.c.excess_nanos,
    ).where(requests.c.request_id == bindparam("request_id")),
    "request_id",
)
_encoder = msgspec.json.Encoder(order="deterministic")


def content_of(settlement: Settlement) -> str:
    """A digest of everything that is booked. Without the notes: a digest of what is erased could still confirm it."""
    booked = msgspec.structs.replace(settlement, metadata=None)
    return hashlib.blake2b(_encoder.encode(booked), digest_size=16).hexdigest()


def insert_request(
    connection: Connection, held: Reservation, settlement: Settlement, settled: Settled, content: str
) -> None:
    quantities = settlement.quantities
    other = {unit: amount for unit, amount in quantities.items() if unit not in _TOKENS}
    if settlement.metadata:
        insert_notes(
            connection, held.request_id, held.organization_id, held.project_id, settlement.metadata,
            settlement.finished_at_ns,
        )  # fmt: skip
    _insert.run(
        connection,
        held.request_id,
        held.organization_id,
        held.project_id,
        held.key_id,
        held.model,
        held.task,
        settlement.status,
        settlement.engine,
        settlement.device,
        settlement.upstream,
        held.price_version,
        settlement.started_at_ns,
        settlement.first_token_ns,
        settlement.finished_at_ns,
        settlement.busy_ns,
        quantities.get(Unit.INPUT_TOKEN, 0),
        quantities.get(Unit.CACHED_TOKEN, 0),
        quantities.get(Unit.OUTPUT_TOKEN, 0),
        _encoder.encode(other).decode() if other else None,
        held.amount_nanos,
        settled.price_nanos,
        settled.compute_cost_nanos,
        settled.upstream_cost_nanos,
        settled.excess_nanos,
        content,
    )


def settled_before(connection: Connection, request_id: str) -> tuple[str, Settled] | None:
    """The content's digest and what was booked, of a request that has ended; None for one that has not."""
    row = _find.one(connection, request_id)
    return None if row is None else (row[0], Settled(*row[1:]))
