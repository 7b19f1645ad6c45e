"""Responses over HTTP: stored as they were sent, gone on from, isolated, refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest
from responses_kit import URL, count, events_of, make
from server_house import Served, served

from dayspring.accounts.limiting import RateChange
from dayspring.accounts.owners import Ref
from dayspring.accounts.principals import Scope
from dayspring.chat.responses import stored
from dayspring.contracts.models import Model
from dayspring.ledger.requests import requests
from live import echo_model
from openai_events import check_stream


async def test_the_stored_object_is_the_one_that_was_sent(tmp_path: Path) -> None:
    async with served(tmp_path) as house:
        made = await make(house, metadata={"a": "b"}, instructions="Be brief.")
        assert made["output"][0]["content"][0]["text"] == "one two three"
        assert made["usage"]["total_tokens"] == made["usage"]["input_tokens"] + 3
        assert (await house.ask("GET", f"{URL}/{made['id']}")).json == made
        answer = await house.ask("POST", URL, json={"model": "echo", "input": "a b", "stream": True})
        final = check_stream(events_of(answer))
        assert (await house.ask("GET", f"{URL}/{final['id']}")).json == final
        assert answer.body.endswith(b"\n\n")
        assert b"[DONE]" not in answer.body
        assert await count(house, requests) == 2


async def test_what_is_not_to_be_stored_is_not(tmp_path: Path) -> None:
    async with served(tmp_path) as house:
        made = await make(house, store=False)
        assert made["store"] is False
        assert (await house.ask("GET", f"{URL}/{made['id']}")).error["code"] == "not_found"
        assert await count(house, stored.responses) == 0


async def test_a_conversation_goes_on_from_what_is_stored(tmp_path: Path) -> None:
    async with served(tmp_path) as house:
        first = await make(house, "one", instructions="Answer in French.")
        second = await make(house, "two", previous_response_id=first["id"])
        third = await make(house, "three", previous_response_id=second["id"])
        # One word each: what the user and the model said before, and the new one; instructions are not carried over.
        assert [made["usage"]["input_tokens"] for made in (first, second, third)] == [4, 3, 5]
        assert (await house.ask("DELETE", f"{URL}/{first['id']}")).json["deleted"] is True
        gone = await house.ask("POST", URL, json={"model": "echo", "input": "x", "previous_response_id": third["id"]})
        assert (gone.status, gone.error["param"]) == (404, "previous_response_id")
        assert first["id"] in gone.error["message"]


async def test_a_call_and_its_answer_are_handed_on(tmp_path: Path) -> None:
    async with served(tmp_path) as house:
        call = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
        items = [
            {"role": "user", "content": [{"type": "input_text", "text": "call it"}]},
            {"type": "reasoning", "id": "rs_1", "summary": []},
            call,
            {"type": "function_call_output", "call_id": "c1", "output": "42"},
        ]
        made = await make(house, items)
        listed = (await house.ask("GET", f"{URL}/{made['id']}/input_items?order=asc")).json
        assert [item["type"] for item in listed["data"]] == [
            "message", "reasoning", "function_call", "function_call_output",
        ]  # fmt: skip
        assert listed["data"][2].items() >= call.items()
        again = await make(house, [{"type": "item_reference", "id": listed["data"][0]["id"]}])
        assert again["output"][0]["content"][0]["text"] == "call it"


async def test_input_items_come_in_pages(tmp_path: Path) -> None:
    async with served(tmp_path) as house:
        made = await make(house, [{"role": "user", "content": str(number)} for number in range(5)])
        base = f"{URL}/{made['id']}/input_items"
        first = (await house.ask("GET", f"{base}?limit=2")).json
        assert [item["content"][0]["text"] for item in first["data"]] == ["4", "3"]
        assert first["has_more"] is True
        rest = (await house.ask("GET", f"{base}?limit=5&after={first['last_id']}")).json
        assert [item["content"][0]["text"] for item in rest["data"]] == ["2", "1", "0"]
        assert rest["has_more"] is False
        assert (await house.ask("GET", f"{base}?after=nothing")).error["param"] == "after"
        assert (await house.ask("GET", f"{base}?limit=0")).status == 400


async def test_a_stranger_finds_nothing_and_goes_on_from_nothing(tmp_path: Path) -> None:
    async with served(tmp_path) as house:
        _, key = await house.new_key()
        made = await make(house, key=key)
        item = (await house.ask("GET", f"{URL}/{made['id']}/input_items", key=key)).json["data"][0]["id"]
        await _move(house, made["id"])
        asked = [("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items"), ("GET", "?stream=true")]
        for method, path in asked:
            found = await house.ask(method, f"{URL}/{made['id']}{path}", key=key)
            missing = await house.ask(method, f"{URL}/resp_none{path}", key=key)
            assert (found.status, found.error["code"]) == (404, "not_found")
            assert found.error["message"].replace(made["id"], "resp_none") == missing.error["message"]
        for body in ({"input": "x", "previous_response_id": made["id"]}, {"input": [{"id": item}]}):
            assert (await house.ask("POST", URL, json={"model": "echo", **body}, key=key)).status == 404
        assert (await house.ask("GET", f"{URL}/{made['id']}")).status == 200  # an administrator


async def _move(house: Served, response_id: str) -> None:
    """Makes a response another project's."""
    table = stored.responses
    statement = table.update().where(table.c.id == response_id).values(project_id="proj_b", organization_id="org_b")
    await house.house.db.write(lambda connection: connection.execute(statement) and None)


