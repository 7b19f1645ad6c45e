"""What a room must offer that keeps something for people: show it, erase it, let it expire, tell how much there is.

The doors gather one Holder from each such room; exports of a person's data, deletions, retention and disk quotas then
reach everything that is kept, and a new room cannot be forgotten: a test asks every table with a project's id for its
holder.
"""

from collections.abc import AsyncIterator
from typing import Protocol

import msgspec

__all__ = ["Held", "Holder", "Subject"]


class Subject(msgspec.Struct, frozen=True):
    """Whose data. A person is one of our users, or someone a client named in `user` or `safety_identifier`."""

    organization_id: str
    user_id: str = ""
    """One of our users, or empty."""
    end_user: str = ""
    """What a client sent as `user` or `safety_identifier`, or empty."""


class Held(msgspec.Struct, frozen=True):
    """One kept thing, as it goes into an export."""

    name: str
    """Path inside the export, e.g. `files/file_01j.../report.pdf`; letters, digits, `._-/` only."""
    content: bytes


class Holder(Protocol):
    """One room's kept things. `kind` is what retention is set for: `responses`, `files`, `logs`, ..."""

    kind: str

    def export(self, subject: Subject) -> AsyncIterator[Held]:
        """Everything kept of a person, one thing at a time."""

    async def erase(self, subject: Subject) -> int:
        """Deletes everything kept of a person; what the books need stays, without the person. How many things."""

    async def expire(self, project_id: str, before_ns: int) -> int:
        """Deletes what the project kept before this time (Unix ns). How many things."""

    async def stored_bytes(self, project_id: str) -> int:
        """Bytes on disk that count towards the project's quota."""
