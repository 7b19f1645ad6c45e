"""Puts an event into the outbox, for each endpoint that wants it, in the transaction of what happened."""

from typing import Any

import msgspec
from sqlalchemy import Connection, select

from dayspring.accounts.webhooks.tables import webhook_deliveries, webhook_endpoints
from dayspring.core.ids import new_id

__all__ = ["known_events", "put"]

known_events = {"spend_alert.raised"}
"""What an endpoint can ask for; a room that sends more adds to it when it is imported."""


def put(
    connection: Connection, organization_id: str, project_id: str, event_type: str, data: dict[str, Any], now_ns: int
) -> None:
    """An event of a project, or without one of the organization, in OpenAI's shape. `data` is what JSON can hold."""
    wanted = select(webhook_endpoints.c.id, webhook_endpoints.c.event_types).where(
        webhook_endpoints.c.organization_id == organization_id,
        webhook_endpoints.c.project_id.in_({"", project_id}),
    )
    endpoints = [row.id for row in connection.execute(wanted) if event_type in row.event_types.split()]
    event = {"id": new_id("evt"), "object": "event", "created_at": now_ns // 10**9, "type": event_type, "data": data}
    rows = [
        {
            "id": new_id("msg"),
            "endpoint_id": endpoint_id,
            "event_type": event_type,
            "body": msgspec.json.encode(event).decode(),
            "created_at_ns": now_ns,
            "attempts": 0,
            "next_at_ns": now_ns,
            "status": "pending",
        }
        for endpoint_id in endpoints
    ]
    if rows:
        connection.execute(webhook_deliveries.insert(), rows)
