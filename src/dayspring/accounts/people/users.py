"""Users: people who may sign in. One row each, in one organization.

What holds: of the people who may sign in, no two have the same email, in whatever case; one who was removed keeps the
row until erased, so that the audit log can still name them. A user has a budget like a key has one.
"""

from collections.abc import Sequence

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    ForeignKey,
    Index,
    String,
    Table,
    UniqueConstraint,
    select,
    update,
)

from dayspring.accounts.budgets import KEY, open_budget
from dayspring.accounts.people.roles import Role
from dayspring.core.errors import Conflict, InvalidRequest, NotFound
from dayspring.store.schema import metadata
from dayspring.store.statements import insert_if_new

__all__ = [
    "User", "add_user", "change_user", "check_email", "check_name", "find_user", "linked", "list_users", "remove_user",
    "user_by_login", "user_by_subject", "users",
]  # fmt: skip

users = Table(
    "users",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("organization_id", ForeignKey("organizations.id"), nullable=False),
    Column("email", String(320), nullable=False),
    Column("login", String(320)),
    # The email in one case; NULL once removed, so that the address is free again.
    Column("name", String(200), nullable=False),
    Column("role", String(16), nullable=False),
    Column("is_operator", Boolean, nullable=False),
    Column("password", String(255)),
    # argon2id, as the library encodes it; NULL: none was set.
    Column("issuer", String(255)),
    Column("subject", String(255)),
    # Who the identity provider says this is; NULL: not linked.
    Column("created_at_ns", BigInteger, nullable=False),
    Column("removed_at_ns", BigInteger),
    UniqueConstraint("login"),
    UniqueConstraint("issuer", "subject"),
    Index(None, "organization_id"),
)


class User(msgspec.Struct, frozen=True):
    """What may be shown of a user: everything but the password's hash."""

    id: str
    organization_id: str
    email: str
    name: str
    role: Role
    created_at_ns: int
    is_operator: bool = False
    """The installation's administrator, in every organization."""
    removed_at_ns: int | None = None

    @property
    def is_removed(self) -> bool:
        return self.removed_at_ns is not None


_SHOWN = [users.c[name] for name in User.__struct_fields__]


def check_email(email: str) -> str:
    """The address without blanks around it. Raises InvalidRequest for what is none."""
    email = email.strip()
    name, _, host = email.rpartition("@")
    broken = any(character.isspace() or not character.isprintable() for character in email)
    if not name or "." not in f"{host}." or not host or broken or len(email) > 320:
        raise InvalidRequest("An email has the form name@host, at most 320 characters. Correct it.", param="email")
    return email


def check_name(name: str) -> str:
    """Raises InvalidRequest."""
    if len(name) > 200 or any(not character.isprintable() for character in name):
        raise InvalidRequest("A name has at most 200 printable characters. Give another.", param="name")
    return name.strip()


def add_user(connection: Connection, user: User, password: str | None) -> None:
    """`password` is the encoded hash. Raises Conflict for an email that has an account."""
    row = msgspec.structs.asdict(user) | {"login": user.email.casefold()[:320], "password": password}
    if not insert_if_new(connection, users, row):
        raise Conflict("There is a user with this email already", "Change that one, or give another email.")
    open_budget(connection, user.id, KEY)


def find_user(connection: Connection, user_id: str, organization_id: str | None, *, removed: bool = False) -> User:
    """Of this organization, or of any for None. Raises NotFound, also for one who was removed, unless `removed`."""
    where = [users.c.id == user_id]
    if organization_id is not None:
        where.append(users.c.organization_id == organization_id)
    if not removed:
        where.append(users.c.removed_at_ns.is_(None))
    row = connection.execute(select(*_SHOWN).where(*where)).mappings().one_or_none()
    if row is None:
        raise NotFound("user", user_id)
    return _user(dict(row))


def user_by_login(connection: Connection, email: str) -> tuple[User, str | None] | None:
    """Who signs in with this email, and the password's hash; None for nobody."""
    return _with_password(connection, users.c.login == email.strip().casefold()[:320])


def user_by_subject(connection: Connection, issuer: str, subject: str) -> User | None:
    """Who is linked to this identity."""
    found = _with_password(connection, (users.c.issuer == issuer) & (users.c.subject == subject))
    return None if found is None else found[0]


def linked(connection: Connection, user_id: str) -> bool:
    """Whether the user has an identity at a provider."""
    query = select(users.c.subject).where(users.c.id == user_id)
    return connection.execute(query).scalar_one() is not None


def list_users(
    connection: Connection,
    organization_id: str | None,
    *,
    emails: Sequence[str] = (),
    after: str | None = None,
    limit: int = 100,
) -> list[User]:
    """Those who were not removed, oldest first, at most `limit`."""
    where: list[ColumnElement[bool]] = [users.c.removed_at_ns.is_(None)]
    if organization_id is not None:
        where.append(users.c.organization_id == organization_id)
    if emails:
        where.append(users.c.login.in_([email.strip().casefold()[:320] for email in emails]))
    if after is not None:
        where.append(users.c.id > after)
    query = select(*_SHOWN).where(*where).order_by(users.c.id).limit(limit)
    return [_user(dict(row)) for row in connection.execute(query).mappings()]


def change_user(connection: Connection, user_id: str, **values: object) -> None:
    """Sets columns of a user who is there."""
    connection.execute(update(users).where(users.c.id == user_id).values(**values))


def remove_user(connection: Connection, user_id: str, now_ns: int) -> None:
    """The row stays, without what one could sign in with."""
    change_user(
        connection, user_id, removed_at_ns=now_ns, login=None, password=None, issuer=None, subject=None,
        is_operator=False,
    )  # fmt: skip


def _with_password(connection: Connection, where: ColumnElement[bool]) -> tuple[User, str | None] | None:
    query = select(*_SHOWN, users.c.password).where(where, users.c.removed_at_ns.is_(None))
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        return None
    values = dict(row)
    password = values.pop("password")
    return _user(values), password


def _user(row: dict[str, object]) -> User:
    row["role"] = Role(str(row["role"]))
    return User(**row)  # type: ignore[arg-type]
