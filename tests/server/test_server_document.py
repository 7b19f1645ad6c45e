"""The OpenAPI document says everything, and every answer is what it says."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest
from fastapi.routing import APIRoute
from server_house import CHAT, HELLO, Served, api_routes, served

from dayspring.server import reference

Operation = tuple[str, str, dict[str, Any]]


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    async def read() -> dict[str, Any]:
        async with served(tmp_path_factory.mktemp("document")) as house:
            return (await house.ask("GET", "/openapi.json", key="")).json

    return asyncio.run(read())


def operations(document: dict[str, Any]) -> Iterator[Operation]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def refs(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for value in part.values():
            yield from refs(value)
    elif isinstance(part, list):
        for value in part:
            yield from refs(value)


async def test_every_route_is_in_the_document(document: dict[str, Any], tmp_path: Path) -> None:
    async with served(tmp_path) as house:
        routes = [route for route in house.app.routes if isinstance(route, APIRoute) and route.path.startswith("/v1")]
        included = {(method, route.path) for route in api_routes(house.app.routes) for method in route.methods}
    written = {(method, path) for method, path, _ in operations(document)}
    hidden = {("GET", "/"), ("GET", "/docs")}
    assert {(method, path.replace(":path}", "}")) for method, path in included - hidden} == written
    assert len(written) >= 14
    assert routes or included


_SIGNS_IN = r"^(GET /v1/sign_in|POST /v1/(sessions|invites/accept|password_resets/use)$)"
"""Whoever signs in has no key yet."""
_TAKES_NOTHING = r"/(cancel|pause|resume|retry|load|unload|pin|unpin|archive|password_reset)$"
"""Verbs on one thing, which is named by the path."""


def test_every_operation_says_what_it_takes_and_answers(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        where = f"{method} {path}"
        assert operation.get("description"), where
        assert {"4XX", "5XX"} <= set(operation["responses"]), where
        assert {"200", "302"} & set(operation["responses"]), where
        for kind, content in operation["responses"].get("200", {}).get("content", {}).items():
            assert content["schema"], f"{where}: {kind}"
        error = operation["responses"]["4XX"]["content"]["application/json"]["schema"]
        assert error == {"$ref": "#/components/schemas/ErrorBody"}, where
        wanted = [] if re.search(_SIGNS_IN, where) else [{"key": []}]
        assert operation.get("security") == (wanted if path.startswith("/v1/") else None), where
        if method == "POST" and not re.search(_TAKES_NOTHING, path):
            content = operation["requestBody"]["content"]
            assert "multipart/form-data" in content or content["application/json"]["schema"]["$ref"], where


def test_every_reference_leads_to_a_schema(document: dict[str, Any]) -> None:
    found = list(refs(document))
    assert len(found) > 50
    for reference_ in found:
        assert reference_.removeprefix("#/components/schemas/") in document["components"]["schemas"]
    jsonschema.Draft202012Validator.check_schema({"$defs": document["components"]["schemas"]})


def test_streams_are_documented_by_their_chunks(document: dict[str, Any]) -> None:
    content = document["paths"][CHAT]["post"]["responses"]["200"]["content"]
    assert content["text/event-stream"]["schema"]["$ref"].endswith("ChatCompletionChunk")


def check(document: dict[str, Any], method: str, path: str, kind: str, answer: Any) -> None:
    """The answer against what the document says of the operation."""
    schema = document["paths"][path][method.lower()]["responses"]["200"]["content"][kind]["schema"]
    jsonschema.validate(answer, {**schema, "components": document["components"]})


def events(body: bytes) -> list[dict[str, Any]]:
    lines = [line[6:] for line in body.split(b"\n\n") if line.startswith(b"data: {")]
    return [orjson.loads(line) for line in lines]


TOOLS = {
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "tool_choice": "required",
    "messages": [{"role": "user", "content": '{"a": 1}'}],
}


async def test_every_answer_is_what_the_document_says(document: dict[str, Any], tmp_path: Path) -> None:
    async with served(tmp_path) as house:
        await _check_posts(document, house)
        usage = "/v1/organization/usage/"
        for path, query in (
            ("/v1/models", ""),
            ("/v1/organization/costs", "?start_time=1&limit=3&group_by=line_item"),
            ("/v1/organization/margins", "?start_time=1700000000&group_by=model&group_by[]=device"),
            (usage + "completions", "?start_time=1700000000&group_by[]=model"),
            (usage + "embeddings", "?start_time=1700000000&models=echo"),
            ("/v1/organization/requests", "?limit=5"),
            ("/healthz", ""),
            ("/readyz", ""),
        ):
            answer = await house.ask("GET", path + query)
            assert answer.status == 200, answer.body
            check(document, "GET", path, "application/json", answer.json)
        answer = await house.ask("GET", "/v1/models/echo")
        check(document, "GET", "/v1/models/{model}", "application/json", answer.json)
        page = (await house.ask("GET", "/v1/organization/requests")).json
        assert len(page["data"]) == 8
        answer = await house.ask("GET", f"/v1/organization/requests/{page['first_id']}")
        check(document, "GET", "/v1/organization/requests/{request_id}", "application/json", answer.json)


async def _check_posts(document: dict[str, Any], house: Served) -> None:
    text = {"model": "echo", "prompt": ["a b c", "d"], "logprobs": 2, "n": 2}
    numbers = {"model": "echo", "input": ["a", "b"]}
    with_usage = {"stream": True, "stream_options": {"include_usage": True}}
    for path, body in (
        (CHAT, {**HELLO, "logprobs": True, "n": 2}),
        (CHAT, HELLO | TOOLS),
        ("/v1/completions", text),
        ("/v1/embeddings", numbers),
        ("/v1/embeddings", {**numbers, "encoding_format": "base64"}),
    ):
        answer = await house.ask("POST", path, json=body)
        assert answer.status == 200, answer.body
        check(document, "POST", path, "application/json", answer.json)
        assert int(answer.headers["x-dayspring-price-nanos"]) > 0
        if path == "/v1/embeddings":
            continue
        answer = await house.ask("POST", path, json=body | with_usage)
        assert answer.body.endswith(b"data: [DONE]\n\n")
        chunks = events(answer.body)
        for chunk in chunks:
            check(document, "POST", path, "text/event-stream", chunk)
        assert all(chunk["usage"] is None for chunk in chunks[:-1])
        assert chunks[-1]["usage"]["total_tokens"] > 0
        assert chunks[-1]["dayspring"]["price_nanos"] > 0
        ends = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]]
        assert len([end for end in ends if end]) == (4 if path == "/v1/completions" else body.get("n", 1))


async def test_the_reference_page_escapes_what_it_is_made_of(document: dict[str, Any]) -> None:
    bad = json.loads(json.dumps(document).replace("Answer a conversation.", "<script>alert(1)</script>"))
    page = reference._page(bad)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    for path in document["paths"]:
        assert path in page


async def test_the_pages_allow_nothing_from_elsewhere(tmp_path: Path) -> None:
    async with served(tmp_path) as house:
        for path in ("/", "/docs"):
            answer = await house.ask("GET", path, key="")
            assert answer.status == 200
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert b"<script" not in answer.body
            assert b"http-equiv" not in answer.body
