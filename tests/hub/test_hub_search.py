"""Searching: each hub's answer read, terms and fit judged, and one that fails hides none of the others."""

import json
from typing import Any

import msgspec
import pytest
from aiohttp import web
from hub_files import gguf
from hub_kit import MakeHub
from hypothesis import given
from hypothesis import strategies as st

from dayspring.core.errors import InvalidRequest
from dayspring.hub.search import civitai, huggingface, modelscope
from dayspring.hub.search.values import Hit
from dayspring.hub.service import Hub
from loopback import Serve

HF: list[dict[str, Any]] = [
    {
        "id": "owner/Chat-GGUF",
        "downloads": 900,
        "gated": False,
        "tags": ["gguf", "license:apache-2.0"],
        "siblings": [{"rfilename": "a-Q4.gguf"}, {"rfilename": "a-Q8.gguf"}],
        "gguf": {"total": 100_000_000, "architecture": "llama"},
        "pipeline_tag": "text-generation",
    },
    {
        "id": "owner/huge",
        "downloads": 800,
        "gated": "manual",
        "tags": ["license:other"],
        "cardData": {"license": "other", "license_name": "house-non-commercial"},
        "siblings": [{"rfilename": "m.gguf"}],
        "gguf": {"total": 10**15},
    },
    {"id": "owner/diffusion", "downloads": 7, "siblings": [{"rfilename": "u.safetensors"}, {"rfilename": "u.ckpt"}]},
]
MODELSCOPE = [
    {"id": "Qwen/Small-GGUF", "license": "Apache License 2.0", "downloads": 50, "tasks": ["text-generation"]},
    {"id": "x/plain", "license": "", "downloads": 3, "tasks": None, "gated": True},
]
CIVITAI = [
    {
        "id": 7,
        "name": "Fine \x1b[31mModel",
        "type": "LORA",
        "allowCommercialUse": ["Image"],
        "stats": {"downloadCount": 12},
        "modelVersions": [
            {
                "id": 42,
                "name": "v2",
                "baseModel": "SDXL 1.0",
                "availability": "EarlyAccess",
                "files": [{"name": "x.safetensors", "sizeKB": 2048.0, "primary": True, "metadata": {}}],
            }
        ],
    },
    {"id": 8, "name": "empty", "modelVersions": []},
]

KEYS = [
    "tags", "siblings", "rfilename", "safetensors", "parameters", "gguf", "total", "cardData", "license",
    "license_name",
    "downloads", "gated", "pipeline_tag", "tasks", "file_size", "params", "modelVersions", "files", "id", "name",
    "sizeKB", "metadata", "format", "primary", "stats", "downloadCount", "allowCommercialUse", "baseModel", "F16",
]  # fmt: skip


@pytest.fixture
async def hubs(make_hub: MakeHub, serve: Serve) -> Hub:
    """A hub whose three endpoints are one stand-in that knows each one's search."""

    async def hf(request: web.Request) -> web.Response:
        assert request.query["search"] == "small chat"
        assert request.query.getall("expand[]")
        assert (request.query["sort"], request.query["limit"]) == ("downloads", "10")
        return web.json_response(HF)

    async def modelscope(request: web.Request) -> web.Response:
        assert (request.query["search"], request.query["page_size"]) == ("small chat", "10")
        return web.json_response({"success": True, "data": {"models": MODELSCOPE, "total_count": 2}})

    async def civitai(request: web.Request) -> web.Response:
        assert (request.query["query"], request.query["nsfw"]) == ("small chat", "false")
        return web.json_response({"items": CIVITAI, "metadata": {}})

    app = web.Application()
    app.router.add_get("/api/models", hf)
    app.router.add_get("/openapi/v1/models", modelscope)
    app.router.add_get("/api/v1/models", civitai)
    url = await serve(app)
    return make_hub(hf_endpoint=url, modelscope_endpoint=url, civitai_endpoint=url, memory_bytes=1 << 30)


