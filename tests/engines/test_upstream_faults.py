"""When the service behind a model fails, stops, lies or is left: what the caller gets, and where keys go."""

import asyncio
import gzip
import socket
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from upstream_asking import chat, delta, events_of, session_for, sse, text_of, usage_of

from dayspring.contracts.events import Started, TextDelta
from dayspring.core.errors import (
    Busy,
    ContextLengthExceeded,
    DayspringError,
    TimedOut,
    Unavailable,
    UpstreamFailed,
)
from dayspring.testing.clock import FakeClock
from dayspring.testing.upstream import FakeUpstream, Reply

SHORT_S = 0.05


async def test_failover_takes_the_next_target_and_names_it() -> None:
    for reply in (Reply(status=503), Reply(status=429), Reply(pieces=sse({"error": {"code": 502}}))):
        async with FakeUpstream() as one, FakeUpstream() as two, session_for(one.url, two.url) as session:
            one.script(reply)
            events = await events_of(session, chat())
            assert usage_of(events).upstream == "t1"
            assert len(one.seen) == len(two.seen) == 1


async def test_failover_when_nobody_listens() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        async with FakeUpstream() as two, session_for(url, two.url) as session:
            assert usage_of(await events_of(session, chat())).upstream == "t1"
        async with session_for(url) as session:
            with pytest.raises(UpstreamFailed, match="could not be reached"):
                await events_of(session, chat())


async def test_failover_after_silence_before_the_first_event() -> None:
    never = asyncio.Event()
    for reply in (Reply(before_head=never), Reply(pieces=(b": ping\n\n", *sse(delta(role="assistant")), never))):
        async with FakeUpstream() as one, FakeUpstream() as two:
            one.script(reply)
            async with session_for(one.url, two.url, target={"first_byte_timeout_s": SHORT_S}) as session:
                assert usage_of(await events_of(session, chat())).upstream == "t1"
            await one.left.wait()


async def test_no_failover_once_something_was_given() -> None:
    async with FakeUpstream() as one, FakeUpstream() as two, session_for(one.url, two.url) as session:
        one.script(Reply(pieces=sse(delta(content="hi")), cut=True))
        run = session.run(chat())
        assert text_of([await anext(run), await anext(run)]) == "hi"
        with pytest.raises(UpstreamFailed):
            await anext(run)
        assert two.seen == []


async def test_a_request_at_fault_is_not_sent_to_another_target() -> None:
    async with FakeUpstream(context_tokens=2) as one, FakeUpstream() as two, session_for(one.url, two.url) as session:
        with pytest.raises(ContextLengthExceeded) as refused:
            await events_of(session, chat("far too many words"))
        assert two.seen == []
    assert "INTERNAL" not in refused.value.message


async def test_the_last_targets_error_is_raised_with_its_retry_after() -> None:
    async with FakeUpstream() as fake, session_for(fake.url) as session:
        fake.script(Reply(status=429, headers={"Retry-After": "7"}))
        with pytest.raises(Busy) as busy:
            await events_of(session, chat())
    assert busy.value.retry_after_s == 7


BROKEN = [
    Reply(body=b"{", headers={"Content-Type": "application/json"}),
    Reply(body=b"[1]"),
    Reply(body=b'{"choices":[]}'),
    Reply(body=b'{"choices":[{"index":0,"message":{"content":7},"finish_reason":"stop"}]}'),
    Reply(body=b'{"choices":[{"index":3,"message":{"content":"x"},"finish_reason":"stop"}]}'),
    Reply(body=b'{"choices":[{"index":0,"message":{"content":"x"},"finish_reason":"banana"}]}'),
    Reply(body=b'{"choices":[{"index":0,"message":{"content":"x"},"finish_reason":"stop"}],"usage":{"prompt_tokens":-1}}'),
    Reply(body=b"<html>", headers={"Content-Type": "text/html"}),
    Reply(body=b'{"choices":[{"index":0,', cut=True),
    Reply(body=b"x" * 5000),
    Reply(body=b"\x1f\x8bxx", headers={"Content-Encoding": "gzip"}),
    Reply(body=gzip.compress(b"{}")[:-9], headers={"Content-Encoding": "gzip"}),
    Reply(body=gzip.compress(b" " * 100_000), headers={"Content-Encoding": "gzip"}),
    Reply(body=b"{}", headers={"Content-Encoding": "br"}),
    Reply(body=b"[" * 3000),
]  # fmt: skip


@pytest.mark.parametrize("reply", BROKEN)
async def test_a_broken_answer_fails_plainly(reply: Reply) -> None:
    async with FakeUpstream() as fake, session_for(fake.url, max_answer_bytes=4096) as session:
        fake.script(reply)
        with pytest.raises(UpstreamFailed):
            await events_of(session, chat(stream=False))


BROKEN_STREAMS = [
    sse(delta(content="a"), b"[DONE]"),
    sse(delta(content="a")),
    sse(delta(content="a"), b"{not json"),
    sse(delta(content="a"), {"error": {"message": "INTERNAL"}}),
    sse(delta(content="a"), delta(content="b" * 3000)),
    sse(*[delta(content="b" * 500)] * 20),
    (b"data: " + b"x" * 3000,),
    (b"",),
]


