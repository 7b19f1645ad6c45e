"""`civitai:` sources: one version of a community model, by the site's public interface (version 1).

`/api/v1/model-versions/<id>` gives its files with hashes and scan results, `/api/v1/models/<id>` what its owner
permits, `/api/download/models/<id>` a file, by a redirect to another host, which never sees the key.
What holds: names in an answer are never used as paths unchecked; a file is fetched from the operator's endpoint,
whatever address the answer gives; what the site's scanners call dangerous, and a pickle, is refused.
"""

import json
import re
from typing import Any
from urllib.parse import urlsplit

from dayspring.core.errors import DayspringError, InvalidRequest, NotFound, PermissionDenied, Refused, Unavailable
from dayspring.core.settings import Settings
from dayspring.hub.formats.names import check_name
from dayspring.hub.formats.pickles import REMEDY
from dayspring.hub.plan import Found, Part, PlannedFile, Remote
from dayspring.hub.sources.address import Address
from dayspring.hub.sources.civitai_access import gated, token_header
from dayspring.hub.sources.civitai_permissions import licence_of
from dayspring.net.fetcher import Fetcher, Request

__all__ = ["find_on_civitai"]

_CHECK = "Check DAYSPRING_CIVITAI_ENDPOINT."
_MODEL_FILES = ("Model", "Pruned Model")
_PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl", ".pickle")


async def find_on_civitai(fetcher: Fetcher, settings: Settings, address: Address) -> Found:
    """The one file of a version that is the model. Raises PermissionDenied with the way in, NotFound, Refused."""
    version = await _version(fetcher, settings, address.name)
    number, model_id = _number(version.get("id")), _number(version.get("modelId"))
    about = version.get("model")
    about = about if isinstance(about, dict) else {}
    control = version.get("usageControl") or "Download"
    if control != "Download":
        raise Refused(
            file=f"civitai:{number}",
            rule="its owner lets it be used on the site only",
            remedy="Ask the owner, or choose another model.",
        )
    entry = _choose(version, address.inside, number)
    name = check_name(str(entry.get("name", "")).rsplit("/", 1)[-1], where=f"civitai:{number}")
    notes = _scanned(entry, name)
    if version.get("earlyAccessEndsAt"):
        notes.append("It is in early access: the account behind the key must have bought it.")
    remote = _remote(settings, entry, number, name)
    model = await _model(fetcher, settings, model_id)
    creator = model.get("creator")
    page = f"{settings.civitai_endpoint.rstrip('/')}/models/{model_id}?modelVersionId={number}"
    part = Part(remote, sha256=remote.sha256, size_bytes=remote.size_bytes)
    if not remote.sha256:
        notes.append("The site gives no SHA-256 for it yet: it is taken as it comes, and its hash is recorded.")
    words = version.get("trainedWords")
    told = {
        "base_model": _text(version.get("baseModel")),
        "trained_words": [_text(word) for word in words[:50]] if isinstance(words, list) else [],
        "civitai_type": _text(about.get("type")),
        "civitai_model": model_id,
    }
    return Found(
        name=name.rpartition(".")[0].lower() or name.lower(),
        pinned=f"civitai:{number}" + (f"#{address.inside}" if address.inside else ""),
        files=(PlannedFile(name, (part,), remote.sha256, remote.size_bytes),),
        licence=licence_of({**model, "baseModel": version.get("baseModel")}, page),
        warnings=tuple(notes),
        owned_by=_text(creator.get("username")) if isinstance(creator, dict) else "",
        about={key: value for key, value in told.items() if value},
    )


def _choose(version: dict[str, Any], wanted: str, number: int) -> dict[str, Any]:
    """The file named, or the primary one that is no pickle."""
    listed = version.get("files")
    files = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    if not files:
        raise NotFound("file of version", str(number), "Its owner has archived it: choose another version.")
    names = [str(entry.get("name", "")) for entry in files]
    if wanted:
        if wanted not in names:
            raise InvalidRequest(f"Version {number} has no {wanted!r}. It has: {', '.join(names[:12])}.")
        return files[names.index(wanted)]
    models = [entry for entry in files if str(entry.get("type", "Model")) in _MODEL_FILES]
    plain = [entry for entry in models if not _is_pickle(entry)]
    if models and not plain:
        where = f"civitai:{number}: {models[0].get('name')}"
        raise Refused(file=where, rule="its weights are there as a pickle only", remedy=REMEDY)
    if not plain:
        raise InvalidRequest(f"Version {number} has no model file. Name one after '#': {', '.join(names[:12])}.")
    return next((entry for entry in plain if entry.get("primary")), plain[0])


