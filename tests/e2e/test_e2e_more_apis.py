"""Responses, messages and reranking with the real default models, through the official clients."""

import json

import aiohttp
import jsonschema
import orjson
import pytest
from anthropic import Anthropic
from default_pack import CHAT, EMBEDDING, PERSON
from openai import OpenAI

from live import Started

pytestmark = pytest.mark.model


def test_a_response_held_to_a_schema_validates_whole_and_streamed(model_client: OpenAI) -> None:
    options = {
        "model": CHAT, "input": "Describe Ada Lovelace as JSON.", "max_output_tokens": 80, "temperature": 0,
        "text": {"format": {"type": "json_schema", "name": "person", "schema": PERSON, "strict": True}},
    }  # fmt: skip
    jsonschema.validate(json.loads(model_client.responses.create(**options).output_text), PERSON)
    with model_client.responses.stream(**options) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        assert stream.get_final_response().output_text == text
    jsonschema.validate(json.loads(text), PERSON)


def test_a_conversation_is_counted_as_it_is_charged(model_client: OpenAI) -> None:
    first = model_client.responses.create(model=CHAT, input="Say hello.", max_output_tokens=8, temperature=0)
    assert first.status in ("completed", "incomplete")
    counted = model_client.responses.input_tokens.count(model=CHAT, input="Again.", previous_response_id=first.id)
    second = model_client.responses.create(
        model=CHAT, input="Again.", previous_response_id=first.id, max_output_tokens=8, temperature=0
    )
    assert second.usage is not None
    assert second.usage.input_tokens == counted.input_tokens
    assert second.usage.input_tokens > first.usage.input_tokens


def test_logprobs_are_included(model_client: OpenAI) -> None:
    made = model_client.responses.create(
        model=CHAT, input="Say hello.", max_output_tokens=4, temperature=0, top_logprobs=2,
        include=["message.output_text.logprobs"],
    )  # fmt: skip
    scored = made.output[0].content[0].logprobs
    assert "".join(each.token for each in scored).startswith(made.output_text[:3])
    assert all(len(each.top_logprobs) == 2 for each in scored)


def test_anthropic_s_client_makes_a_forced_call_and_counts(model_server: Started) -> None:
    tool = {
        "name": "get_weather",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}},
                         "required": ["city"], "additionalProperties": False},
    }  # fmt: skip
    asked = {"model": CHAT, "messages": [{"role": "user", "content": "What is the weather in Paris?"}]}
    with Anthropic(base_url=model_server.server.url, api_key=model_server.key, max_retries=0) as client:
        message = client.messages.create(**asked, max_tokens=60, tools=[tool], tool_choice={"type": "any"})
        (call,) = message.content
        jsonschema.validate(call.input, tool["input_schema"])
        assert message.stop_reason == "tool_use"
        counted = client.messages.count_tokens(**asked).input_tokens
        with client.messages.stream(**asked, max_tokens=12) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
    assert text == final.content[0].text
    usage = final.usage
    assert usage.input_tokens + (usage.cache_read_input_tokens or 0) == counted


async def test_the_default_embedding_model_ranks_by_meaning(model_server: Started) -> None:
    body = {
        "model": EMBEDDING, "query": "How do I reset my password?", "return_documents": True,
        "documents": ["The office is closed on Monday.", "To change your password, open the account settings.",
                      {"text": "Apples are sold by the kilogram."}],
    }  # fmt: skip
    headers = {"Authorization": f"Bearer {model_server.key}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{model_server.base_url}/rerank", json=body) as response,
    ):
        assert response.status == 200
        answer = orjson.loads(await response.read())
    best = answer["results"][0]
    assert best["index"] == 1
    assert best["relevance_score"] > answer["results"][1]["relevance_score"] + 0.2
