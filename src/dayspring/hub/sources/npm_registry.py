"""`npm:` sources: a file, or a folder, of a package on the registry that npm is configured with.

The tarball is fetched whole and held to the SHA-512 of the registry's `dist.integrity`; it is never installed and none
of it is run. The registry is asked as npm asks it: `/<package>/<version>`, and `/<package>` for the versions there are.
"""

import asyncio
import base64
import json
import re
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from dayspring.core.errors import DayspringError, NotFound, PermissionDenied, Refused, Unavailable
from dayspring.core.settings import Settings
from dayspring.hub.plan import Licence, Remote
from dayspring.hub.sources.npm_config import NpmConfig, npm_config
from dayspring.net.fetcher import Fetcher, Request
from dayspring.net.locations import host_of

__all__ = ["Tarball", "find_tarball"]

_CHECK = "Check the registry that npm is configured with, or DAYSPRING_NPM_REGISTRY."


class Tarball(msgspec.Struct, frozen=True):
    """One version of a package, as the registry describes it."""

    origin: Remote
    unpacked_bytes: int
    """Of all its files; 0 when the registry does not say."""
    licence: Licence
    warnings: tuple[str, ...] = ()


async def find_tarball(fetcher: Fetcher, settings: Settings, package: str, version: str) -> Tarball:
    """Raises NotFound naming the versions there are, Refused for a registry without encryption, PermissionDenied."""
    config = await asyncio.to_thread(npm_config, settings)
    registry = await asyncio.to_thread(config.registry, package)
    _check_registry(registry)
    if config.certificates:
        fetcher.trust_certificates(config.certificates)
    fields, private = await _describe(fetcher, config, registry, package, version)
    dist = fields.get("dist")
    if fields.get("version") != version or not isinstance(dist, dict) or not isinstance(dist.get("tarball"), str):
        raise Unavailable(f"{host_of(registry)} answered with what is no version of a package", _CHECK)
    sha512 = _sha512(dist.get("integrity"))
    unpacked = dist.get("unpackedSize")
    licence = fields.get("license")
    licence = licence.get("type") if isinstance(licence, dict) else licence
    warnings = []
    if not sha512:
        warnings.append("The registry gives no SHA-512 for the package: it is taken as it comes, its hash is recorded.")
    if fields.get("deprecated"):
        warnings.append("Its owner calls this version deprecated.")
    page = str(fields.get("homepage") or f"{registry}/{package}")[:500]
    return Tarball(
        Remote(str(dist["tarball"]), operator=private, credentials="npm", sha512=sha512),
        unpacked if isinstance(unpacked, int) and unpacked > 0 else 0,
        Licence(str(licence or ""), "package" if licence else "", page),
        tuple(warnings),
    )


async def _describe(
    fetcher: Fetcher, config: NpmConfig, registry: str, package: str, version: str
) -> tuple[dict[str, Any], bool]:
    """The version's fields, and whether the registry is in a private network."""
    name = quote(package, safe="@")
    try:
        return await _ask(fetcher, config, f"{registry}/{name}/{quote(version, safe='')}")
    except (NotFound, Unavailable):
        # Some mirrors only serve whole packages; and of a missing version the whole one tells which there are.
        try:
            fields, private = await _ask(fetcher, config, f"{registry}/{name}")
        except NotFound:
            raise NotFound("npm package", package, "Check the name and the registry.") from None
    versions = fields.get("versions")
    versions = versions if isinstance(versions, dict) else {}
    if version not in versions:
        known = ", ".join(list(versions)[-12:]) or "none"
        raise NotFound("version", f"{package}@{version}", f"The newest there are: {known}.")
    found = versions[version]
    return (found if isinstance(found, dict) else {}), private


async def _ask(fetcher: Fetcher, config: NpmConfig, url: str) -> tuple[dict[str, Any], bool]:
    request = Request(url, {"Accept": "application/json"}, config.secret_for(url), operator=True)
    error: DayspringError
    try:
        async with fetcher.open(request) as answer:
            fields, private = json.loads(await answer.document()), answer.private
    except PermissionDenied:
        error = PermissionDenied(
            f"{host_of(url)} does not let us have the package",
            "Set DAYSPRING_NPM_TOKEN, or sign in with 'npm login' as the user who runs Dayspring.",
        )
        raise error from None
    except (ValueError, RecursionError):
        fields, private = None, False
    if not isinstance(fields, dict):
        error = Unavailable(f"{host_of(url)} answered with what is no description of a package", _CHECK)
        raise error
    return fields, private


def _check_registry(registry: str) -> None:
    parts = urlsplit(registry)
    local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if parts.username or parts.password or not parts.hostname:
        raise Refused(
            file=parts.hostname or "the npm registry",
            rule="its address has a name or password in it, or no host",
            remedy="Put the secret in DAYSPRING_NPM_TOKEN or in npm's own file.",
        )
    if parts.scheme != "https" and not local:
        raise Refused(
            file=parts.hostname, rule="the npm registry is asked without encryption", remedy="Use its https:// address."
        )


def _sha512(integrity: object) -> str:
    """The SHA-512 of a subresource-integrity text, in hexadecimal; empty when it has none."""
    for part in str(integrity or "").split():
        if match := re.fullmatch(r"sha512-([A-Za-z0-9+/]{86}==)(\?.*)?", part):
            return base64.b64decode(match[1]).hex()
    return ""