def _is_pickle(entry: dict[str, Any]) -> bool:
    metadata = entry.get("metadata")
    told = metadata.get("format") if isinstance(metadata, dict) else ""
    return told == "PickleTensor" or str(entry.get("name", "")).lower().endswith(_PICKLES)


def _scanned(entry: dict[str, Any], name: str) -> list[str]:
    """What the site's scanners say. Raises Refused for danger. Their good word replaces none of our own checks."""
    results = {str(entry.get("pickleScanResult")), str(entry.get("virusScanResult"))}
    if "Danger" in results:
        raise Refused(file=name, rule="the site's scanners call it dangerous", remedy="Choose another file.")
    if _is_pickle(entry):
        raise Refused(file=name, rule="it is a pickle", remedy=REMEDY)
    return [] if results <= {"Success"} else ["The site's scanners have not passed it yet; it is checked here too."]


def _remote(settings: Settings, entry: dict[str, Any], number: int, name: str) -> Remote:
    hashes = entry.get("hashes")
    hashes = hashes if isinstance(hashes, dict) else {}
    sha256 = str(hashes.get("SHA256", "")).lower()
    sha256 = sha256 if re.fullmatch(r"[0-9a-f]{64}", sha256) else ""
    short = str(hashes.get("AutoV2", "")).lower()
    if sha256 and short and not sha256.startswith(short):
        raise Refused(file=name, rule="the site gives two hashes that contradict each other", remedy="Choose another.")
    # Only the path and the query of its address are taken: the host is the operator's endpoint.
    place = urlsplit(str(entry.get("downloadUrl", "")))
    path = place.path if re.fullmatch(r"/api/download/models/\d+", place.path) else f"/api/download/models/{number}"
    query = f"?{place.query}" if re.fullmatch(r"[\w=&%.+-]+", place.query, re.ASCII) else ""
    kibibytes = entry.get("sizeKB")
    size = round(kibibytes * 1024) if isinstance(kibibytes, int | float) and 0 < kibibytes < 1 << 40 else 0
    url = f"{settings.civitai_endpoint.rstrip('/')}{path}{query}"
    return Remote(url, sha256, size, operator=True, credentials="civitai")


async def _version(fetcher: Fetcher, settings: Settings, name: str) -> dict[str, Any]:
    """A version by its id, or the newest of a model."""
    if name.startswith("models/"):
        model = await _ask(fetcher, settings, f"/api/v1/{name}", name)
        listed = model.get("modelVersions")
        versions = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
        if not versions:
            raise NotFound("version of the Civitai model", name.removeprefix("models/"), "Choose another model.")
        name = str(_number(versions[0].get("id")))
    version = await _ask(fetcher, settings, f"/api/v1/model-versions/{name}", name)
    if not _number(version.get("id")):
        raise Unavailable("Civitai answered with what is no version of a model", _CHECK)
    return version


async def _model(fetcher: Fetcher, settings: Settings, model_id: int) -> dict[str, Any]:
    """What the version's model says; nothing where it cannot be had, and then nothing is taken to be permitted."""
    try:
        return await _ask(fetcher, settings, f"/api/v1/models/{model_id}", str(model_id)) if model_id else {}
    except NotFound:
        return {}


async def _ask(fetcher: Fetcher, settings: Settings, path: str, name: str) -> dict[str, Any]:
    url = settings.civitai_endpoint.rstrip("/") + path
    request = Request(url, {"Accept": "application/json"}, token_header(settings), operator=True)
    error: DayspringError
    try:
        async with fetcher.open(request) as answer:
            fields = json.loads(await answer.document())
    except PermissionDenied:
        raise gated(settings, name) from None
    except NotFound:
        error = NotFound("Civitai model or version", name, "Check the number: it is the version's, not the model's.")
        raise error from None
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        error = Unavailable("Civitai answered with what is no description of a model", _CHECK)
        raise error
    return fields


def _number(value: object) -> int:
    return value if isinstance(value, int) and 0 < value < 1 << 60 else 0


def _text(value: object) -> str:
    return value[:200] if isinstance(value, str) else ""
