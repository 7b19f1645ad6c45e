"""The table of stored responses and stored chat completions, and the items that went into them and came out.

What holds: a row and its items are written together; a row's body and its output items, put together, are the object
that the client saw; deleting a row deletes its items. Bodies may hold personal data: `holder` shows and erases them.
What it does not do: decide who may see a row. Queries take the columns of `seen_by` for that.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec
import orjson
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    delete,
    func,
    insert,
    select,
    update,
)

from dayspring.accounts.principals import Principal, Scope
from dayspring.core.errors import Conflict, NotFound
from dayspring.store.schema import metadata

__all__ = [
    "Kind", "Row", "conversation", "drop", "find", "find_item", "finish", "items_of", "keep", "mark", "page",
    "responses", "seen_by", "unfinished", "whole",
]  # fmt: skip

Kind = Literal["response", "chat.completion"]

RUNNING = ("queued", "in_progress")

responses = Table(
    "responses",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("kind", String(16), nullable=False),
    # `response` or `chat.completion`.
    Column("organization_id", String(64), nullable=False),
    Column("project_id", String(64), nullable=False),
    Column("key_id", String(64), nullable=False),
    Column("user_id", String(64), nullable=False),
    # Our user who asked; empty for a key of a service.
    Column("end_user", String(512), nullable=False),
    # What the client sent as `user`, and as `safety_identifier`.
    Column("safety_identifier", String(512), nullable=False),
    Column("model", String(200), nullable=False),
    Column("previous_id", String(80), nullable=False),
    Column("status", String(16), nullable=False),
    Column("instance_id", String(64), nullable=False),
    # The server that works on it; empty once it has ended.
    Column("created_at_ns", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    # Of the body and its items.
    Column("body", LargeBinary, nullable=False),
    # JSON: the object without its output.
    Index(None, "project_id", "kind", "created_at_ns"),
    Index("ix_responses_sizes", "project_id", "size_bytes"),
    Index(None, "organization_id", "user_id"),
    Index(None, "instance_id"),
)

response_items = Table(
    "response_items",
    metadata,
    Column("response_id", String(80), ForeignKey("responses.id", ondelete="CASCADE"), primary_key=True),
    Column("place", Integer, primary_key=True, autoincrement=False),
    Column("id", String(64), nullable=False),
    Column("side", String(8), nullable=False),
    # `input` or `output`.
    Column("body", LargeBinary, nullable=False),
    Index(None, "id"),
)

_OUTPUT_PLACE = 1_000_000
"""Where the places of output items begin: no body has room for so many input items."""

_IDENTIFIER = re.compile(r"[\w.-]{1,80}")

Item = dict[str, Any]


class Row(msgspec.Struct, frozen=True):
    """One row, as it is written."""

    kind: Kind
    principal: Principal
    object: dict[str, Any]
    """As the client sees it; its `output` becomes items."""
    input: Sequence[Item]
    created_at_ns: int
    end_user: str = ""
    safety_identifier: str = ""
    instance_id: str = ""
    status: str = "completed"


def seen_by(principal: Principal) -> list[ColumnElement[bool]]:
    """The rows a principal may see: its project's; its organization's to manage; all for an administrator."""
    if principal.is_admin:
        return []
    if principal.may(Scope.MANAGE):
        return [responses.c.organization_id == principal.organization_id]
    return [responses.c.project_id == principal.project_id]


def _split(made: dict[str, Any], given: Iterable[Item], first: int = 0) -> tuple[bytes, list[dict[str, Any]]]:
    """The body, and the rows of its items."""
    rows: list[dict[str, Any]] = []
    sides = (("input", first, given), ("output", _OUTPUT_PLACE, made.get("output") or ()))
    for side, start, items in sides:
        for place, item in enumerate(items, start):
            rows.append({"place": place, "id": str(item["id"]), "side": side, "body": orjson.dumps(item)})
    return orjson.dumps({name: value for name, value in made.items() if name != "output"}), rows


def size_of(body: bytes, rows: Iterable[dict[str, Any]]) -> int:
    return len(body) + sum(len(row["body"]) for row in rows)


def keep(connection: Connection, row: Row) -> None:
    """Writes a row and its items."""
    body, items = _split(row.object, row.input)
    made, who = row.object, row.principal
    values = {
        "id": made["id"],
        "kind": row.kind,
        "organization_id": who.organization_id,
        "project_id": who.project_id,
        "key_id": who.key_id,
        "user_id": who.user_id,
        "end_user": row.end_user,
        "safety_identifier": row.safety_identifier,
        "model": made["model"],
        "previous_id": made.get("previous_response_id") or "",
        "status": row.status,
        "instance_id": row.instance_id,
        "created_at_ns": row.created_at_ns,
        "size_bytes": size_of(body, items),
        "body": body,
    }
    connection.execute(insert(responses), values)
    if items:
        connection.execute(insert(response_items), [{"response_id": made["id"], **item} for item in items])


def finish(connection: Connection, made: dict[str, Any]) -> bool:
    """The end of a row that was being worked on. False when it was deleted or has ended."""
    body, items = _split(made, ())
    statement = (
        update(responses)
        .where(responses.c.id == made["id"], responses.c.instance_id != "")
        .values(
            status=made["status"],
            instance_id="",
            body=body,
            size_bytes=responses.c.size_bytes - func.length(responses.c.body) + size_of(body, items),
        )
    )
    if not connection.execute(statement).rowcount:
        return False
    output = (response_items.c.response_id == made["id"], response_items.c.side == "output")
    connection.execute(delete(response_items).where(*output))
    if items:
        connection.execute(insert(response_items), [{"response_id": made["id"], **item} for item in items])
    return True


def mark(connection: Connection, response_id: str, status: str) -> None:
    """Moves a row that is being worked on to another state of work."""
    statement = update(responses).where(responses.c.id == response_id, responses.c.status.in_(RUNNING))
    connection.execute(statement.values(status=status))


def find(connection: Connection, kind: Kind, response_id: str, seen: list[ColumnElement[bool]]) -> Any:
    """The row (id, project_id, status, previous_id, instance_id, created_at_ns, body), or None."""
    if not _IDENTIFIER.fullmatch(response_id):  # PostgreSQL's texts hold no NUL; ours hold nothing odd
        return None
    columns = (
        responses.c.id,
        responses.c.project_id,
        responses.c.status,
        responses.c.previous_id,
        responses.c.instance_id,
        responses.c.created_at_ns,
        responses.c.body,
    )
    query = select(*columns).where(responses.c.id == response_id, responses.c.kind == kind, *seen)
    return connection.execute(query).first()


def items_of(connection: Connection, response_id: str, side: str) -> list[Item]:
    query = (
        select(response_items.c.body)
        .where(response_items.c.response_id == response_id, response_items.c.side == side)
        .order_by(response_items.c.place)
    )
    return [orjson.loads(body) for body in connection.execute(query).scalars()]


def whole(connection: Connection, row: Any) -> dict[str, Any]:
    """The object that the client saw, of a response's row."""
    made: dict[str, Any] = orjson.loads(row.body)
    made["status"] = row.status
    return made | {"output": items_of(connection, row.id, "output")}


