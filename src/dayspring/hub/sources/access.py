"""Which secret goes with a file of a hub, and what to say when the hub does not let us have it.

What holds: a secret goes only to the place that the operator set for its hub; a file's address comes from a hub's
answer and may name any other.
"""

from urllib.parse import urlsplit

from dayspring.core.errors import PermissionDenied
from dayspring.core.settings import Settings
from dayspring.hub.plan import Remote
from dayspring.hub.sources import civitai_access, huggingface, modelscope_access
from dayspring.hub.sources.npm_config import npm_config
from dayspring.hub.sources.package_index import index_secret
from dayspring.hub.sources.pip_config import pip_config
from dayspring.net.locations import host_of

__all__ = ["asks_to_sign_in", "denied", "secret_headers"]


def secret_headers(settings: Settings, remote: Remote) -> dict[str, str]:
    """The header that the file's place asks for; nothing for a place that is not the hub's own."""
    if remote.credentials == "hf" and _same_place(remote.url, settings.hf_endpoint):
        return huggingface.token_header(settings)
    if remote.credentials == "modelscope" and _same_place(remote.url, settings.modelscope_endpoint):
        return modelscope_access.token_headers(settings)
    if remote.credentials == "civitai" and _same_place(remote.url, settings.civitai_endpoint):
        return civitai_access.token_header(settings)
    if remote.credentials == "npm":
        return npm_config(settings).secret_for(remote.url)
    if remote.credentials == "index":
        return index_secret(pip_config(settings.package_index), remote.url)
    return {}


def denied(settings: Settings, remote: Remote) -> PermissionDenied | None:
    """What to do about a file that its hub gives only to some; None where there is nothing better to say."""
    if remote.credentials == "hf":
        return huggingface.gated(settings, huggingface.repository_of(remote.url, settings))
    if remote.credentials == "modelscope":
        return modelscope_access.gated(settings, modelscope_access.repository_of(remote.url))
    if remote.credentials == "civitai":
        return civitai_access.gated(settings, civitai_access.version_of(remote.url))
    if remote.credentials == "npm":
        return PermissionDenied(
            f"{host_of(remote.url)} does not let us have the package",
            "Set DAYSPRING_NPM_TOKEN, or sign in with 'npm login' as the user who runs Dayspring.",
        )
    return None


def asks_to_sign_in(remote: Remote, answered_by: str) -> bool:
    """Whether the answer is a sign-in page in place of the file, which is how Civitai says that a token is missing."""
    return remote.credentials == "civitai" and urlsplit(answered_by).path.startswith("/login")


def _same_place(url: str, endpoint: str) -> bool:
    """Whether scheme, host and port are the endpoint's: a secret for one is nothing for another."""
    one, other = urlsplit(url), urlsplit(endpoint)
    return (one.scheme, one.hostname, one.port) == (other.scheme, other.hostname, other.port)
