"""The upstream engine against a service on loopback that speaks the real protocol."""

import struct
from typing import Any

import orjson
import pytest
from upstream_asking import chat, counted, delta, events_of, session_for, sse, text_of, usage_of

from dayspring.contracts.events import ChoiceEnd, Embedding, TextDelta, ToolCallDelta, Usage
from dayspring.contracts.tasks import CompletionTask, EmbeddingTask, Sampling
from dayspring.core.errors import (
    DayspringError,
    PromptOverLimit,
    UnsupportedParameter,
    UpstreamFailed,
)
from dayspring.testing.upstream import FakeUpstream, Reply


@pytest.mark.parametrize("stream", [True, False])
async def test_a_chat_gives_its_text_its_end_and_the_services_usage(stream: bool) -> None:
    async with FakeUpstream() as fake, session_for(fake.url) as session:
        events = await events_of(session, chat(stream=stream))
    assert text_of(events) == "hello big world"
    assert events[-2] == ChoiceEnd("stop")
    assert usage_of(events) == Usage(3, 3, 1, upstream_id="fake-1", fingerprint="fp_fake", upstream="t0")
    assert counted(events) == 3
    assert fake.seen[0].path == "/v1/chat/completions"
    assert fake.seen[0].body.get("stream", False) is stream
    assert (fake.seen[0].body.get("stream_options") == {"include_usage": True}) is stream


async def test_everything_a_task_says_is_passed_on() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    sampling = Sampling(
        max_tokens=5, temperature=0.5, top_p=0.9, seed=3, stop=("x",), logit_bias={"7": -1.0}, top_logprobs=2
    )
    task = chat(
        sampling=sampling, n=2, tools=(tool,), parallel_tool_calls=False, reasoning_effort="low", extra={"top_a": 1}
    )
    target = {"max_tokens_field": "max_completion_tokens", "headers": {"X-Tenant": "a"}}
    async with FakeUpstream() as fake, session_for(fake.url, target=target) as session:
        await events_of(session, task)
        await events_of(session, chat(schema={"const": {"a": 1}}))
    body = fake.seen[0].body
    assert body == {
        "top_a": 1,
        "model": "stub",
        "messages": [{"role": "user", "content": "hello big world"}],
        "n": 2,
        "max_completion_tokens": 5,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 3,
        "stop": ["x"],
        "logit_bias": {"7": -1.0},
        "logprobs": True,
        "top_logprobs": 2,
        "tools": [tool],
        "parallel_tool_calls": False,
        "reasoning_effort": "low",
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert fake.seen[0].headers["X-Tenant"] == "a"
    assert fake.seen[1].body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "strict": True, "schema": {"const": {"a": 1}}},
    }


async def test_fields_that_decide_length_or_framing_are_not_taken_from_extra() -> None:
    async with FakeUpstream() as fake, session_for(fake.url) as session:
        for name in ("model", "stream", "best_of", "max_completion_tokens"):
            with pytest.raises(UnsupportedParameter, match=name):
                await events_of(session, chat(extra={name: 9}))
    assert fake.seen == []


@pytest.mark.parametrize("stream", [True, False])
async def test_tool_calls_come_as_fragments_that_join(stream: bool) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    async with FakeUpstream() as fake, session_for(fake.url) as session:
        events = await events_of(session, chat("call f", tools=(tool,), stream=stream))
    calls = [event for event in events if isinstance(event, ToolCallDelta)]
    assert (calls[0].id, calls[0].name) == ("call_1", "f")
    assert "".join(call.arguments for call in calls) == '{"a":1}'
    assert events[-2] == ChoiceEnd("tool_calls")


async def test_reasoning_and_refusals_keep_their_kind() -> None:
    pieces = sse(
        delta(reasoning_content="think "),
        delta(reasoning="more"),
        delta(refusal="no"),
        delta("content_filter"),
        b"[DONE]",
    )
    async with FakeUpstream() as fake, session_for(fake.url) as session:
        fake.script(Reply(pieces=pieces))
        events = await events_of(session, chat())
    assert text_of(events, "reasoning") == "think more"
    assert text_of(events, "refusal") == "no"
    assert events[-2] == ChoiceEnd("content_filter")


@pytest.mark.parametrize("stream", [True, False])
async def test_completions_number_choices_by_prompt_and_n(stream: bool) -> None:
    task = CompletionTask(("a b", (1, 2, 3)), n=2, stream=stream, sampling=Sampling(max_tokens=2, top_logprobs=1))
    async with FakeUpstream() as fake, session_for(fake.url) as session:
        events = await events_of(session, task)
    texts = {i: "".join(e.text for e in events if isinstance(e, TextDelta) and e.index == i) for i in range(4)}
    assert texts == {0: "a b", 1: "a b", 2: "1 2 ", 3: "1 2 "}
    assert [e for e in events if isinstance(e, ChoiceEnd)] == [
        ChoiceEnd("stop", 0), ChoiceEnd("stop", 1), ChoiceEnd("length", 2), ChoiceEnd("length", 3)
    ]  # fmt: skip
    first = next(e for e in events if isinstance(e, TextDelta))
    assert first.logprobs is not None
    assert first.logprobs[0].top[0].token == "a "


