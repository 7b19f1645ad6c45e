"""Asking an upstream session in tests."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson

from dayspring.contracts.engine import LoadOptions
from dayspring.contracts.events import Event, TextDelta, ToolCallDelta, Usage
from dayspring.contracts.models import Ability, Model
from dayspring.contracts.tasks import ChatTask, Task
from dayspring.engines.upstream.session import UpstreamSession
from dayspring.testing.clock import FakeClock


@asynccontextmanager
async def session_for(
    *urls: str,
    clock: FakeClock | None = None,
    secrets: dict[str, str] | None = None,
    target: Any = None,
    **options: Any,
) -> AsyncIterator[UpstreamSession]:
    targets = [{"url": url, "model": "stub", "name": f"t{i}", **(target or {})} for i, url in enumerate(urls)]
    model = Model("m", "upstream", tuple(Ability), options={"targets": targets, **options})
    session = UpstreamSession(model, LoadOptions(secrets=secrets or {}), clock or FakeClock())
    try:
        yield session
    finally:
        await session.close()


def chat(text: str = "hello big world", **more: Any) -> ChatTask:
    return ChatTask(({"role": "user", "content": text},), **more)


async def events_of(session: UpstreamSession, task: Task) -> list[Event]:
    return [event async for event in session.run(task)]


def text_of(events: list[Event], kind: str = "content") -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta) and event.kind == kind)


def usage_of(events: list[Event]) -> Usage:
    assert isinstance(events[-1], Usage)
    assert sum(isinstance(event, Usage) for event in events) == 1
    return events[-1]


def counted(events: list[Event]) -> int:
    return sum(event.tokens for event in events if isinstance(event, TextDelta | ToolCallDelta))


def sse(*pieces: object) -> tuple[bytes, ...]:
    return tuple(b"data: " + (p if isinstance(p, bytes) else orjson.dumps(p)) + b"\n\n" for p in pieces)


def delta(reason: str | None = None, index: int = 0, **fields: Any) -> dict[str, Any]:
    return {"id": "x", "choices": [{"index": index, "delta": fields, "finish_reason": reason}]}
