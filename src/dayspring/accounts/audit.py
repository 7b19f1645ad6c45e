"""The audit log: who changed what, when; one row for each change, written in the transaction of the change itself.

What holds: a row is never changed or deleted (triggers see to it), so it names people by id only. What is personal
about an entry, the address it came from or an email that was typed, is kept beside it in `audit_personal`, from which
it is erased with the person.
What it does not do: search and export (`audit_search`).
"""

from typing import Any

import msgspec
from sqlalchemy import BigInteger, Column, Connection, Index, String, Table, Text

from dayspring.accounts.principals import Principal
from dayspring.core.ids import new_id
from dayspring.store.schema import metadata

__all__ = ["audit_log", "audit_personal", "record"]

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("at_ns", BigInteger, nullable=False),
    Column("organization_id", String(64), nullable=False),
    Column("project_id", String(64), nullable=False),
    # Empty for what belongs to no project.
    Column("actor_kind", String(16), nullable=False),
    # `api_key`, `session`, or `system`: the terminal on this machine, or the server itself.
    Column("actor_key_id", String(64), nullable=False),
    Column("actor_user_id", String(64), nullable=False),
    Column("event", String(64), nullable=False),
    Column("target_id", String(200), nullable=False),
    Column("details", Text, nullable=False),
    # JSON object.
    Index(None, "organization_id", "at_ns"),
    Index(None, "at_ns"),
)

audit_personal = Table(
    "audit_personal",
    metadata,
    Column("entry_id", String(64), primary_key=True),
    Column("organization_id", String(64), nullable=False),
    Column("user_id", String(64), nullable=False),
    # Whose data this is: the actor's, or the target's where the target is a person.
    Column("at_ns", BigInteger, nullable=False),
    Column("address", String(64), nullable=False),
    Column("details", Text, nullable=False),
    # JSON object.
    Index(None, "user_id"),
    Index(None, "at_ns"),
)

_encode = msgspec.json.Encoder(order="sorted").encode


def record(
    connection: Connection,
    *,
    now_ns: int,
    actor: Principal | None,
    event: str,
    target_id: str,
    organization_id: str,
    project_id: str = "",
    details: dict[str, Any] | None = None,
    about: str = "",
    personal: dict[str, Any] | None = None,
) -> None:
    """Adds an entry. Call it inside the write transaction of the change.

    `actor` is None for the terminal and for the server itself. `event` is named as OpenAI names them
    (`api_key.created`). `details` are OpenAI's for that event (`data` of what was made, `changes_requested` of what
    was changed): settings and ids, no secret, and nothing that tells about a person. What does goes into `personal`,
    which is erased with the person `about` (a user's id; empty: the actor's).
    """
    entry_id = new_id("audit")
    kind = "system"
    if actor is not None:
        kind = "session" if actor.is_session else "api_key"
    connection.execute(
        audit_log.insert(),
        {
            "id": entry_id,
            "at_ns": now_ns,
            "organization_id": organization_id,
            "project_id": project_id,
            "actor_kind": kind,
            "actor_key_id": "" if actor is None else actor.key_id,
            "actor_user_id": "" if actor is None else actor.user_id,
            "event": event,
            "target_id": target_id,
            "details": _encode(details or {}).decode(),
        },
    )
    address = "" if actor is None else actor.address
    if address or personal:
        row = {
            "entry_id": entry_id,
            "organization_id": organization_id,
            "user_id": about or ("" if actor is None else actor.user_id),
            "at_ns": now_ns,
            "address": address[:64],
            "details": _encode(personal or {}).decode(),
        }
        connection.execute(audit_personal.insert(), row)