async def test_a_key_that_may_not_call_models_reads_no_responses(tmp_path: Path) -> None:
    async with served(tmp_path) as house:
        made = await make(house)
        _, key = await house.new_key(scopes=frozenset({Scope.USAGE}))
        assert (await house.ask("GET", f"{URL}/{made['id']}", key=key)).status == 403


async def test_a_maximum_makes_it_incomplete(tmp_path: Path) -> None:
    async with served(tmp_path) as house:
        made = await make(house, max_output_tokens=2)
        assert made["status"] == "incomplete"
        assert made["incomplete_details"] == {"reason": "max_output_tokens"}
        assert made["usage"]["output_tokens"] == 2


async def test_logprobs_are_included_where_they_are_asked_for(tmp_path: Path) -> None:
    async with served(tmp_path) as house:
        made = await make(house, include=["message.output_text.logprobs"], top_logprobs=2)
        part = made["output"][0]["content"][0]
        assert [each["token"] for each in part["logprobs"]] == ["one ", "two ", "three"]
        assert (await make(house))["output"][0]["content"][0]["logprobs"] == []


async def test_the_oldest_turns_are_left_out_where_that_was_asked_for(tmp_path: Path) -> None:
    model = Model(**{**{name: getattr(echo_model(), name) for name in ("id", "engine", "abilities", "licence")},
                     "context_tokens": 20})  # fmt: skip
    async with served(tmp_path, model) as house:
        words = "a b c d e f g"
        turns = [{"role": "user", "content": words}, {"role": "assistant", "content": words}] * 3
        items = [{"role": "developer", "content": "brief"}, *turns, {"role": "user", "content": "last one"}]
        refused = await house.ask("POST", URL, json={"model": "echo", "input": items})
        assert refused.error["code"] == "context_length_exceeded"
        made = await make(house, items, truncation="auto")
        assert made["usage"]["input_tokens"] == 1 + 14 + 2
        assert len((await house.ask("GET", f"{URL}/{made['id']}/input_items")).json["data"]) == 8


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"tools": [{"type": "custom", "name": "x"}]}, "tools.0.type"),
        ({"tool_choice": {"type": "file_search"}}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"include": ["file_search_call.results"]}, "include.0"),
        ({"reasoning": {"summary": "detailed"}}, "reasoning.summary"),
        ({"text": {"verbosity": "low"}}, "text.verbosity"),
        ({"background": True, "store": False}, "background"),
        ({"stream": True, "stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"no_such_field": 1}, "no_such_field"),
        ({"input": [{"type": "computer_call", "id": "x"}]}, "input.0.type"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file_1"}]}]}, "input"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input.0.call_id"),
        ({"input": None}, "input"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format"),
        ({"user": "a\0"}, "user"),
        ({"previous_response_id": "a\0"}, "previous_response_id"),
    ],
)
async def test_what_cannot_be_honoured_is_refused_by_its_name(
    tmp_path: Path, fields: dict[str, Any], param: str
) -> None:
    async with served(tmp_path) as house:
        refused = await house.ask("POST", URL, json={"model": "echo", "input": "x", **fields})
        assert (refused.status, refused.error["param"]) == (400, param), refused.body
        assert await count(house, requests) == 0


LARGE = 10**20
TOOL = {"type": "function", "name": "f", "parameters": {"maximum": LARGE}}
CALL = {"type": "tool_use", "id": "a", "name": "f", "input": {"n": LARGE}}


@pytest.mark.parametrize(("path", "body", "param"), [
    (URL, {"input": "x", "tools": [TOOL]}, "tools"),
    (URL, {"input": [{"type": "reasoning", "summary": [LARGE]}]}, "input"),
    (URL, {"input": "x", "tools": [{"type": "function", "name": "f"}],
           "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"name": "f", "n": LARGE}]}},
     "tool_choice"),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}],
                              "tools": [{"type": "function", "function": {"name": "f", "parameters": {"n": LARGE}}}]},
     "tools"),
    ("/v1/messages", {"max_tokens": 9, "messages": [{"role": "user", "content": "x"},
                                                    {"role": "assistant", "content": [CALL]}]},
     "messages.1.content.0.input"),
    ("/v1/completions", {"prompt": [LARGE]}, None),
    ("/v1/embeddings", {"input": [[1], [LARGE]]}, None),
])  # fmt: skip
async def test_a_number_that_could_not_be_carried_or_repeated_is_refused(
    tmp_path: Path, path: str, body: dict[str, Any], param: str | None
) -> None:
    async with served(tmp_path) as house:
        refused = await house.ask("POST", path, body=[json.dumps({"model": "echo", **body}).encode()])
        assert refused.status == 400, refused.body
        if param is not None:
            assert refused.error["param"] == param


