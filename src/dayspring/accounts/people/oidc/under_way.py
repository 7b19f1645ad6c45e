"""Sign-ins under way at an identity provider: what this side must remember between the way out and the way back.

What holds: each is taken at most once, by the browser that began it, within `LASTS_S`; there are never more than
`MOST`, so strangers cannot fill the table.
"""

import msgspec
from sqlalchemy import BigInteger, Column, Connection, Index, LargeBinary, String, Table, delete, func, select

from dayspring.accounts.people.tokens import digest_of, matches
from dayspring.core.errors import Busy
from dayspring.store.schema import metadata

__all__ = ["LASTS_S", "MOST", "Pending", "begin", "oidc_sign_ins", "take"]

LASTS_S = 600
MOST = 10_000

oidc_sign_ins = Table(
    "oidc_sign_ins",
    metadata,
    Column("state", LargeBinary(32), primary_key=True),
    # Digests of what travels through the address and of what the browser keeps.
    Column("browser", LargeBinary(32), nullable=False),
    Column("nonce", String(64), nullable=False),
    Column("verifier", String(128), nullable=False),
    Column("project_id", String(64), nullable=False),
    Column("expires_at_ns", BigInteger, nullable=False),
    Index(None, "expires_at_ns"),
)


class Pending(msgspec.Struct, frozen=True):
    nonce: str
    verifier: str
    """Of the proof key (RFC 7636)."""
    project_id: str
    """Asked for; empty for none."""


def begin(connection: Connection, state: str, browser: str, pending: Pending, now_ns: int) -> None:
    """Raises Busy when too many are under way."""
    under_way = select(func.count()).where(oidc_sign_ins.c.expires_at_ns > now_ns)
    if int(connection.execute(under_way).scalar_one()) >= MOST:
        raise Busy("Too many people are signing in", retry_after_s=60)
    connection.execute(delete(oidc_sign_ins).where(oidc_sign_ins.c.expires_at_ns <= now_ns))
    row = msgspec.structs.asdict(pending) | {
        "state": digest_of(state),
        "browser": digest_of(browser),
        "expires_at_ns": now_ns + LASTS_S * 10**9,
    }
    connection.execute(oidc_sign_ins.insert(), row)


def take(connection: Connection, state: str, browser: str, now_ns: int) -> Pending | None:
    """Ends it, whoever asks; what was remembered, for the browser that began it and in time, else None."""
    statement = delete(oidc_sign_ins).where(oidc_sign_ins.c.state == digest_of(state)).returning(*oidc_sign_ins.c)
    row = connection.execute(statement).first()
    if row is None or not matches(browser, row.browser) or now_ns >= row.expires_at_ns:
        return None
    return Pending(row.nonce, row.verifier, row.project_id)
