"""Getting in at Civitai: the operator's API key, and what to do where it is missing or not enough."""

import re

from dayspring.core.errors import PermissionDenied
from dayspring.core.settings import Settings

__all__ = ["gated", "token_header", "version_of"]


def token_header(settings: Settings) -> dict[str, str]:
    """The header that carries the operator's key, if there is one. Never in the address, where logs would keep it."""
    token = settings.civitai_token.get_secret_value()
    return {"Authorization": f"Bearer {token}"} if token else {}


def version_of(url: str) -> str:
    """The version's id in the address of one of its files."""
    found = re.search(r"/api/download/models/(\d+)", url)
    return found[1] if found else ""


def gated(settings: Settings, version: str) -> PermissionDenied:
    """What to do about a file that its owner gives only to people who signed in, or who paid for early access."""
    page = f"{settings.civitai_endpoint.rstrip('/')}/model-versions/{version}"
    if settings.civitai_token.get_secret_value():
        return PermissionDenied(
            f"The key in DAYSPRING_CIVITAI_TOKEN has no access to version {version!r}",
            f"Open {page} with the account that the key belongs to: early access may have to be bought there.",
        )
    return PermissionDenied(
        f"The owner of version {version!r} wants people signed in to download it",
        f"Read the terms at {page}, make an API key in your account's settings, and set DAYSPRING_CIVITAI_TOKEN.",
    )