@pytest.mark.parametrize("encoding", ["base64", "float"])
async def test_embeddings_come_in_order_with_unit_length(encoding: str) -> None:
    target = {"embedding_format": encoding}
    async with FakeUpstream() as fake, session_for(fake.url, target=target) as session:
        events = await events_of(session, EmbeddingTask(("a b", "c"), dimensions=4))
    assert [e.index for e in events if isinstance(e, Embedding)] == [0, 1]
    for event in events[:-1]:
        assert isinstance(event, Embedding)
        values = struct.unpack("<4f", event.vector)
        assert sum(value * value for value in values) == pytest.approx(1, abs=1e-6)
    assert usage_of(events) == Usage(3, upstream="t0")
    assert fake.seen[0].body["encoding_format"] == encoding


@pytest.mark.parametrize(
    "data",
    [
        [{"index": 0, "embedding": [1.0, 0.0]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}],
        [{"index": 0, "embedding": [1.0, 0.0]}, {"index": 1, "embedding": [1.0]}],
        [{"index": 0, "embedding": [0.0, 0.0]}, {"index": 1, "embedding": [1.0, 0.0]}],
        [{"index": 0, "embedding": "???"}, {"index": 1, "embedding": "AAAA"}],
        [{"index": 0, "embedding": [1e39, 0.0]}, {"index": 1, "embedding": [1.0, 0.0]}],
    ],
)
async def test_vectors_that_cannot_be_used_fail(data: list[Any]) -> None:
    async with FakeUpstream() as fake, session_for(fake.url) as session:
        fake.script(Reply(body=orjson.dumps({"data": data})))
        with pytest.raises(UpstreamFailed):
            await events_of(session, EmbeddingTask(("a", "b")))


@pytest.mark.parametrize("stream", [True, False])
async def test_without_reported_usage_the_deltas_count_and_the_usage_says_so(stream: bool) -> None:
    text = "one two three four"
    async with FakeUpstream() as fake, session_for(fake.url) as session:
        fake.script(Reply(usage=False))
        events = await events_of(session, chat(text, stream=stream))
    usage = usage_of(events)
    assert usage.estimated
    assert usage.output_tokens == counted(events) == (4 if stream else 1)
    assert usage.input_tokens == 3, "18 bytes at eight a token, less than the four words it has"


async def test_tokens_that_no_delta_showed_are_added_before_the_end() -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 40}}
    async with FakeUpstream() as fake, session_for(fake.url) as session:
        fake.script(Reply(pieces=sse(delta(content="hi"), delta("stop"), usage, b"[DONE]")))
        events = await events_of(session, chat())
    assert counted(events) == usage_of(events).output_tokens == 40
    assert isinstance(events[-2], ChoiceEnd)


async def test_a_stream_split_at_every_byte_is_read_alike() -> None:
    whole = b"".join(sse(delta(content="héllo"), delta("stop"), b"[DONE]"))
    async with FakeUpstream() as fake, session_for(fake.url) as session:
        fake.script(Reply(pieces=tuple(bytes([byte]) for byte in whole)))
        events = await events_of(session, chat())
    assert text_of(events) == "héllo"


@pytest.mark.parametrize("stream", [True, False])
async def test_one_connection_serves_many_requests(stream: bool) -> None:
    async with FakeUpstream() as fake, session_for(fake.url) as session:
        for _ in range(5):
            await events_of(session, chat(stream=stream))
    assert len({seen.peer for seen in fake.seen}) == 1


async def test_a_kept_connection_that_was_closed_is_replaced_unseen() -> None:
    async with FakeUpstream() as fake, session_for(fake.url, breaker_failures=1) as session:
        fake.script(Reply(), Reply(drop=True))
        for _ in range(2):
            assert text_of(await events_of(session, chat())) == "hello big world"
        assert len(fake.seen) == 3
        fake.script(Reply(drop=True), Reply(drop=True))
        with pytest.raises(UpstreamFailed, match="could not be reached"):
            await events_of(session, chat())
        assert len(fake.seen) == 5


async def test_an_answers_cookie_is_not_sent_back() -> None:
    async with FakeUpstream() as fake, session_for(fake.url) as session:
        fake.script(Reply(headers={"Set-Cookie": "a=b"}))
        await events_of(session, chat())
        await events_of(session, chat())
    assert "Cookie" not in fake.seen[1].headers


async def test_a_prompt_over_the_reservation_stops_before_anything_is_sent() -> None:
    async with FakeUpstream() as fake, session_for(fake.url) as session:
        bound = await session.count_tokens(chat("日本語"))
        with pytest.raises(PromptOverLimit) as over:
            await events_of(session, chat("日本語", prompt_limit=bound - 1))
        assert over.value.input_tokens == bound
        assert fake.seen == []
        await events_of(session, chat("日本語", prompt_limit=bound))


async def test_the_bound_is_never_under_the_bytes_of_the_text() -> None:
    async with session_for("http://127.0.0.1:9/v1") as session:
        for text in ("", "a", "日本語" * 50, '"\\\n' * 9):
            for task in (chat(text), CompletionTask((text, (1, 2))), EmbeddingTask((text,))):
                assert await session.count_tokens(task) >= len(text.encode())


async def test_half_a_surrogate_pair_is_refused_not_sent() -> None:
    async with FakeUpstream() as fake, session_for(fake.url) as session:
        with pytest.raises(DayspringError, match="surrogate"):
            await events_of(session, chat("\ud800"))
        assert fake.seen == []
