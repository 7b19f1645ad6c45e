"""Getting in at ModelScope: the operator's token, and what to do where it is missing or not enough."""

import re

from dayspring.core.errors import PermissionDenied
from dayspring.core.settings import Settings

__all__ = ["gated", "repository_of", "token_headers"]


def token_headers(settings: Settings) -> dict[str, str]:
    """The token as the hub's newer interface reads it, and as the session cookie that its older one reads."""
    token = settings.modelscope_token.get_secret_value()
    return {"Authorization": f"Bearer {token}", "Cookie": f"m_session_id={token}"} if token else {}


def repository_of(url: str) -> str:
    """`owner/name` in the address of one of its files."""
    found = re.search(r"/api/v1/models/([^/?]+/[^/?]+)/repo", url)
    return found[1] if found else ""


def gated(settings: Settings, repository: str) -> PermissionDenied:
    """What to do about files that their owner lets only some have."""
    page = f"{settings.modelscope_endpoint.rstrip('/')}/models/{repository}"
    if settings.modelscope_token.get_secret_value():
        return PermissionDenied(
            f"The token in DAYSPRING_MODELSCOPE_TOKEN has no access to {repository!r}",
            f"Accept its terms at {page} with the account that the token belongs to, then try again.",
        )
    return PermissionDenied(
        f"{repository!r} is gated or private",
        f"Accept its terms at {page}, make an access token there, and set DAYSPRING_MODELSCOPE_TOKEN.",
    )