async def test_every_hub_is_asked_and_each_hit_can_be_added_and_judged(hubs: Hub) -> None:
    found = await hubs.search("  small   chat ", limit=10)
    assert found.failures == {}
    assert [hit.source for hit in found.hits] == [
        "hf:owner/Chat-GGUF", "modelscope:Qwen/Small-GGUF", "civitai:42", "hf:owner/huge", "modelscope:x/plain",
        "hf:owner/diffusion",
    ]  # fmt: skip
    by: dict[str, Hit] = {hit.source: hit for hit in found.hits}
    chat = by["hf:owner/Chat-GGUF"]
    assert (chat.licence, chat.commercial_use.verdict, chat.format, chat.fits.verdict) == (
        "Apache-2.0", "yes", "gguf", "yes",
    )  # fmt: skip
    huge = by["hf:owner/huge"]
    assert (huge.gated, huge.commercial_use.verdict, huge.fits.verdict) == (True, "no", "no")
    diffusion = by["hf:owner/diffusion"]
    assert (diffusion.formats, diffusion.commercial_use.verdict, diffusion.fits.verdict) == (
        ("safetensors",), "unknown", "no",
    )  # fmt: skip
    scope = by["modelscope:Qwen/Small-GGUF"]
    assert (scope.licence, scope.format, scope.fits.verdict) == ("Apache-2.0", "gguf", "unknown")
    civitai = by["civitai:42"]
    assert (civitai.size_bytes, civitai.gated, civitai.commercial_use.verdict) == (2 << 20, True, "no")
    assert civitai.name == "Fine [31mModel v2", "no control character reaches a terminal"


async def test_one_hub_alone_and_a_limit(hubs: Hub) -> None:
    found = await hubs.search("small chat", ["hf"], limit=10)
    assert {hit.hub for hit in found.hits} == {"hf"}
    assert len((await hubs.search("small chat", ["hf", "hf"], 10)).hits) == 3


async def test_a_model_that_is_here_is_marked(make_hub: MakeHub, serve: Serve, tmp_path: Any) -> None:
    async def hf(_: web.Request) -> web.Response:
        return web.json_response(HF)

    app = web.Application()
    app.router.add_get("/api/models", hf)
    hub = make_hub(hf_endpoint=await serve(app))
    (tmp_path / "m.gguf").write_bytes(gguf())
    plan = await hub.plan(f"file:{tmp_path / 'm.gguf'}")
    await hub.add(msgspec.structs.replace(plan, source="hf:owner/huge", pinned="hf:owner/huge@" + "c" * 40))
    found = await hub.search("x", ["hf"])
    assert [hit.here for hit in found.hits] == [False, True, False]


@pytest.mark.parametrize(
    "body", [b"", b"null", b"{}", b"[3]", b"[" * 99_999, json.dumps([{"id": 3}, {"id": "a/b", "tags": 3}]).encode()]
)
async def test_nonsense_from_a_hub_is_no_hit_and_no_crash(make_hub: MakeHub, serve: Serve, body: bytes) -> None:
    async def say(_: web.Request) -> web.Response:
        return web.Response(body=body)

    app = web.Application()
    app.router.add_get("/{path:.*}", say)
    url = await serve(app)
    hub = make_hub(hf_endpoint=url, modelscope_endpoint=url, civitai_endpoint=url)
    found = await hub.search("x")
    assert all(hit.source.startswith("hf:a/b") for hit in found.hits)


async def test_a_hub_that_fails_is_named_and_the_others_answer(make_hub: MakeHub, serve: Serve) -> None:
    async def hf(_: web.Request) -> web.Response:
        return web.json_response(HF)

    async def no(_: web.Request) -> web.Response:
        return web.Response(status=403)

    app = web.Application()
    app.router.add_get("/api/models", hf)
    app.router.add_get("/api/v1/models", no)
    url = await serve(app)
    hub = make_hub(hf_endpoint=url, modelscope_endpoint=url, civitai_endpoint=url)
    found = await hub.search("x")
    assert len(found.hits) == 3
    assert "no search" in found.failures["modelscope"]
    assert "token" in found.failures["civitai"]


@pytest.mark.parametrize("words", ["", "  ", "x" * 201, "a\x00b"])
async def test_no_words_are_refused(make_hub: MakeHub, words: str) -> None:
    with pytest.raises(InvalidRequest, match="what to search for"):
        await make_hub().search(words)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=25,
)


@given(ANYTHING)
def test_whatever_an_entry_holds_it_is_read_or_left_out(entry: Any) -> None:
    fields = entry if isinstance(entry, dict) else {}
    for seen in (
        huggingface._seen({**fields, "id": "a/b"}, "https://hub.example"),
        modelscope._seen({**fields, "id": "a/b"}, "https://hub.example"),
        civitai._seen(fields, "https://hub.example"),
    ):
        if seen is not None:
            assert seen.source.partition(":")[0] == seen.hub
            assert min(seen.size_bytes, seen.parameters, seen.downloads) >= 0
            msgspec.json.encode(seen)
