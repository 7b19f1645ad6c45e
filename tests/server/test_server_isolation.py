"""Who may see what of models, requests and usage: no key, a key of another project, one without a scope, one for other
models. Every route there is against a stranger: `test_server_strangers`.
"""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from server_house import CHAT, HELLO, Served, served

from dayspring.accounts.principals import Scope
from live import echo_model

GETS = (
    "/v1/models", "/v1/models/{model}", "/v1/organization/usage/completions", "/v1/organization/usage/embeddings",
    "/v1/organization/costs", "/v1/organization/margins", "/v1/organization/requests",
    "/v1/organization/requests/{request_id}",
)  # fmt: skip
TODAY = int(time.time()) // 86_400 * 86_400
POSTS: dict[str, dict[str, Any]] = {
    CHAT: HELLO,
    "/v1/completions": {"model": "echo", "prompt": "a"},
    "/v1/embeddings": {"model": "echo", "input": "a"},
}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path, echo_model(), echo_model("other")) as house:
        yield house


async def walk(house: Served, key: str, request_id: str, **filters: str) -> dict[str, Any]:
    """Every reading route's answer, the lists filtered by what a stranger would like to see."""
    query = "&".join(f"{name}={value}" for name, value in {"start_time": str(TODAY), **filters}.items())
    answers = {}
    for path in GETS:
        filled = path.replace("{request_id}", request_id).replace("{model}", "echo")
        answers[path] = await house.ask("GET", f"{filled}?{query}", key=key)
    return answers


async def test_a_strangers_key_shows_nothing_of_another_project(house: Served) -> None:
    other = await house.house.accounts.create_project("other")
    owner, owners_key = await house.new_key(sees_cost=True)
    _, strangers_key = await house.new_key(project_id=other.id, sees_cost=True)
    said = await house.ask("POST", CHAT, key=owners_key, json=HELLO | {"metadata": {"note": "private-note"}})
    await house.ask("POST", "/v1/embeddings", key=owners_key, json=POSTS["/v1/embeddings"])
    request_id = said.headers["x-request-id"]
    own = await walk(house, owners_key, request_id)
    assert request_id in own["/v1/organization/requests"].body.decode()
    assert own["/v1/organization/costs"].json["data"][-1]["results"][0]["amount_nanos"] > 0
    by_project = {"project_ids": owner.project_id, "project_id": owner.project_id}
    for filters in ({}, by_project, {"api_key_ids[]": owner.key_id, "api_key_id": owner.key_id}):
        for path, answer in (await walk(house, strangers_key, request_id, **filters)).items():
            text = answer.body.decode()
            if path == "/v1/organization/requests/{request_id}":
                assert answer.status == 404
                text = text.replace(request_id, "")
            for secret in (owner.key_id, owner.project_id, request_id, "private-note"):
                assert secret not in text, path
            if path.startswith(("/v1/organization/usage", "/v1/organization/costs")):
                assert [bucket["results"] for bucket in answer.json["data"] if bucket["results"]] == [], path
    assert (await walk(house, strangers_key, request_id))["/v1/organization/requests"].json["data"] == []


async def test_margins_are_for_administrators(house: Served) -> None:
    _, key = await house.new_key(sees_cost=True)
    answer = await house.ask("GET", "/v1/organization/margins?start_time=1700000000", key=key)
    assert (answer.status, answer.error["code"]) == (403, "permission_denied")


@pytest.mark.parametrize("key", ["", "ds-" + "x" * 43, "nonsense"])
async def test_without_a_key_of_ours_every_route_is_closed_before_its_body_is_read(house: Served, key: str) -> None:
    for path, answer in (await walk(house, key, "req_1")).items():
        assert answer.status == 401, path
        assert answer.error["code"] == "invalid_api_key"
    for path in POSTS:
        visiting = house.visiting(path, b"{")
        visiting._scope["headers"] = [(b"authorization", f"Bearer {key}".encode())] if key else []
        answer = await visiting.run()
        assert answer.status == 401, path
        assert visiting._pieces == [b"{"]  # not even asked for
    for path in GETS:  # nor is a query of no sense looked at
        assert (await house.ask("GET", f"{path}?start_time=x", key=key)).status == 401


async def test_each_scope_opens_its_own_routes(house: Served) -> None:
    _, reader = await house.new_key(scopes=frozenset({Scope.USAGE}), sees_cost=True)
    _, caller = await house.new_key(scopes=frozenset({Scope.INFERENCE}), sees_cost=True)
    for path, answer in (await walk(house, reader, "req_1")).items():
        assert (answer.status == 403) == (path.startswith("/v1/models") or path.endswith("margins")), path
    for path, answer in (await walk(house, caller, "req_1")).items():
        assert (answer.status == 403) == path.startswith("/v1/organization"), path
    for path, body in POSTS.items():
        assert (await house.ask("POST", path, key=reader, json=body)).status == 403
        assert (await house.ask("POST", path, key=caller, json=body)).status == 200


async def test_a_model_that_a_key_may_not_use_is_not_there(house: Served) -> None:
    _, key = await house.new_key(allowed_models=frozenset({"other"}))
    assert [each["id"] for each in (await house.ask("GET", "/v1/models", key=key)).json["data"]] == ["other"]
    for answer in [await house.ask("GET", "/v1/models/echo", key=key)] + [
        await house.ask("POST", path, key=key, json=body) for path, body in POSTS.items()
    ]:
        assert (answer.status, answer.error["code"], answer.error["param"]) == (404, "not_found", "model")
    for path, body in POSTS.items():
        assert (await house.ask("POST", path, key=key, json=body | {"model": "other"})).status == 200
    none = await house.ask("GET", "/v1/models/nowhere", key=key)
    there = await house.ask("GET", "/v1/models/echo", key=key)
    assert none.error["message"].replace("nowhere", "echo") == there.error["message"]  # not to be told apart


async def test_prices_are_for_who_may_see_them(house: Served) -> None:
    _, key = await house.new_key()
    body = HELLO | {"stream": True, "stream_options": {"include_usage": True}}
    whole = await house.ask("POST", CHAT, key=key, json=HELLO)
    assert not [name for name in whole.headers if name.startswith("x-dayspring")]
    assert b"nanos" not in (await house.ask("POST", CHAT, key=key, json=body)).body
    assert (await house.ask("GET", "/v1/organization/costs?start_time=1700000000", key=key)).status == 403
    rows = (await house.ask("GET", "/v1/organization/requests", key=key)).json["data"]
    assert len(rows) == 2
    assert {row["charged_nanos"] for row in rows} == {None}
