"""Entries of the audit log about models. They belong to the installation, so to whoever's organization changed them."""

from typing import Any

from sqlalchemy import Connection

from dayspring.accounts import audit
from dayspring.accounts.principals import Principal

__all__ = ["note"]


def note(
    connection: Connection, now_ns: int, by: Principal | None, event: str, target_id: str, details: dict[str, Any]
) -> None:
    """Call it inside the transaction of the change. `by` is None for the terminal and for the server itself."""
    organization_id = "" if by is None else by.organization_id
    audit.record(
        connection,
        now_ns=now_ns,
        actor=by,
        event=event,
        target_id=target_id,
        organization_id=organization_id,
        details=details,
    )
