"""API keys: `ds-` and 43 characters (256 random bits), shown once and kept as a SHA-256 digest.

The first characters are kept in clear as a prefix: it finds the row and names the key to a human. What is left secret
is over 180 bits, so a fast digest is enough. The digest is compared in constant time.
What it does not do: caching (`authentication`).
"""

import base64
import hashlib
import hmac
import re
import secrets

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    ForeignKey,
    Index,
    LargeBinary,
    RowMapping,
    String,
    Table,
    Text,
    select,
    update,
)

from dayspring.accounts.budgets import KEY, open_budget
from dayspring.accounts.credentials import Credential
from dayspring.accounts.organizations import projects
from dayspring.accounts.people.memberships import project_members
from dayspring.accounts.people.roles import Role, scopes_of
from dayspring.accounts.people.users import users
from dayspring.accounts.principals import Principal, Scope
from dayspring.core.errors import Conflict, InvalidRequest, NotFound
from dayspring.store.schema import metadata
from dayspring.store.statements import insert_if_new

__all__ = [
    "Key", "add_key", "change_key", "check_key", "credential_of", "digest_of", "find_by_token", "find_key",
    "is_token", "keys", "list_keys", "new_token", "prefix_of", "revoke_key", "rotate_key",
]  # fmt: skip

_TOKEN = re.compile(r"ds-[A-Za-z0-9_-]{43}")
_PREFIX_CHARACTERS = 13
"""`ds-` and ten more: 60 bits, so that two keys of one installation practically never share them."""

