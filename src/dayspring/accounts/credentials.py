"""What a secret that was sent lets its bearer do, and until when: the answer of the database to a token."""

import msgspec

from dayspring.accounts.principals import Principal

__all__ = ["Credential"]


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    principal: Principal
    ends_at_ns: int | None
    """From when it is refused (Unix ns); None: never by itself. In the past for one that has ended."""
    owners: tuple[str, ...]
    """Ids of the key or session, the user, the project and the organization: whose change makes this worth asking
    again."""
    seen_at_ns: int | None = None
    """Of a session: when it was last noted as in use. None for a key."""