async def test_an_id_that_cannot_be_one_is_not_found(tmp_path: Path) -> None:
    async with served(tmp_path) as house:
        for odd in ("a\0", "é", "x" * 500):
            assert (await house.ask("GET", f"{URL}/{odd}")).status == 404
            assert (await house.ask("DELETE", f"/v1/chat/completions/{odd}")).status == 404


async def test_a_failure_in_the_middle_is_the_last_event_and_is_stored(tmp_path: Path) -> None:
    async with served(tmp_path, echo_model("broken", fail_after=2)) as house:
        body = {"model": "broken", "input": "one two three", "stream": True}
        events = events_of(await house.ask("POST", URL, json=body))
        final = check_stream(events)
        assert final["status"] == "failed"
        assert final["error"]["code"] == "server_error"
        assert "told to fail" not in final["error"]["message"]
        assert (await house.ask("GET", f"{URL}/{final['id']}")).json == final
        assert (await house.ask("POST", URL, json={**body, "stream": False})).status == 500


async def test_a_stream_that_cannot_begin_has_its_status(tmp_path: Path) -> None:
    async with served(tmp_path) as house:
        for body, status in (({"model": "none", "input": "x"}, 404), ({"model": "echo", "input": "w " * 9000}, 400)):
            assert (await house.ask("POST", URL, json={**body, "stream": True})).status == status


async def test_input_tokens_are_those_that_are_charged(tmp_path: Path) -> None:
    async with served(tmp_path) as house:
        first = await make(house)
        body = {"model": "echo", "input": "and four more words", "previous_response_id": first["id"],
                "instructions": "Be brief."}  # fmt: skip
        counted = (await house.ask("POST", f"{URL}/input_tokens", json=body)).json
        assert counted == {"object": "response.input_tokens", "input_tokens": 3 + 3 + 4 + 2}
        assert (await make(house, body.pop("input"), **body))["usage"]["input_tokens"] == 12
        assert await count(house, requests) == 2


@pytest.mark.parametrize(("path", "said"), [
    (f"{URL}/input_tokens", {"input": "a"}),
    ("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": "a"}]}),
])  # fmt: skip
async def test_counting_for_nothing_is_held_to_the_limits_on_rate(
    tmp_path: Path, path: str, said: dict[str, Any]
) -> None:
    async with served(tmp_path) as house:
        principal, key = await house.new_key()
        await house.house.limiting.set_rates(
            None, Ref(principal.key_id), RateChange(requests_per_minute=2, tokens_per_minute=100)
        )
        answers = [await house.ask("POST", path, key=key, json={"model": "echo", **said}) for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 429]
        assert answers[1].headers["x-ratelimit-remaining-tokens"] == "100"
