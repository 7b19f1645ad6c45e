"""The official client against a live server with real models: what a developer does on the first day."""

import base64
import json
import math
import struct

import jsonschema
import openai
import pytest
from default_pack import CHAT, EMBEDDING, PERSON
from openai import AsyncOpenAI, OpenAI

from live import Started

pytestmark = pytest.mark.model

HELLO = [{"role": "user", "content": "Say hello in one short sentence."}]


def test_models_are_listed(model_client: OpenAI) -> None:
    assert {model.id for model in model_client.models.list()} == {CHAT, EMBEDDING}
    assert model_client.models.retrieve(CHAT).id == CHAT


def test_a_whole_answer_has_its_usage(model_client: OpenAI) -> None:
    answer = model_client.chat.completions.create(model=CHAT, messages=HELLO, max_completion_tokens=24, temperature=0)
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.completion_tokens <= 24


def test_a_stream_is_the_whole_answer_in_pieces(model_client: OpenAI) -> None:
    options = {"model": CHAT, "messages": HELLO, "max_completion_tokens": 24, "temperature": 0, "seed": 3}
    whole = model_client.chat.completions.create(**options)
    chunks = list(model_client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage or chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == whole.choices[0].finish_reason


async def test_the_async_client_streams(model_server: Started) -> None:
    async with AsyncOpenAI(base_url=model_server.base_url, api_key=model_server.key) as client:
        stream = await client.chat.completions.create(model=CHAT, messages=HELLO, max_tokens=12, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert text


def test_the_same_seed_gives_the_same_text(model_client: OpenAI) -> None:
    def ask(seed: int) -> str | None:
        answer = model_client.chat.completions.create(
            model=CHAT, messages=HELLO, max_tokens=30, temperature=1.5, seed=seed
        )
        return answer.choices[0].message.content

    first = ask(11)
    others = {ask(seed) for seed in (12, 13, 14)}
    assert ask(11) == first
    assert others != {first}


def test_n_choices_and_stop(model_client: OpenAI) -> None:
    answer = model_client.chat.completions.create(
        model=CHAT, messages=HELLO, max_tokens=16, n=3, seed=5, temperature=1.2, stop=["!", "."]
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert all(not {"!", "."} & set(choice.message.content or "") for choice in answer.choices)


def test_logprobs(model_client: OpenAI) -> None:
    answer = model_client.chat.completions.create(
        model=CHAT, messages=HELLO, max_tokens=5, temperature=0, logprobs=True, top_logprobs=2
    )
    scored = answer.choices[0].logprobs
    assert scored is not None
    assert scored.content
    for token in scored.content:
        assert token.logprob <= 0
        assert len(token.top_logprobs) == 2
        assert token.bytes == list(token.token.encode())


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_held_to_a_schema_validates(model_client: OpenAI, stream: bool) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}}
    options = {
        "model": CHAT, "max_tokens": 80, "seed": 1, "response_format": wanted,
        "messages": [{"role": "user", "content": "Describe Ada Lovelace as JSON."}],
    }  # fmt: skip
    if stream:
        chunks = model_client.chat.completions.create(**options, stream=True)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    else:
        text = model_client.chat.completions.create(**options).choices[0].message.content or ""
    jsonschema.validate(json.loads(text), PERSON)


def test_a_keyword_that_cannot_be_enforced_is_named(model_client: OpenAI) -> None:
    names = {"type": "array", "items": {"type": "string"}, "minItems": 2, "uniqueItems": True}
    schema = {"type": "object", "properties": {"names": names}, "required": ["names"]}
    with pytest.raises(openai.BadRequestError) as refused:
        model_client.chat.completions.create(
            model=CHAT, messages=HELLO,
            response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
        )  # fmt: skip
    assert "uniqueItems" in refused.value.message
    assert refused.value.body["code"] == "unsupported_parameter"


TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "description": "Weather of a city", "parameters": {
        "type": "object", "properties": {"city": {"type": "string", "maxLength": 30}}, "required": ["city"],
        "additionalProperties": False}}},
    {"type": "function", "function": {"name": "add", "description": "Adds", "parameters": {
        "type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"], "additionalProperties": False}}},
]  # fmt: skip


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
@pytest.mark.parametrize("stream", [False, True])
def test_a_forced_call_is_made(model_client: OpenAI, choice: object, stream: bool) -> None:
    options = {
        "model": CHAT, "tools": TOOLS, "tool_choice": choice, "max_tokens": 100, "seed": 2,
        "messages": [{"role": "user", "content": "What is the weather in Paris?"}],
    }  # fmt: skip
    if stream:
        deltas = [
            call
            for chunk in model_client.chat.completions.create(**options, stream=True)
            for call in (chunk.choices[0].delta.tool_calls or [])
        ]
        name, arguments = deltas[0].function.name, "".join(call.function.arguments for call in deltas)
    else:
        answer = model_client.chat.completions.create(**options)
        assert answer.choices[0].finish_reason == "tool_calls"
        (call,) = answer.choices[0].message.tool_calls
        name, arguments = call.function.name, call.function.arguments
    tool = next(tool for tool in TOOLS if tool["function"]["name"] == name)
    jsonschema.validate(json.loads(arguments), tool["function"]["parameters"])


