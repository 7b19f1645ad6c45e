"""Server-sent events: whatever is sent is read back, and whoever leaves stops the work."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi import Answer, Visit
from dayspring.core.errors import InvalidRequest, WorkerDied
from dayspring.web import sse
from dayspring.web.sse import ClientGone, EventStream

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


class Producer:
    """Yields `payloads`; an exception among them is raised, an event is waited for."""

    def __init__(self, *payloads: Any) -> None:
        self.payloads = payloads
        self.closed = False
        self.given = 0

    async def events(self) -> AsyncIterator[Any]:
        try:
            for payload in self.payloads:
                if isinstance(payload, BaseException):
                    raise payload
                if isinstance(payload, asyncio.Event):
                    await payload.wait()
                    continue
                self.given += 1
                yield payload
        finally:
            self.closed = True


def visiting(producer: Producer) -> Visit:
    stream: Any = producer.events()
    return Visit(EventStream(stream), "POST", "/", (), {}, "127.0.0.1")


async def streamed(*payloads: Any) -> Answer:
    return await visiting(Producer(*payloads)).run()


def parsed(body: bytes) -> list[bytes]:
    """The data of each event, by the standard's rules: LF, CR and CRLF end a line, an empty line ends an event."""
    lines = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    events: list[bytes] = []
    data: list[bytes] = []
    for line in lines:
        if not line:
            if data:
                events.append(b"\n".join(data))
            data = []
        elif not line.startswith(b":"):
            name, _, value = line.partition(b":")
            assert name == b"data"
            data.append(value.removeprefix(b" "))
    assert not data, "an event without its end"
    return events


@given(payloads=st.lists(st.dictionaries(st.text(), JSON, max_size=3), max_size=5))
def test_every_payload_is_read_back_as_one_event(payloads: list[dict[str, Any]]) -> None:
    answer = asyncio.run(streamed(*payloads))
    *events, last = parsed(answer.body)
    assert [orjson.loads(event) for event in events] == payloads
    assert last == b"[DONE]"
    assert answer.ended
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"


async def test_an_error_before_the_first_event_has_its_own_status() -> None:
    with pytest.raises(InvalidRequest):
        await streamed(InvalidRequest("no"))


async def test_an_error_after_the_first_event_is_an_event_and_ends_without_done() -> None:
    answer = await streamed({"a": 1}, WorkerDied(model="m"))
    first, error = parsed(answer.body)
    assert orjson.loads(first) == {"a": 1}
    assert orjson.loads(error)["error"]["code"] == "worker_died"
    assert answer.ended


async def test_a_foreign_error_says_nothing_of_itself(caplog: pytest.LogCaptureFixture) -> None:
    answer = await streamed({"a": 1}, RuntimeError("a secret"))
    assert b"secret" not in answer.body
    assert orjson.loads(parsed(answer.body)[-1])["error"]["code"] == "internal_error"
    assert "a secret" in caplog.text


@pytest.mark.parametrize("before_the_first", [True, False])
async def test_a_client_that_leaves_closes_the_producer(before_the_first: bool) -> None:
    never = asyncio.Event()
    producer = Producer(*([] if before_the_first else [{"a": 1}]), never)
    visit = visiting(producer)
    running = asyncio.create_task(visit.run())
    if before_the_first:
        await asyncio.sleep(0)
    else:
        await visit.sent.wait()
    visit.leave()
    with pytest.raises(ClientGone):
        await running
    assert producer.closed
    assert visit.answer.status == (0 if before_the_first else 200)
    assert not visit.answer.ended


async def test_a_cancelled_stream_closes_the_producer_even_when_cancelled_twice() -> None:
    class Slow(Producer):
        async def events(self) -> AsyncIterator[Any]:
            try:
                yield {"a": 1}
                await asyncio.Event().wait()
            finally:
                await stopping.wait()
                self.closed = True

    stopping = asyncio.Event()
    producer = Slow()
    visit = visiting(producer)
    running = asyncio.create_task(visit.run())
    await visit.sent.wait()
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.sleep(0)
    assert not running.done()
    stopping.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert producer.closed


async def test_a_quiet_stream_is_kept_awake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "QUIET_S", 0.01)
    go_on = asyncio.Event()
    visit = visiting(Producer({"a": 1}, go_on, {"b": 2}))
    running = asyncio.create_task(visit.run())
    while b":" not in [piece[:1] for piece in visit.answer.pieces]:
        visit.sent.clear()
        await visit.sent.wait()
    go_on.set()
    answer = await running
    assert [orjson.loads(event) for event in parsed(answer.body)[:-1]] == [{"a": 1}, {"b": 2}]


async def test_nothing_is_sent_before_the_first_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "QUIET_S", 0.001)
    late = asyncio.Event()
    visit = visiting(Producer(late, InvalidRequest("no")))
    running = asyncio.create_task(visit.run())
    await asyncio.sleep(0.02)  # some beats of the heart, none of which may begin the answer
    late.set()
    with pytest.raises(InvalidRequest):
        await running
    assert visit.answer.status == 0


async def test_a_client_that_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "QUIET_S", 0.01)
    first = asyncio.Event()
    producer = Producer({"a": 1}, first, {"b": 2}, {"c": 3})
    visit = visiting(producer)
    running = asyncio.create_task(visit.run())
    await visit.sent.wait()
    visit.takes.clear()
    first.set()
    with pytest.raises(ClientGone):
        await running
    assert producer.closed
    assert producer.given == 2
