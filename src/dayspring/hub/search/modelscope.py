"""Searching ModelScope: `/openapi/v1/models?search=`, most downloaded first."""

from typing import Any
from urllib.parse import urlencode

from dayspring.core.settings import Settings
from dayspring.hub.licences import spdx_id
from dayspring.hub.plan import Licence
from dayspring.hub.search.asking import ask, formats_of
from dayspring.hub.search.values import HubName, Seen, fields, listed, natural, text
from dayspring.hub.sources.modelscope_access import token_headers
from dayspring.net.fetcher import Fetcher

__all__ = ["search_modelscope"]


async def search_modelscope(fetcher: Fetcher, settings: Settings, words: str, limit: int) -> list[Seen]:
    query = urlencode({"search": words, "sort": "downloads", "page_number": 1, "page_size": limit})
    endpoint = settings.modelscope_endpoint.rstrip("/")
    answer = await ask(fetcher, f"{endpoint}/openapi/v1/models?{query}", token_headers(settings), "ModelScope")
    entries = listed(fields(fields(answer).get("data")).get("models"))
    return [_seen(entry, endpoint) for entry in entries if "/" in text(fields(entry).get("id"))]


def _seen(entry: dict[str, Any], endpoint: str) -> Seen:
    name = text(entry["id"])
    tags = [text(tag) for tag in listed(entry.get("tags"))]
    tasks = listed(entry.get("tasks"))
    licence = text(entry.get("license"))
    page = f"{endpoint}/models/{name}"
    return Seen(
        HubName.MODELSCOPE,
        name,
        f"modelscope:{name}",
        page,
        formats_of([name], tags),
        Licence(spdx_id(licence), "model card" if licence else "", page),
        natural(entry.get("file_size")),
        natural(entry.get("params")),
        bool(entry.get("gated") or entry.get("private")),
        natural(entry.get("downloads")),
        text(tasks[0]) if tasks else "",
    )