@pytest.mark.parametrize("pieces", BROKEN_STREAMS)
async def test_a_broken_stream_fails_plainly(pieces: tuple[bytes, ...]) -> None:
    limits = {"max_answer_bytes": 4096, "max_event_bytes": 2048}
    async with FakeUpstream() as fake, session_for(fake.url, **limits) as session:
        fake.script(Reply(pieces=pieces))
        with pytest.raises(UpstreamFailed) as failed:
            await events_of(session, chat())
    assert "INTERNAL" not in failed.value.message


async def test_a_packed_answer_is_unpacked() -> None:
    answer = {"choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}]}
    async with FakeUpstream() as fake, session_for(fake.url) as session:
        fake.script(Reply(body=gzip.compress(orjson.dumps(answer)), headers={"Content-Encoding": "gzip"}))
        assert text_of(await events_of(session, chat(stream=False))) == "hi"


async def test_an_answer_that_stops_moving_is_told_by_its_setting() -> None:
    never = asyncio.Event()
    async with FakeUpstream() as fake:
        for name in ("idle_timeout_s", "total_timeout_s"):
            fake.script(Reply(pieces=(*sse(delta(content="a")), never)))
            async with session_for(fake.url, target={name: SHORT_S}) as session:
                with pytest.raises(TimedOut, match=name):
                    await events_of(session, chat())


async def test_the_breaker_leaves_a_failing_target_alone_and_tries_it_again() -> None:
    clock = FakeClock()
    async with FakeUpstream() as fake, session_for(fake.url, clock=clock, breaker_failures=2) as session:
        fake.script(Reply(status=500), Reply(status=500))
        for _ in range(3):
            with pytest.raises(UpstreamFailed) as failed:
                await events_of(session, chat())
        assert len(fake.seen) == 2
        assert failed.value.retry_after_s == 1
        clock.advance(1)
        assert text_of(await events_of(session, chat())) == "hello big world"


async def test_a_probe_that_is_cancelled_does_not_close_the_way() -> None:
    clock, never = FakeClock(), asyncio.Event()
    async with FakeUpstream() as fake, session_for(fake.url, clock=clock, breaker_failures=1) as session:
        fake.script(Reply(status=500), Reply(before_head=never))
        with pytest.raises(UpstreamFailed):
            await events_of(session, chat())
        clock.advance(1)
        fake.arrived.clear()
        probe = asyncio.create_task(events_of(session, chat()))
        await fake.arrived.wait()
        probe.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probe
        assert text_of(await events_of(session, chat())) == "hello big world"


async def test_leaving_a_stream_closes_its_connection_at_once() -> None:
    never = asyncio.Event()
    async with FakeUpstream() as fake, session_for(fake.url) as session:
        fake.script(Reply(before_token=never))
        run = session.run(chat())
        assert isinstance(await anext(run), Started)
        assert isinstance(await anext(run), TextDelta)
        await run.aclose()
        async with asyncio.timeout(5):
            await fake.left.wait()


async def test_cancelling_before_the_answer_closes_its_connection_at_once() -> None:
    never = asyncio.Event()
    async with FakeUpstream() as fake, session_for(fake.url) as session:
        fake.script(Reply(before_head=never))
        waiting = asyncio.create_task(events_of(session, chat(stream=False)))
        await fake.arrived.wait()
        waiting.cancel()
        async with asyncio.timeout(5):
            await fake.left.wait()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_the_key_goes_to_its_host_and_nowhere_else(caplog: pytest.LogCaptureFixture) -> None:
    async with FakeUpstream(key="hunter2") as fake, FakeUpstream() as other:
        host = fake.url.removeprefix("http://").removesuffix("/v1")
        async with session_for(fake.url, other.url, secrets={host: "hunter2"}) as session:
            fake.script(
                Reply(), Reply(status=307, headers={"Location": f"{other.url}/chat/completions"}), Reply(status=500)
            )
            await events_of(session, chat())
            with pytest.raises(UpstreamFailed, match="redirect"):
                await events_of(session, chat())
            assert other.seen == []
            await events_of(session, chat())
        assert "Authorization" not in other.seen[0].headers
        async with session_for(fake.url) as session:
            with pytest.raises(Unavailable, match="DAYSPRING_UPSTREAM_KEYS") as refused:
                await events_of(session, chat())
    assert "hunter2" not in refused.value.message + caplog.text


async def test_a_key_may_go_in_another_header() -> None:
    more: dict[str, Any] = {"secrets": {"127.0.0.1": "k1"}, "target": {"key_header": "api-key"}}
    async with FakeUpstream() as fake, session_for(fake.url, **more) as session:
        await events_of(session, chat())
    assert fake.seen[0].headers["api-key"] == "k1"
    assert "Authorization" not in fake.seen[0].headers


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 banana\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000,
        b"\x16\x03\x01\x00",
    ],
    ids=["nothing", "another protocol", "no status", "endless header", "tls"],
)
async def test_what_is_not_http_fails_plainly(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, session_for(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1") as session:
        for stream in (True, False):
            with pytest.raises(UpstreamFailed):
                await events_of(session, chat(stream=stream))


@given(st.binary(max_size=200), st.booleans())
@settings(max_examples=40, deadline=None)
@example(b'{"choices":null}', False)
@example(b'data: {"choices":[{"index":0,"delta":null,"finish_reason":"stop"}]}\n\n', True)
async def test_no_answer_raises_anything_outside_the_tree(content: bytes, stream: bool) -> None:
    async with FakeUpstream() as fake, session_for(fake.url) as session:
        fake.script(Reply(pieces=(content,)) if stream else Reply(body=content))
        with suppress(DayspringError):
            assert usage_of(await events_of(session, chat(stream=stream)))
