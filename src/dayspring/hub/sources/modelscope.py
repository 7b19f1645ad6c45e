"""`modelscope:` sources: the hub's own protocol, without its library.

`/openapi/v1/models/<repo>` describes a model (licence, gated), and on older installations `/api/v1/models/<repo>` does.
`/api/v1/models/<repo>/repo/files?Revision=&Recursive=true` lists its files with size and SHA-256, and
`/api/v1/models/<repo>/repo?Revision=&FilePath=` gives one, mostly by a redirect to another host, which never sees the
token. The list names no commit that files can be had of, so each file is held to the SHA-256 of the list instead.
"""

import json
import re
from typing import Any
from urllib.parse import quote

from dayspring.core.errors import DayspringError, NotFound, PermissionDenied, Refused, Unavailable
from dayspring.core.settings import Settings
from dayspring.hub.choice import choose_files
from dayspring.hub.plan import Found, Licence, Part, PlannedFile, Remote
from dayspring.hub.sources.address import Address
from dayspring.hub.sources.modelscope_access import gated, token_headers
from dayspring.net.fetcher import Fetcher, Request

__all__ = ["find_on_modelscope", "licence_of"]

_BRANCH = "master"
_CHECK = "Check DAYSPRING_MODELSCOPE_ENDPOINT."


async def find_on_modelscope(fetcher: Fetcher, settings: Settings, address: Address) -> Found:
    """The files of a repository that make the model. Raises PermissionDenied with the way in, NotFound, Refused."""
    endpoint = settings.modelscope_endpoint.rstrip("/")
    revision = address.revision or _BRANCH
    listed = await _files(fetcher, settings, address.name, revision)
    model = await _describe(fetcher, settings, address.name)
    entries = {str(entry.get("Path", "")): entry for entry in listed if entry.get("Type") != "tree"}
    sizes = {name: _natural(entry.get("Size")) for name, entry in entries.items()}
    chosen, notes = choose_files(sizes, address.inside, address.name)
    files = []
    for name in chosen:
        sha256 = str(entries[name].get("Sha256", "")).lower()
        if not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise Refused(
                file=f"{address.name}: {name}",
                rule="the hub gives no hash for it",
                remedy="Fetch it yourself, and add it as file:/path.",
            )
        query = f"Revision={quote(revision, safe='')}&FilePath={quote(name, safe='')}"
        url = f"{endpoint}/api/v1/models/{address.name}/repo?{query}"
        remote = Remote(url, sha256, sizes[name], operator=True, credentials="modelscope")
        files.append(PlannedFile(name, (Part(remote, sha256=sha256, size_bytes=sizes[name]),), sha256, sizes[name]))
    if model.get("gated") or model.get("private"):
        notes.append("Its owner decides who may have it: the account behind the token must have been let in.")
    inside = f"#{address.inside}" if address.inside else ""
    return Found(
        name=(address.inside.rsplit("/", 1)[-1].removesuffix(".gguf") or address.name.rsplit("/", 1)[-1]).lower(),
        pinned=f"modelscope:{address.name}@{revision}{inside}",
        files=tuple(files),
        licence=licence_of(model, f"{endpoint}/models/{address.name}"),
        warnings=tuple(notes),
        owned_by=address.name.split("/", 1)[0],
    )


def licence_of(model: dict[str, Any], page: str) -> Licence:
    """From a description, whichever of the two interfaces gave it."""
    name = model.get("license") or model.get("License")
    if isinstance(name, list):
        name = " AND ".join(str(part) for part in name)
    return Licence(str(name or ""), "model card" if name else "", page)


async def _files(fetcher: Fetcher, settings: Settings, repository: str, revision: str) -> list[dict[str, Any]]:
    path = f"/api/v1/models/{repository}/repo/files?Revision={quote(revision, safe='')}&Recursive=true"
    fields = await _ask(fetcher, settings, repository, path)
    data = fields.get("Data") or fields.get("data")
    files = data.get("Files") if isinstance(data, dict) else None
    if not isinstance(files, list) or not all(isinstance(entry, dict) for entry in files):
        raise Unavailable("ModelScope answered with what is no list of files", _CHECK)
    return files


async def _describe(fetcher: Fetcher, settings: Settings, repository: str) -> dict[str, Any]:
    try:
        fields = await _ask(fetcher, settings, repository, f"/openapi/v1/models/{repository}")
    except NotFound:
        fields = await _ask(fetcher, settings, repository, f"/api/v1/models/{repository}")
    data = fields.get("data") or fields.get("Data")
    return data if isinstance(data, dict) else {}


async def _ask(fetcher: Fetcher, settings: Settings, repository: str, path: str) -> dict[str, Any]:
    url = settings.modelscope_endpoint.rstrip("/") + path
    request = Request(url, {"Accept": "application/json"}, token_headers(settings), operator=True)
    error: DayspringError
    try:
        async with fetcher.open(request) as answer:
            fields = json.loads(await answer.document())
    except PermissionDenied:
        raise gated(settings, repository) from None
    except NotFound:
        error = NotFound("repository or revision", repository, "Check the owner, the name and the revision.")
        raise error from None
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        error = Unavailable("ModelScope answered with what is no JSON object", _CHECK)
        raise error
    # Errors come with status 200, too, and their number in the body.
    code = fields.get("Code", 200)
    if code in (401, 403, 10010205001):
        raise gated(settings, repository)
    if fields.get("Success", fields.get("success", True)) is False or code not in (200, "200"):
        raise NotFound("repository or revision", repository, "Check the owner, the name and the revision.")
    return fields


def _natural(value: object) -> int:
    return value if isinstance(value, int) and value >= 0 else 0
