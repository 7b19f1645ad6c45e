"""Searching Civitai: `/api/v1/models?query=`, most downloaded first; of each model its newest version.

Models marked unsafe for work are left out of a search; their numbers can still be named.
"""

from typing import Any
from urllib.parse import urlencode

from dayspring.core.settings import Settings
from dayspring.hub.search.asking import ask, formats_of
from dayspring.hub.search.values import HubName, Seen, fields, listed, natural, text
from dayspring.hub.sources.civitai_access import token_header
from dayspring.hub.sources.civitai_permissions import licence_of
from dayspring.net.fetcher import Fetcher

__all__ = ["search_civitai"]


async def search_civitai(fetcher: Fetcher, settings: Settings, words: str, limit: int) -> list[Seen]:
    query = urlencode({"query": words, "limit": limit, "sort": "Most Downloaded", "nsfw": "false"})
    endpoint = settings.civitai_endpoint.rstrip("/")
    answer = await ask(fetcher, f"{endpoint}/api/v1/models?{query}", token_header(settings), "Civitai")
    entries = listed(fields(answer).get("items"))
    return [seen for entry in entries if (seen := _seen(fields(entry), endpoint)) is not None]


def _seen(entry: dict[str, Any], endpoint: str) -> Seen | None:
    version = fields(next(iter(listed(entry.get("modelVersions"))), None))
    if not natural(version.get("id")):
        return None
    files = [fields(each) for each in listed(version.get("files"))]
    primary = next((each for each in files if each.get("primary")), files[0] if files else {})
    tags = ["pickle"] if fields(primary.get("metadata")).get("format") == "PickleTensor" else []
    number, model = natural(version["id"]), natural(entry.get("id"))
    page = f"{endpoint}/models/{model}?modelVersionId={number}"
    early = version.get("availability") == "EarlyAccess" or bool(version.get("earlyAccessEndsAt"))
    return Seen(
        HubName.CIVITAI,
        f"{text(entry.get('name'))} {text(version.get('name'))}".strip(),
        f"civitai:{number}",
        page,
        formats_of([text(primary.get("name"), 512)], tags),
        licence_of({**entry, "baseModel": version.get("baseModel")}, page),
        round(natural(primary.get("sizeKB")) * 1024),
        0,
        early,
        natural(fields(entry.get("stats")).get("downloadCount")),
        text(entry.get("type")),
    )
