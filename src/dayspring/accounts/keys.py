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
    Connection,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    Table,
    Text,
    select,
    update,
)

from dayspring.accounts.budgets import KEY, open_budget
from dayspring.accounts.principals import Principal, Scope
from dayspring.core.errors import Conflict, InvalidRequest, NotFound
from dayspring.store.schema import metadata
from dayspring.store.statements import insert_if_new

__all__ = [
    "Key", "add_key", "check_key", "digest_of", "find_by_token", "find_key", "is_token", "keys", "list_keys",
    "new_token", "prefix_of", "revoke_key",
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
    Index(None, "prefix", unique=True),
    Index(None, "project_id"),
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

    @property
    def principal(self) -> Principal:
        return Principal(
            self.organization_id, self.project_id, self.id, self.scopes, self.allowed_models,
            self.sees_cost or Scope.ADMIN in self.scopes,
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
    models = None if key.allowed_models is None else msgspec.json.encode(sorted(key.allowed_models)).decode()
    row = msgspec.structs.asdict(key) | {
        "scopes": " ".join(sorted(key.scopes)),
        "allowed_models": models,
        "digest": digest_of(token),
    }
    if not insert_if_new(connection, keys, row):
        raise Conflict("Another key begins with the same characters", "Try again.")
    open_budget(connection, key.id, KEY, limit_nanos)


def find_by_token(connection: Connection, token: str) -> Key | None:
    """The key this token is the secret of, live or not; None for a stranger's token."""
    row = connection.execute(select(keys).where(keys.c.prefix == prefix_of(token))).mappings().one_or_none()
    if row is None or not hmac.compare_digest(bytes(row["digest"]), digest_of(token)):
        return None
    return _key(dict(row))


def find_key(connection: Connection, key_id: str) -> Key:
    """Raises NotFound."""
    row = connection.execute(select(keys).where(keys.c.id == key_id)).mappings().one_or_none()
    if row is None:
        raise NotFound("key", key_id)
    return _key(dict(row))


def list_keys(connection: Connection, project_id: str | None) -> list[Key]:
    """Those of one project, or all; oldest first; revoked ones too."""
    query = select(keys).order_by(keys.c.id)
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


def _key(row: dict[str, object]) -> Key:
    del row["digest"]
    models = row["allowed_models"]
    row["scopes"] = frozenset(str(row["scopes"]).split())
    row["allowed_models"] = None if models is None else frozenset(msgspec.json.decode(str(models), type=list[str]))
    return Key(**row)  # type: ignore[arg-type]
