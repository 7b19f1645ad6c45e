"""Sends what is in the outbox: signed, at least once, with growing pauses, until it is taken or a day or so is over.

What holds: an attempt is noted before it is made, so a server that dies in it, or another beside it, does not send the
same message at the same time, and sends it again after LEASE_S; every attempt of a message has the same `webhook-id`,
by which a receiver knows a repetition. A slow or dead receiver holds up nobody but itself.
What it does not do: promise an order.
"""

import asyncio
import logging
from typing import Protocol

import msgspec
from sqlalchemy import Connection, Row, delete, select, update

from dayspring.accounts.webhooks.signing import headers_for
from dayspring.accounts.webhooks.tables import Endpoint, webhook_deliveries, webhook_endpoints
from dayspring.contracts.clock import Clock
from dayspring.core.errors import DayspringError
from dayspring.core.ids import new_id
from dayspring.net.answers import Reply
from dayspring.net.fetcher import Request
from dayspring.store.database import Database

__all__ = ["PAUSES_S", "Deliveries", "Poster"]

log = logging.getLogger(__name__)

PAUSES_S = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""After each failed attempt: ten attempts in about three days, as Standard Webhooks proposes."""
LEASE_S = 120
"""How long an attempt may be under way before it counts as lost with its server."""
TIMEOUT_S = 15.0
KEPT_S = 30 * 86_400
"""How long it is kept how a message ended."""
_AT_ONCE = 100
_AT_ONCE_TO_ONE = 10
_ANSWER_BYTES = 64 << 10
_GONE = 410


class Poster(Protocol):
    """The part of `net.fetcher.Fetcher` that this needs."""

    async def post(self, request: Request, *, body: bytes, limit_bytes: int, timeout_s: float) -> Reply: ...


class Deliveries:
    def __init__(self, db: Database, clock: Clock, poster: Poster) -> None:
        self._db = db
        self._clock = clock
        self._poster = poster

    async def send_due(self) -> int:
        """Attempts what is due, at most a batch. Returns how many were taken by their receivers."""
        due = await self._db.read(lambda connection: _due(connection, self._clock.time_ns()))
        by_endpoint: dict[str, list[Row[str, str, str, int, int]]] = {}
        for row in due:
            by_endpoint.setdefault(row.endpoint_id, []).append(row)
        return sum(await asyncio.gather(*(self._to_one(*item) for item in by_endpoint.items())))

    async def test(self, endpoint: Endpoint, event_type: str) -> int | None:
        """Sends one sample now, not by way of the outbox; the status of the answer, None where none came."""
        now_ns = self._clock.time_ns()
        event = {"id": new_id("evt"), "object": "event", "created_at": now_ns // 10**9, "type": event_type, "data": {}}
        return await self._attempt(endpoint, new_id("msg"), msgspec.json.encode(event).decode())

    async def forget_old(self) -> None:
        """Deletes what ended long ago."""
        before = self._clock.time_ns() - KEPT_S * 10**9
        await self._db.write(
            lambda connection: (
                connection.execute(
                    delete(webhook_deliveries).where(
                        webhook_deliveries.c.next_at_ns.is_(None), webhook_deliveries.c.ended_at_ns < before
                    )
                ).rowcount
            )
        )

    async def _to_one(self, endpoint_id: str, due: list[Row[str, str, str, int, int]]) -> int:
        """In turn; the first that is not taken ends it for now."""
        taken = 0
        for row in due[:_AT_ONCE_TO_ONE]:
            claimed, endpoint = await self._claim(row.id, row.next_at_ns, endpoint_id)
            if not claimed:
                continue  # another server has it
            status = None if endpoint is None else await self._attempt(endpoint, row.id, row.body)
            ok = status is not None and 200 <= status < 300
            await self._note(row, status, ok=ok, over=endpoint is None or status == _GONE)
            if not ok:
                break
            taken += 1
        return taken

    async def _claim(self, message_id: str, seen_ns: int, endpoint_id: str) -> tuple[bool, Endpoint | None]:
        until_ns = self._clock.time_ns() + LEASE_S * 10**9
        table = webhook_deliveries

        def claim(connection: Connection) -> tuple[bool, Endpoint | None]:
            mine = update(table).where(table.c.id == message_id, table.c.next_at_ns == seen_ns)
            if not connection.execute(mine.values(next_at_ns=until_ns)).rowcount:
                return False, None
            found = select(webhook_endpoints).where(webhook_endpoints.c.id == endpoint_id)
            row = connection.execute(found).one_or_none()
            return True, None if row is None else Endpoint(*row)

        return await self._db.write(claim)

    async def _attempt(self, endpoint: Endpoint, message_id: str, body: str) -> int | None:
        now_ns = self._clock.time_ns()
        with_secrets = [endpoint.secret]
        if endpoint.old_secret and now_ns < endpoint.old_secret_until_ns:
            with_secrets.append(endpoint.old_secret)
        try:
            headers = headers_for(message_id, now_ns // 10**9, body, with_secrets)
            request = Request(
                endpoint.url, {"Content-Type": "application/json"}, secret_headers=headers, operator=endpoint.private
            )
            reply = await self._poster.post(
                request, body=body.encode(), limit_bytes=_ANSWER_BYTES, timeout_s=TIMEOUT_S
            )  # fmt: skip
        except DayspringError as error:
            log.warning("a webhook was not delivered", extra={"endpoint": endpoint.id, "reason": error.message})
            return None
        return reply.status

    async def _note(self, row: Row[str, str, str, int, int], status: int | None, *, ok: bool, over: bool) -> None:
        now_ns, attempts = self._clock.time_ns(), row.attempts + 1
        ends = ok or over or attempts > len(PAUSES_S)
        next_ns = now_ns + (PAUSES_S[0] if ends else PAUSES_S[attempts - 1]) * 10**9
        values = {
            "attempts": attempts,
            "status_code": status,
            "status": "delivered" if ok else "failed" if ends else "pending",
            "next_at_ns": None if ends else next_ns,
            "ended_at_ns": now_ns if ends else None,
        }
        if ends and not ok:
            log.error("a webhook was given up", extra={"delivery": row.id, "status": status, "attempts": attempts})
        table = webhook_deliveries

        def note(connection: Connection) -> None:
            connection.execute(update(table).where(table.c.id == row.id).values(values))
            if not ok:  # its other messages wait too, else they would be in the way of everybody else's
                waiting = (table.c.endpoint_id == row.endpoint_id) & (table.c.next_at_ns <= now_ns)
                connection.execute(update(table).where(waiting).values(next_at_ns=next_ns))

        await self._db.write(note)


def _due(connection: Connection, now_ns: int) -> list[Row[str, str, str, int, int]]:
    table = webhook_deliveries
    columns = (table.c.id, table.c.endpoint_id, table.c.body, table.c.attempts, table.c.next_at_ns)
    query = select(*columns).where(table.c.next_at_ns <= now_ns).order_by(table.c.next_at_ns, table.c.id)
    return list(connection.execute(query.limit(_AT_ONCE)).all())
