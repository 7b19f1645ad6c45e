"""Invitations and password resets: one-time links that an administrator makes and hands over.

What holds: a link works once, until its end, and not after the invitation was withdrawn or another link was made for
the same person; its secret is shown by the call that made it and kept as a digest.
What it does not do: send mail. Whoever made the link passes it on.
"""

from typing import Literal

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    Table,
    Text,
    delete,
    select,
    update,
)

from dayspring.accounts.people.roles import Role
from dayspring.accounts.people.tokens import INVITE, RESET, digest_of, is_token, matches, prefix_of
from dayspring.core.errors import Conflict, InvalidRequest, NotFound
from dayspring.store.schema import metadata

__all__ = [
    "Invite", "accept", "add_invite", "add_reset", "delete_invite", "find_invite", "find_reset", "invites",
    "list_invites", "open_invite", "password_resets", "pending_for", "use_reset",
]  # fmt: skip

invites = Table(
    "invites",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("organization_id", ForeignKey("organizations.id"), nullable=False),
    Column("email", String(320), nullable=False),
    Column("login", String(320), nullable=False),
    Column("role", String(16), nullable=False),
    Column("projects", Text, nullable=False),
    # JSON: [[project id, role], ...].
    Column("prefix", String(16), nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("created_at_ns", BigInteger, nullable=False),
    Column("expires_at_ns", BigInteger, nullable=False),
    Column("accepted_at_ns", BigInteger),
    Column("user_id", String(64), nullable=False),
    # Who accepted; empty before.
    Index(None, "prefix", unique=True),
    Index(None, "organization_id"),
    Index(None, "login"),
)

password_resets = Table(
    "password_resets",
    metadata,
    Column("user_id", ForeignKey("users.id"), primary_key=True),
    Column("prefix", String(16), nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("expires_at_ns", BigInteger, nullable=False),
    Index(None, "prefix", unique=True),
)


class Invite(msgspec.Struct, frozen=True):
    id: str
    organization_id: str
    email: str
    role: Role
    projects: tuple[tuple[str, Role], ...]
    """Projects opened upon acceptance, each with the role in it."""
    created_at_ns: int
    expires_at_ns: int
    accepted_at_ns: int | None = None
    user_id: str = ""

    def status(self, now_ns: int) -> Literal["accepted", "expired", "pending"]:
        if self.accepted_at_ns is not None:
            return "accepted"
        return "pending" if now_ns < self.expires_at_ns else "expired"


_SHOWN = [invites.c[name] for name in Invite.__struct_fields__]


def add_invite(connection: Connection, invite: Invite, token: str) -> None:
    """Replaces an open invitation of the same address to the same organization."""
    login = invite.email.casefold()[:320]
    connection.execute(
        delete(invites).where(
            invites.c.organization_id == invite.organization_id,
            invites.c.login == login,
            invites.c.accepted_at_ns.is_(None),
        )
    )
    row = msgspec.structs.asdict(invite) | {
        "login": login,
        "projects": msgspec.json.encode(invite.projects).decode(),
        "prefix": prefix_of(token),
        "digest": digest_of(token),
    }
    connection.execute(invites.insert(), row)


def find_invite(connection: Connection, invite_id: str, organization_id: str | None) -> Invite:
    """Of this organization, or of any for None. Raises NotFound."""
    where = [invites.c.id == invite_id]
    if organization_id is not None:
        where.append(invites.c.organization_id == organization_id)
    found = _find(connection, *where)
    if not found:
        raise NotFound("invite", invite_id)
    return found[0]


def list_invites(connection: Connection, organization_id: str, after: str | None, limit: int) -> list[Invite]:
    """Oldest first."""
    where = [invites.c.organization_id == organization_id]
    if after is not None:
        where.append(invites.c.id > after)
    return _find(connection, *where, limit=limit)


def pending_for(connection: Connection, email: str, now_ns: int) -> Invite | None:
    """The newest open invitation of this address: what a verified identity may accept without the link."""
    found = _find(
        connection,
        invites.c.login == email.casefold()[:320],
        invites.c.accepted_at_ns.is_(None),
        invites.c.expires_at_ns > now_ns,
    )
    return found[-1] if found else None


def open_invite(connection: Connection, token: str, now_ns: int) -> Invite:
    """The open invitation this link is for. Raises InvalidRequest for any other link."""
    row = None
    if is_token(token, INVITE):
        query = select(invites.c.id, invites.c.digest).where(invites.c.prefix == prefix_of(token))
        row = connection.execute(query).first()
    if row is None or not matches(token, row.digest):
        raise _no_link()
    invite = find_invite(connection, row.id, None)
    if invite.status(now_ns) != "pending":
        raise _no_link()
    return invite


def accept(connection: Connection, invite: Invite, user_id: str, now_ns: int) -> None:
    """Raises Conflict where somebody else was quicker."""
    changed = connection.execute(
        update(invites)
        .where(invites.c.id == invite.id, invites.c.accepted_at_ns.is_(None))
        .values(accepted_at_ns=now_ns, user_id=user_id)
    )
    if not changed.rowcount:
        raise Conflict("This invitation was accepted already", "Sign in.")


def delete_invite(connection: Connection, invite_id: str) -> None:
    connection.execute(delete(invites).where(invites.c.id == invite_id))


def add_reset(connection: Connection, user_id: str, token: str, expires_at_ns: int) -> None:
    """Replaces the link a user had."""
    connection.execute(delete(password_resets).where(password_resets.c.user_id == user_id))
    row = {
        "user_id": user_id,
        "prefix": prefix_of(token),
        "digest": digest_of(token),
        "expires_at_ns": expires_at_ns,
    }
    connection.execute(password_resets.insert(), row)


def find_reset(connection: Connection, token: str, now_ns: int) -> str:
    """Whose link this is. Raises InvalidRequest for any other link."""
    row = None
    if is_token(token, RESET):
        query = select(password_resets).where(password_resets.c.prefix == prefix_of(token))
        row = connection.execute(query).first()
    if row is None or not matches(token, row.digest) or now_ns >= row.expires_at_ns:
        raise _no_link()
    user_id: str = row.user_id
    return user_id


def use_reset(connection: Connection, token: str, now_ns: int) -> str:
    """Takes the link, once; whose it was. Raises InvalidRequest for any other link, having written nothing."""
    user_id = find_reset(connection, token, now_ns)
    taken = connection.execute(
        delete(password_resets).where(
            password_resets.c.user_id == user_id, password_resets.c.prefix == prefix_of(token)
        )
    )
    if not taken.rowcount:  # another server was quicker
        raise _no_link()
    return user_id


def _find(connection: Connection, *where: ColumnElement[bool], limit: int | None = None) -> list[Invite]:
    query = select(*_SHOWN).where(*where).order_by(invites.c.id).limit(limit)
    found = []
    for row in connection.execute(query).mappings():
        places = msgspec.json.decode(row["projects"], type=tuple[tuple[str, Role], ...])
        found.append(Invite(**dict(row) | {"role": Role(row["role"]), "projects": places}))
    return found


def _no_link() -> InvalidRequest:
    return InvalidRequest("This link was used, has expired or was never ours. Ask for another one.", param="token")
