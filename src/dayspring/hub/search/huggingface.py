"""Searching Hugging Face: `/api/models?search=`, most downloaded first."""

from typing import Any
from urllib.parse import urlencode

from dayspring.core.settings import Settings
from dayspring.hub.licences import spdx_id
from dayspring.hub.plan import Licence
from dayspring.hub.search.asking import ask, formats_of
from dayspring.hub.search.values import HubName, Seen, fields, listed, natural, text
from dayspring.hub.sources.huggingface import token_header
from dayspring.net.fetcher import Fetcher

__all__ = ["search_huggingface"]

_FIELDS = ("downloads", "gated", "tags", "siblings", "safetensors", "gguf", "pipeline_tag", "cardData")
_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2}
"""Of one parameter by its type; others take one."""


async def search_huggingface(fetcher: Fetcher, settings: Settings, words: str, limit: int) -> list[Seen]:
    query: list[tuple[str, str]] = [("search", words), ("limit", str(limit)), ("sort", "downloads")]
    query += [("direction", "-1"), *(("expand[]", field) for field in _FIELDS)]
    endpoint = settings.hf_endpoint.rstrip("/")
    answer = await ask(fetcher, f"{endpoint}/api/models?{urlencode(query)}", token_header(settings), "Hugging Face")
    return [_seen(entry, endpoint) for entry in listed(answer) if "/" in text(fields(entry).get("id"))]


def _seen(entry: dict[str, Any], endpoint: str) -> Seen:
    name = text(entry["id"])
    tags = [text(tag) for tag in listed(entry.get("tags"))]
    files = [text(fields(each).get("rfilename"), 512) for each in listed(entry.get("siblings"))]
    formats = formats_of(files, tags)
    counts = fields(fields(entry.get("safetensors")).get("parameters"))
    by_type = {text(kind): natural(count) for kind, count in counts.items()}
    parameters = sum(by_type.values()) or natural(fields(entry.get("gguf")).get("total"))
    size = sum(_BYTES.get(kind, 1) * count for kind, count in by_type.items()) if "gguf" not in formats else 0
    return Seen(
        HubName.HF,
        name,
        f"hf:{name}",
        f"{endpoint}/{name}",
        formats,
        _licence(entry, tags, f"{endpoint}/{name}"),
        size,
        parameters,
        bool(entry.get("gated")),
        natural(entry.get("downloads")),
        text(entry.get("pipeline_tag")),
    )


def _licence(entry: dict[str, Any], tags: list[str], page: str) -> Licence:
    card = fields(entry.get("cardData"))
    name = card.get("license_name") if card.get("license") == "other" else ""
    name = name or next((tag.removeprefix("license:") for tag in tags if tag.startswith("license:")), "")
    return Licence(spdx_id(text(name)), "model card" if name else "", page)