keys = Table(
    "keys",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("organization_id", ForeignKey("organizations.id"), nullable=False),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("name", String(200), nullable=False),
    Column("prefix", String(16), nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("scopes", String(200), nullable=False),
    Column("allowed_models", Text),
    Column("sees_cost", Boolean, nullable=False),
    Column("created_at_ns", BigInteger, nullable=False),
    Column("expires_at_ns", BigInteger),
    Column("revoked_at_ns", BigInteger),
    Column("user_id", String(64), nullable=False, server_default=""),
    # The user whose key it is; it can do no more than that user, and ends with them. Empty: nobody's.
    Column("service_account_id", String(64), nullable=False, server_default=""),
    Column("previous_prefix", String(16)),
    Column("previous_digest", LargeBinary(32)),
    Column("previous_until_ns", BigInteger),
    # The secret before the last rotation, which works until then.
    Index(None, "prefix", unique=True),
    Index(None, "previous_prefix"),
    Index(None, "project_id"),
    Index(None, "user_id"),
)


class Key(msgspec.Struct, frozen=True):
    """What may be shown of a key: everything but its secret."""

    id: str
    organization_id: str
    project_id: str
    name: str
    prefix: str
    """How it begins, for a human to tell keys apart."""
    scopes: frozenset[str]
    allowed_models: frozenset[str] | None
    sees_cost: bool
    created_at_ns: int
    expires_at_ns: int | None = None
    revoked_at_ns: int | None = None
    user_id: str = ""
    """Whose it is; empty for nobody's."""
    service_account_id: str = ""
    previous_until_ns: int | None = None
    """Until when the secret before the last rotation works too."""

    @property
    def principal(self) -> Principal:
        return Principal(
            self.organization_id, self.project_id, self.id, self.scopes, self.allowed_models,
            self.sees_cost or Scope.ADMIN in self.scopes, self.user_id,
        )  # fmt: skip

    def is_live(self, now_ns: int) -> bool:
        return self.revoked_at_ns is None and (self.expires_at_ns is None or now_ns < self.expires_at_ns)


def new_token() -> str:
    """A fresh secret."""
    return "ds-" + base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()


def is_token(text: str) -> bool:
    """Whether it has the form of one."""
    return _TOKEN.fullmatch(text) is not None


def digest_of(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def prefix_of(token: str) -> str:
    return token[:_PREFIX_CHARACTERS]


def check_key(key: Key) -> None:
    """Raises InvalidRequest for a key that could not be used as meant."""
    if not key.name.strip() or len(key.name) > 200:
        raise InvalidRequest("A key's name has 1 to 200 characters. Give another.")
    unknown = key.scopes - Scope.ALL
    if unknown or not key.scopes:
        raise InvalidRequest(f"A key needs scopes out of {', '.join(sorted(Scope.ALL))}. Correct them.")
    if key.expires_at_ns is not None and key.expires_at_ns <= key.created_at_ns:
        raise InvalidRequest("The key would have expired already. Give a later time.")


def add_key(connection: Connection, key: Key, token: str, limit_nanos: int | None) -> None:
    """Raises Conflict when the token's prefix is taken: make another token."""
    row = msgspec.structs.asdict(key) | {
        "scopes": " ".join(sorted(key.scopes)),
        "allowed_models": _models_text(key),
        "digest": digest_of(token),
    }
    if not insert_if_new(connection, keys, row):
        raise Conflict("Another key begins with the same characters", "Try again.")
    open_budget(connection, key.id, KEY, limit_nanos)


_of_owner = (
    select(
        keys,
        projects.c.archived_at_ns,
        users.c.role.label("owner_role"),
        users.c.is_operator.label("owner_operates"),
        users.c.removed_at_ns.label("owner_removed_at_ns"),
        project_members.c.role.label("owner_in_project"),
    )
    .join(projects, projects.c.id == keys.c.project_id)
    .outerjoin(users, users.c.id == keys.c.user_id)
    .outerjoin(
        project_members,
        (project_members.c.user_id == keys.c.user_id) & (project_members.c.project_id == keys.c.project_id),
    )
)


def find_by_token(connection: Connection, token: str, now_ns: int) -> Credential | None:
    """What this token, a key's secret or the one before its rotation, lets its bearer do; None for a stranger's."""
    prefix, digest = prefix_of(token), digest_of(token)
    query = _of_owner.where((keys.c.prefix == prefix) | (keys.c.previous_prefix == prefix))
    for row in connection.execute(query).mappings():
        if hmac.compare_digest(bytes(row["digest"]), digest):
            return _credential(row, None)
        if row["previous_prefix"] == prefix and hmac.compare_digest(bytes(row["previous_digest"]), digest):
            return _credential(row, row["previous_until_ns"] or now_ns)
    return None


def credential_of(connection: Connection, key_id: str) -> Credential | None:
    """What a key lets its bearer do, by its id: for work that goes on without its secret. None for no key."""
    row = connection.execute(_of_owner.where(keys.c.id == key_id)).mappings().one_or_none()
    return None if row is None else _credential(row, None)


def _credential(row: RowMapping, until_ns: int | None) -> Credential:
    key = _key({name: row[name] for name in keys.c.keys()})  # noqa: SIM118 - the columns by name
    ends = [end for end in (key.revoked_at_ns, key.expires_at_ns, row["archived_at_ns"], until_ns) if end is not None]
    principal = key.principal
    if key.user_id:
        if row["owner_role"] is None or row["owner_removed_at_ns"] is not None:
            ends.append(0)
        else:
            in_project = None if row["owner_in_project"] is None else Role(row["owner_in_project"])
            allowed = scopes_of(Role(row["owner_role"]), in_project, is_operator=row["owner_operates"])
            scopes = key.scopes & allowed
            sees_cost = Scope.ADMIN in scopes or key.sees_cost
            principal = msgspec.structs.replace(principal, scopes=scopes, sees_cost=sees_cost)
    owners = (key.id, key.project_id, key.organization_id, key.user_id)
    return Credential(principal=principal, ends_at_ns=min(ends, default=None), owners=owners)


def rotate_key(connection: Connection, key_id: str, token: str, now_ns: int, grace_until_ns: int | None) -> Key:
    """Gives the key another secret; the one it had works until then, or ends now. The one before that ends at once.

    Raises Conflict for a key that has ended, or when the token's prefix is taken: make another token.
    """
    key = find_key(connection, key_id)
    if not key.is_live(now_ns):
        raise Conflict("This key is revoked or has expired", "Make another one.")
    prefix = prefix_of(token)
    taken = select(keys.c.id).where((keys.c.prefix == prefix) | (keys.c.previous_prefix == prefix))
    if connection.execute(taken).first():
        raise Conflict("Another key begins with the same characters", "Try again.")
    before: dict[str, object] = {"previous_prefix": None, "previous_digest": None, "previous_until_ns": None}
    if grace_until_ns is not None:
        before = {
            "previous_prefix": keys.c.prefix,
            "previous_digest": keys.c.digest,
            "previous_until_ns": grace_until_ns,
        }
    change = update(keys).where(keys.c.id == key_id).values(prefix=prefix, digest=digest_of(token), **before)
    connection.execute(change)
    return find_key(connection, key_id)


def change_key(connection: Connection, key: Key) -> Key:
    """Writes the name, scopes, models, expiry and sight of costs of a key. Raises InvalidRequest."""
    check_key(key)
    values = {
        "name": key.name,
        "scopes": " ".join(sorted(key.scopes)),
        "allowed_models": _models_text(key),
        "sees_cost": key.sees_cost,
        "expires_at_ns": key.expires_at_ns,
    }
    connection.execute(update(keys).where(keys.c.id == key.id).values(**values))
    return find_key(connection, key.id)


def find_key(connection: Connection, key_id: str) -> Key:
    """Raises NotFound."""
    row = connection.execute(select(keys).where(keys.c.id == key_id)).mappings().one_or_none()
    if row is None:
        raise NotFound("key", key_id)
    return _key(dict(row))


def list_keys(connection: Connection, project_id: str | None, *where: ColumnElement[bool]) -> list[Key]:
    """Those of one project, or all; oldest first; revoked ones too."""
    query = select(keys).order_by(keys.c.id).where(*where)
    if project_id is not None:
        query = query.where(keys.c.project_id == project_id)
    return [_key(dict(row)) for row in connection.execute(query).mappings()]


def revoke_key(connection: Connection, key_id: str, now_ns: int) -> Key:
    """Idempotent: the first time stands."""
    key = find_key(connection, key_id)
    if key.revoked_at_ns is None:
        connection.execute(update(keys).where(keys.c.id == key_id).values(revoked_at_ns=now_ns))
        key = msgspec.structs.replace(key, revoked_at_ns=now_ns)
    return key


def _models_text(key: Key) -> str | None:
    return None if key.allowed_models is None else msgspec.json.encode(sorted(key.allowed_models)).decode()


def _key(row: dict[str, object]) -> Key:
    for secret in ("digest", "previous_prefix", "previous_digest"):
        del row[secret]
    models = row["allowed_models"]
    row["scopes"] = frozenset(str(row["scopes"]).split())
    row["allowed_models"] = None if models is None else frozenset(msgspec.json.decode(str(models), type=list[str]))
    return Key(**row)  # type: ignore[arg-type]
