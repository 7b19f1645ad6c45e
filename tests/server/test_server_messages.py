"""/v1/messages over HTTP: Anthropic's shapes, its header, its errors around ours; and /v1/rerank."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from anthropic.types import Message
from server_house import Served, served

from dayspring.chat.messages.wire import MessageObject
from dayspring.chat.rerank.wire import Ranking
from dayspring.contracts.models import Ability, Model
from live import echo_model

URL = "/v1/messages"
HELLO: dict[str, Any] = {
    "model": "echo", "max_tokens": 10, "messages": [{"role": "user", "content": "one two three"}],
}  # fmt: skip


async def ask(house: Served, **fields: Any) -> dict[str, Any]:
    answer = await house.ask("POST", URL, json={**HELLO, **fields})
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.json
    MessageObject.model_validate(found)
    Message.model_validate(found)
    return found


async def test_a_key_is_read_from_either_header_on_these_routes_only(tmp_path: Path) -> None:
    async with served(tmp_path) as house:
        header = {"x-api-key": house.key, "anthropic-version": "2023-06-01"}
        assert (await house.ask("POST", URL, json=HELLO, headers=header, key="")).status == 200
        assert (await house.ask("POST", URL, json=HELLO)).status == 200
        assert (await house.ask("GET", "/v1/models", headers=header, key="")).status == 401
        assert (await house.ask("POST", URL, json=HELLO, headers={"x-api-key": "sk-no"}, key="")).status == 401


async def test_a_message_is_charged_once_and_its_end_user_is_noted(tmp_path: Path) -> None:
    async with served(tmp_path) as house:
        made = await ask(house, metadata={"user_id": "u1"}, system=[{"type": "text", "text": "Be brief."}])
        assert made["content"] == [{"type": "text", "text": "one two three"}]
        assert made["usage"]["input_tokens"] == 5
        row = (await house.ask("GET", "/v1/organization/requests")).json["data"][0]
        assert (row["status"], row["output_tokens"]) == ("completed", 3)
        assert row["metadata"] == {"user": "u1"}


async def test_the_reason_of_an_end(tmp_path: Path) -> None:
    async with served(tmp_path) as house:
        assert (await ask(house, max_tokens=2))["stop_reason"] == "max_tokens"
        stopped = await ask(house, stop_sequences=["two"])
        assert (stopped["stop_reason"], stopped["stop_sequence"]) == ("stop_sequence", "two")
        assert (await ask(house))["stop_reason"] == "end_turn"


async def test_results_of_calls_and_earlier_turns_are_handed_on(tmp_path: Path) -> None:
    async with served(tmp_path) as house:
        turns = [
            {"role": "user", "content": "look it up"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm hm hm", "signature": ""},
                {"type": "text", "text": "I do"},
                {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "no such page"}],
                 "is_error": True},
                {"type": "text", "text": "and now"},
            ]},
        ]  # fmt: skip
        tools = [{"name": "f", "input_schema": {"type": "object"}}]
        made = await ask(house, messages=turns, tools=tools)
        assert made["content"][0]["text"] == "and now"
        # What was thought is not read again; a failed call is marked by one word.
        assert made["usage"]["input_tokens"] == 3 + 2 + 4 + 2
        counted = await house.ask("POST", f"{URL}/count_tokens", json={
            "model": "echo", "messages": turns, "tools": tools})  # fmt: skip
        assert counted.json == {"input_tokens": 11}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking.type"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools.0.type"),
        ({"tools": [{"name": "f"}]}, "tools.0.input_schema"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"container": "c"}, "container"),
        ({"mcp_servers": []}, "mcp_servers"),
        ({"max_tokens": None}, "max_tokens"),
        ({"temperature": 1.5}, "temperature"),
        ({"messages": [{"role": "user", "content": [{"type": "document", "source": {}}]}]},
         "messages.0.content.0.type"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "file"}}]}]},
         "messages.0.content.0.source"),
    ],
)  # fmt: skip
async def test_what_cannot_be_honoured_is_refused_by_its_name(
    tmp_path: Path, fields: dict[str, Any], param: str
) -> None:
    async with served(tmp_path) as house:
        refused = await house.ask("POST", URL, json={**HELLO, **fields})
        assert (refused.status, refused.error["param"]) == (400, param), refused.body


@pytest.mark.parametrize(
    ("method", "path", "fields", "key", "status", "kind"),
    [
        ("POST", URL, {"max_tokens": 0}, None, 400, "invalid_request_error"),
        ("POST", URL, {}, "", 401, "authentication_error"),
        ("POST", URL, {"model": "none"}, None, 404, "not_found_error"),
        ("GET", URL, {}, None, 405, "invalid_request_error"),
        ("POST", f"{URL}/none", {}, None, 404, "not_found_error"),
        ("POST", URL, {"system": "x" * 9_000_000}, None, 413, "request_too_large"),
    ],
)
async def test_errors_are_ours_with_anthropic_s_names_around_them(
    tmp_path: Path, method: str, path: str, fields: dict[str, Any], key: str | None, status: int, kind: str
) -> None:
    async with served(tmp_path) as house:
        answer = await house.ask(method, path, json={**HELLO, **fields}, key=key)
        assert answer.status == status
        assert answer.json["type"] == "error"
        assert answer.json["error"]["type"] == kind
        assert set(answer.json["error"]) == {"message", "type", "param", "code"}
        elsewhere = await house.ask("POST", "/v1/messagesx", json=HELLO)
        assert set(elsewhere.json) == {"error"}


async def test_a_stream_that_fails_ends_with_anthropic_s_error_event(tmp_path: Path) -> None:
    async with served(tmp_path, echo_model("broken", fail_after=2)) as house:
        answer = await house.ask("POST", URL, json={**HELLO, "model": "broken", "stream": True})
        name, data = answer.body.decode().strip().split("\n\n")[-1].split("\n")
        assert name == "event: error"
        error = orjson.loads(data.removeprefix("data: "))
        assert error["type"] == "error"
        assert error["error"]["type"] == "api_error"


async def test_documents_are_ranked_by_a_model_made_for_it_and_by_vectors(tmp_path: Path) -> None:
    ranker = Model(id="ranker", engine="echo", abilities=(Ability.RERANK,), licence="Apache-2.0")
    embedder = Model(id="embedder", engine="echo", abilities=(Ability.EMBEDDING,), licence="Apache-2.0")
    async with served(tmp_path, ranker, embedder, echo_model()) as house:
        documents = ["a dog", {"text": "blue cats run"}, "cats"]
        body = {"query": "blue cats", "documents": documents}
        ranked = (await house.ask("POST", "/v1/rerank", json={"model": "ranker", **body})).json
        Ranking.model_validate(ranked)
        assert [found["index"] for found in ranked["results"]] == [1, 2, 0]
        assert ranked["usage"]["prompt_tokens"] == 3 * 2 + 2 + 3 + 1
        assert "document" not in ranked["results"][0]
        best = (await house.ask("POST", "/v1/rerank", json={
            "model": "ranker", **body, "top_n": 1, "return_documents": True})).json["results"]  # fmt: skip
        assert best == [{"index": 1, "relevance_score": 2 / 3, "document": {"text": "blue cats run"}}]
        by_vectors = (await house.ask("POST", "/v1/rerank", json={
            "model": "embedder", "query": "cats", "documents": ["a dog", "cats"]})).json  # fmt: skip
        assert by_vectors["results"][0] == {"index": 1, "relevance_score": pytest.approx(1)}
        assert by_vectors["usage"]["prompt_tokens"] == 4
        for fields, param in (
            ({"documents": []}, "documents"), ({"query": ""}, "query"), ({"top_n": 0}, "top_n"), ({"odd": 1}, "odd"),
        ):  # fmt: skip
            refused = await house.ask("POST", "/v1/rerank", json={"model": "ranker", **body, **fields})
            assert (refused.status, refused.error["param"]) == (400, param)
