"""The official Anthropic client against a live server: whole, streamed, tools, async, counting, error classes."""

from collections.abc import Iterator

import anthropic
import pytest
from anthropic import Anthropic, AsyncAnthropic

from live import Started

HELLO = [{"role": "user", "content": "one two three"}]
WEATHER = {
    "name": "get_weather",
    "description": "Weather of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
PARIS = [{"role": "user", "content": '{"city": "Paris"}'}]


@pytest.fixture
def client(echo_server: Started) -> Iterator[Anthropic]:
    with Anthropic(base_url=echo_server.server.url, api_key=echo_server.key, max_retries=0) as made:
        yield made


def test_a_message_is_answered(client: Anthropic) -> None:
    message = client.messages.create(model="echo", max_tokens=64, messages=HELLO, system="Be brief.")
    assert message.content[0].text == "one two three"
    assert (message.stop_reason, message.usage.input_tokens, message.usage.output_tokens) == ("end_turn", 5, 3)
    assert client.messages.create(model="echo", max_tokens=2, messages=HELLO).stop_reason == "max_tokens"


def test_the_stream_helper_gives_text_and_the_final_message(client: Anthropic) -> None:
    with client.messages.stream(model="echo", max_tokens=64, messages=HELLO) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    assert "".join(pieces) == final.content[0].text == "one two three"
    assert len(pieces) == 3
    assert final.usage.output_tokens == 3
    assert final.usage.input_tokens == 3
    assert final.stop_reason == "end_turn"


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "get_weather"}])
def test_a_tool_is_called_and_answered(client: Anthropic, choice: dict[str, str]) -> None:
    asked = {"model": "echo", "max_tokens": 64, "tools": [WEATHER]}
    message = client.messages.create(**asked, messages=PARIS, tool_choice=choice)
    (call,) = message.content
    assert (message.stop_reason, call.type, call.input) == ("tool_use", "tool_use", {"city": "Paris"})
    with client.messages.stream(**asked, messages=PARIS, tool_choice=choice) as stream:
        pieces = [event.partial_json for event in stream if event.type == "input_json"]
        (streamed,) = stream.get_final_message().content
    assert "".join(pieces) == PARIS[0]["content"]
    assert streamed.input == {"city": "Paris"}
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}
    after = client.messages.create(
        **asked,
        messages=[
            *PARIS,
            {"role": "assistant", "content": message.content},
            {"role": "user", "content": [result, {"type": "text", "text": "So?"}]},
        ],
    )
    assert after.content[0].text == "So?"


async def test_the_async_client(echo_server: Started) -> None:
    async with AsyncAnthropic(base_url=echo_server.server.url, api_key=echo_server.key) as client:
        message = await client.messages.create(model="echo", max_tokens=64, messages=HELLO)
        assert message.content[0].text == "one two three"
        async with client.messages.stream(model="echo", max_tokens=64, messages=HELLO) as stream:
            assert "".join([text async for text in stream.text_stream]) == "one two three"
        counted = await client.messages.count_tokens(model="echo", messages=HELLO)
        assert counted.input_tokens == 3


def test_a_bearer_key_works_too(echo_server: Started) -> None:
    with Anthropic(base_url=echo_server.server.url, auth_token=echo_server.key, api_key=None) as client:
        assert client.messages.create(model="echo", max_tokens=64, messages=HELLO).content


def test_errors_are_the_client_s_own_classes(client: Anthropic) -> None:
    cases = (
        ({"model": "none"}, anthropic.NotFoundError, "not_found_error"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, anthropic.BadRequestError, "invalid_request_error"),
        ({"messages": [{"role": "user", "content": "w " * 9000}]}, anthropic.BadRequestError, "invalid_request_error"),
    )
    for fields, kind, name in cases:
        with pytest.raises(kind) as caught:
            client.messages.create(**{"model": "echo", "max_tokens": 64, "messages": HELLO, **fields})
        assert caught.value.type == name
        assert caught.value.api_message
    with pytest.raises(anthropic.AuthenticationError) as denied:
        client.with_options(api_key="sk-nobody").messages.create(model="echo", max_tokens=64, messages=HELLO)
    assert denied.value.type == "authentication_error"


def test_an_error_in_the_middle_of_a_stream_is_raised(client: Anthropic) -> None:
    words = [{"role": "user", "content": "one two three four five"}]
    with (
        pytest.raises(anthropic.APIStatusError) as caught,
        client.messages.stream(model="fragile", max_tokens=64, messages=words) as stream,
    ):
        stream.until_done()
    assert caught.value.type == "overloaded_error"