def test_tools_left_to_the_model_are_a_plain_answer_or_a_call(model_client: OpenAI) -> None:
    answer = model_client.chat.completions.create(model=CHAT, tools=TOOLS, messages=HELLO, max_tokens=60)
    message = answer.choices[0].message
    assert message.content or message.tool_calls


def test_text_completion(model_client: OpenAI) -> None:
    answer = model_client.completions.create(model=CHAT, prompt="The capital of France is", max_tokens=5, temperature=0)
    assert "Paris" in answer.choices[0].text
    chunks = model_client.completions.create(model=CHAT, prompt="One, two,", max_tokens=5, temperature=0, stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks)


def test_embeddings_as_floats_and_base64_agree(model_client: OpenAI) -> None:
    texts = ["A cat sits on the mat.", "A kitten rests on a rug.", "Interest rates rose again."]
    floats = model_client.embeddings.create(model=EMBEDDING, input=texts, encoding_format="float")
    packed = model_client.embeddings.create(model=EMBEDDING, input=texts, encoding_format="base64")
    vectors = [item.embedding for item in floats.data]
    for vector, item in zip(vectors, packed.data, strict=True):
        unpacked = struct.unpack("<384f", base64.b64decode(item.embedding))
        assert all(math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-7) for a, b in zip(vector, unpacked, strict=True))
        assert math.isclose(sum(x * x for x in vector), 1, rel_tol=1e-4)

    def cosine(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    assert cosine(vectors[0], vectors[1]) > cosine(vectors[0], vectors[2]) + 0.2


def test_dimensions_the_model_was_not_trained_for_are_refused(model_client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        model_client.embeddings.create(model=EMBEDDING, input="x", dimensions=64)
    assert refused.value.body["param"] == "dimensions"


def test_a_prompt_longer_than_the_context_is_refused(model_client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        model_client.chat.completions.create(model=CHAT, messages=[{"role": "user", "content": "word " * 9000}])
    assert refused.value.body["code"] == "context_length_exceeded"


@pytest.mark.timeout(400)  # reading 4,000 tokens is work, and the machine may be shared
def test_one_request_may_use_the_whole_context(model_client: OpenAI) -> None:
    answer = model_client.chat.completions.create(
        model=CHAT, messages=[{"role": "user", "content": "word " * 4000}], max_tokens=4
    )
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 4000


def test_a_wrong_key_and_an_unknown_model(model_server: Started) -> None:
    stranger = OpenAI(base_url=model_server.base_url, api_key="ds-" + "x" * 43, max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        stranger.models.list()
    client = OpenAI(base_url=model_server.base_url, api_key=model_server.key, max_retries=0)
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="nothing", messages=HELLO)
