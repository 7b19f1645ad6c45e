"""Whether a project may keep more: what all rooms keep for it, against its disk quota.

Asked before work whose result is stored, so that nobody pays for what could not be kept. Two requests at once may both
be let in, so a project can come to lie over its quota by what they store; the rooms with large things add up in their
own transaction besides.
"""

from collections.abc import Awaitable, Callable, Sequence

from dayspring.accounts.principals import Principal
from dayspring.contracts.holdings import Holder
from dayspring.core.errors import DiskQuotaExceeded

__all__ = ["admission"]


def admission(
    quota: Callable[[str], Awaitable[int | None]], holders: Sequence[Holder]
) -> Callable[[Principal], Awaitable[None]]:
    """A check that raises DiskQuotaExceeded. `quota`: bytes a project may keep, None without a limit."""

    async def admit(principal: Principal) -> None:
        limit = await quota(principal.project_id)
        if limit is None:
            return
        kept = sum([await holder.stored_bytes(principal.project_id) for holder in holders])
        if kept >= limit:
            raise DiskQuotaExceeded(quota_bytes=limit)

    return admit
