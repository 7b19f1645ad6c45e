"""`hf:` sources: the hub's own protocol, without its library.

`/api/models/<repo>/revision/<rev>?blobs=true` gives the commit, the files with size and hash, the licence and whether
the files are gated. `/<repo>/resolve/<commit>/<file>` gives a file, mostly by a redirect to another host, which never
sees the token. Everything is pinned to the commit that the first answer names.
"""

import json
import re
from typing import Any
from urllib.parse import quote

from dayspring.core.errors import DayspringError, NotFound, PermissionDenied, Unavailable
from dayspring.core.settings import Settings
from dayspring.hub.choice import choose_files
from dayspring.hub.plan import Found, Licence, Part, PlannedFile, Remote
from dayspring.hub.sources.address import Address
from dayspring.net.fetcher import Fetcher, Request

__all__ = ["find_repository", "gated", "repository_of", "token_header"]


def token_header(settings: Settings) -> dict[str, str]:
    """The header that carries the operator's token, if there is one."""
    token = settings.hf_token.get_secret_value()
    return {"Authorization": f"Bearer {token}"} if token else {}


def gated(settings: Settings, repository: str) -> PermissionDenied:
    """What to do about files that their owner lets only some have."""
    page = f"{settings.hf_endpoint.rstrip('/')}/{repository}"
    if settings.hf_token.get_secret_value():
        return PermissionDenied(
            f"The token in DAYSPRING_HF_TOKEN has no access to {repository!r}",
            f"Accept its terms at {page} with the account that the token belongs to, then try again.",
        )
    return PermissionDenied(
        f"{repository!r} is gated, private or not there",
        f"Check the name; accept its terms at {page}, make a token that may read, and set DAYSPRING_HF_TOKEN.",
    )


def repository_of(url: str, settings: Settings) -> str:
    """`owner/name` in the address of one of its files."""
    return url.removeprefix(settings.hf_endpoint.rstrip("/")).partition("/resolve/")[0].strip("/")


async def find_repository(fetcher: Fetcher, settings: Settings, address: Address) -> Found:
    """The files of a repository that make the model. Raises PermissionDenied with the way in, NotFound, Refused."""
    fields = await _describe(fetcher, settings, address)
    commit = str(fields.get("sha", ""))
    if not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise Unavailable("The hub did not say which commit it means", "Check DAYSPRING_HF_ENDPOINT.")
    siblings = {str(entry.get("rfilename", "")): entry for entry in fields.get("siblings", [])}
    sizes = {name: _size(entry) for name, entry in siblings.items()}
    chosen, notes = choose_files(sizes, address.inside, address.name)
    files = []
    for name in chosen:
        large = siblings[name].get("lfs") or {}
        remote = Remote(
            f"{settings.hf_endpoint.rstrip('/')}/{address.name}/resolve/{commit}/{quote(name)}",
            sha256=_hexadecimal(large.get("sha256"), 64),
            size_bytes=sizes[name],
            operator=True,
            credentials="hf",
            expect_headers={"X-Repo-Commit": commit, **_linked(large)},
            git_oid="" if large else _hexadecimal(siblings[name].get("blobId"), 40),
        )
        files.append(
            PlannedFile(name, (Part(remote, sha256=remote.sha256, size_bytes=sizes[name]),), remote.sha256, sizes[name])
        )
    inside = f"#{address.inside}" if address.inside else ""
    if fields.get("gated"):
        notes.append("Its owner decides who may have it: the account behind the token must have been let in.")
    return Found(
        name=(address.inside.rsplit("/", 1)[-1].removesuffix(".gguf") or address.name.rsplit("/", 1)[-1]).lower(),
        pinned=f"hf:{address.name}@{commit}{inside}",
        files=tuple(files),
        licence=_licence(fields, f"{settings.hf_endpoint.rstrip('/')}/{address.name}/tree/{commit}"),
        warnings=tuple(notes),
        owned_by=address.name.split("/", 1)[0],
    )


async def _describe(fetcher: Fetcher, settings: Settings, address: Address) -> dict[str, Any]:
    revision = quote(address.revision or "main", safe="")
    url = f"{settings.hf_endpoint.rstrip('/')}/api/models/{address.name}/revision/{revision}?blobs=true"
    request = Request(url, {"Accept": "application/json"}, token_header(settings), operator=True)
    error: DayspringError
    try:
        async with fetcher.open(request) as answer:
            fields = json.loads(await answer.document())
    except PermissionDenied:
        raise gated(settings, address.name) from None
    except NotFound:
        remedy = "Check the owner, the name and the revision."
        raise NotFound("repository or revision", f"{address.name}@{address.revision or 'main'}", remedy) from None
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict) or not all(isinstance(entry, dict) for entry in fields.get("siblings", [])):
        error = Unavailable("The hub answered with what is no description of a model", "Check DAYSPRING_HF_ENDPOINT.")
        raise error
    return fields


def _size(entry: dict[str, Any]) -> int:
    large = entry.get("lfs") or {}
    size = large.get("size", entry.get("size"))
    return size if isinstance(size, int) and size >= 0 else 0


def _hexadecimal(value: object, length: int) -> str:
    return value if isinstance(value, str) and re.fullmatch(rf"[0-9a-f]{{{length}}}", value) else ""


def _linked(large: dict[str, Any]) -> dict[str, str]:
    sha256 = _hexadecimal(large.get("sha256"), 64)
    return {"X-Linked-Etag": sha256, "X-Linked-Size": str(large.get("size", ""))} if sha256 else {}


def _licence(fields: dict[str, Any], page: str) -> Licence:
    card = fields.get("cardData")
    card = card if isinstance(card, dict) else {}
    name = card.get("license")
    if isinstance(name, list):
        name = name[0] if len(name) == 1 else " AND ".join(str(part) for part in name)
    if name == "other":
        name = card.get("license_name") or "other"
    text = card.get("license_link") if isinstance(card.get("license_link"), str) else ""
    return Licence(str(name or ""), "model card" if name else "", f"{text or page}")