def conversation(connection: Connection, project_id: str, response_id: str) -> list[Item]:
    """Everything said up to a response of the project, oldest first. Raises NotFound, Conflict."""
    turns: list[list[Item]] = []
    place = response_id
    while place:
        row = find(connection, "response", place, [responses.c.project_id == project_id])
        if row is None:
            raise _missing(response_id, place)
        if row.status in RUNNING:
            raise Conflict(f"The response {place!r} is still being made", "Wait for its end, or cancel it.")
        turns.append(items_of(connection, row.id, "input") + items_of(connection, row.id, "output"))
        place = row.previous_id
    return [item for turn in reversed(turns) for item in turn]


def _missing(asked: str, missing: str) -> NotFound:
    remedy = "Check the id."
    if missing != asked:
        remedy = f"It came before {asked!r} and is no longer kept: send the whole conversation as input."
    return NotFound("response", missing, remedy, param="previous_response_id")


def find_item(connection: Connection, project_id: str, item_id: str) -> Item | None:
    """The newest item of this id in the project."""
    query = (
        select(response_items.c.body)
        .join(responses, responses.c.id == response_items.c.response_id)
        .where(response_items.c.id == item_id, responses.c.project_id == project_id)
        .order_by(responses.c.created_at_ns.desc())
        .limit(1)
    )
    body = connection.execute(query).scalar()
    return None if body is None else orjson.loads(body)


def drop(connection: Connection, *conditions: ColumnElement[bool]) -> int:
    """Deletes rows and their items. How many rows."""
    ids = select(responses.c.id).where(*conditions)
    connection.execute(delete(response_items).where(response_items.c.response_id.in_(ids)))
    return int(connection.execute(delete(responses).where(*conditions)).rowcount)


def page(
    connection: Connection, kind: Kind, conditions: list[ColumnElement[bool]], *, after: Any, limit: int, oldest: bool
) -> Sequence[Any]:
    """Rows (id, body) in order of time, behind the row `after` (id, created_at_ns) where one is given."""
    at, name = responses.c.created_at_ns, responses.c.id
    if after is not None:
        beyond = at > after.created_at_ns if oldest else at < after.created_at_ns
        same = (at == after.created_at_ns) & (name > after.id if oldest else name < after.id)
        conditions = [*conditions, beyond | same]
    query = select(name, at, responses.c.body).where(responses.c.kind == kind, *conditions)
    ordered = query.order_by(at, name) if oldest else query.order_by(at.desc(), name.desc())
    return connection.execute(ordered.limit(limit)).all()


def unfinished(connection: Connection, alive: Any) -> Sequence[Any]:
    """Rows (id, status, body) that no living server works on; `alive` selects the ids of those that live."""
    query = select(responses.c.id, responses.c.status, responses.c.body).where(
        responses.c.instance_id != "", responses.c.instance_id.not_in(alive)
    )
    return connection.execute(query).all()
