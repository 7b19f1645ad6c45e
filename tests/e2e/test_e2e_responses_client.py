"""/v1/responses through the official client and a live server: helpers, parsing, tools, background, a kill."""

import asyncio
import json
from pathlib import Path

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from live import LiveServer, Started, echo_model


class Person(BaseModel):
    name: str
    age: int


ADA = '{"name": "Ada", "age": 36}'
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "Weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": True,
}


def test_a_response_is_made_read_listed_and_deleted(client: OpenAI) -> None:
    made = client.responses.create(model="echo", input="one two three", metadata={"topic": "numbers"})
    assert made.output_text == "one two three"
    assert made.status == "completed"
    assert made.usage is not None
    assert made.usage.total_tokens == made.usage.input_tokens + 3
    assert client.responses.retrieve(made.id) == made
    items = list(client.responses.input_items.list(made.id, limit=1))
    assert [item.type for item in items] == ["message"]
    after = client.responses.create(model="echo", input="four", previous_response_id=made.id)
    assert after.previous_response_id == made.id
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


def test_the_stream_helper_gives_the_final_response(client: OpenAI) -> None:
    with client.responses.stream(model="echo", input="one two three") as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert text == final.output_text == "one two three"
    assert client.responses.retrieve(final.id).output_text == text


def test_an_answer_is_parsed_into_a_model(client: OpenAI) -> None:
    parsed = client.responses.parse(model="echo", input=ADA, text_format=Person)
    assert parsed.output_parsed == Person(name="Ada", age=36)
    with client.responses.stream(model="echo", input=ADA, text_format=Person) as stream:
        done = [event for event in stream if event.type == "response.output_text.done"]
        assert stream.get_final_response().output_parsed == Person(name="Ada", age=36)
    assert done[0].parsed == Person(name="Ada", age=36)


def test_a_tool_is_called_and_answered(client: OpenAI) -> None:
    asked = [{"role": "user", "content": '{"city": "Paris"}'}]
    made = client.responses.create(model="echo", input=asked, tools=[WEATHER], tool_choice="required")
    (call,) = made.output
    assert call.type == "function_call"
    assert (call.name, json.loads(call.arguments)) == ("get_weather", {"city": "Paris"})
    after = client.responses.create(
        model="echo",
        previous_response_id=made.id,
        input=[
            {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"},
            {"role": "user", "content": "So?"},
        ],
        tools=[WEATHER],
    )
    assert after.output_text == "So?"
    with client.responses.stream(
        model="echo", input=asked, tools=[WEATHER], tool_choice={"type": "function", "name": "get_weather"}
    ) as stream:
        pieces = [event.delta for event in stream if event.type == "response.function_call_arguments.delta"]
        (called,) = stream.get_final_response().output
    assert json.loads("".join(pieces)) == json.loads(called.arguments) == {"city": "Paris"}


async def test_the_async_client_streams_and_runs_in_the_background(echo_server: Started) -> None:
    async with AsyncOpenAI(base_url=echo_server.base_url, api_key=echo_server.key) as client:
        stream = await client.responses.create(model="echo", input="a b", stream=True)
        kinds = [event.type async for event in stream]
        assert kinds[0] == "response.created"
        assert kinds[-1] == "response.completed"
        made = await client.responses.create(model="slow", input="a b c d", background=True, stream=True)
        number = 0
        async for event in made:
            number = event.sequence_number
            if event.type == "response.created":
                response_id = event.response.id
            if event.type == "response.output_text.delta":
                break
        await made.close()
        again = await client.responses.retrieve(response_id, stream=True, starting_after=number)
        rest = [event async for event in again]
        assert rest[0].sequence_number == number + 1
        assert rest[-1].type == "response.completed"
        queued = await client.responses.create(model="slow", input="word " * 200, background=True)
        assert queued.status == "queued"
        cancelled = await client.responses.cancel(queued.id)
        assert cancelled.status == "cancelled"


def test_input_tokens_are_counted(client: OpenAI) -> None:
    assert client.responses.input_tokens.count(model="echo", input="one two three").input_tokens == 3


def test_errors_are_the_client_s_own(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="none", input="x")
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model="echo", input="x", tools=[{"type": "web_search"}])
    assert refused.value.param == "tools.0.type"
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="sk-nobody").responses.create(model="echo", input="x")


async def test_a_killed_server_leaves_no_response_in_progress_and_charges_nothing(tmp_path: Path) -> None:
    server = LiveServer(tmp_path)
    admin = await server.prepare(echo_model("slow", delay_s=0.02))
    key_id, key = await server.key(budget_nanos=10**12)
    await server.start()
    async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0) as client:
        made = await client.responses.create(model="slow", input="word " * 400, background=True)
        while (await client.responses.retrieve(made.id)).status != "in_progress":  # noqa: ASYNC110 - as a client polls
            await asyncio.sleep(0.01)
        server.kill()
        await server.start()
        try:
            found = await client.responses.retrieve(made.id)
            assert found.status == "failed"
            assert found.error is not None
            assert "ended before" in found.error.message
            assert await server.spent(key_id) == (0, 0)
            assert admin
        finally:
            assert await server.stop() == 0
