"""One wire shape for every error, whatever raised it and wherever."""

import asyncio
import inspect
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from asgi import SHAPE, Answer, Visit, visit
from dayspring.chat.bodies import ChatCompletionBody
from dayspring.core import errors as tree
from dayspring.core.errors import DayspringError, Defect, PromptOverLimit
from dayspring.core.settings import Settings
from dayspring.web import errors
from dayspring.web.body import read_body
from dayspring.web.edge.entry import Entry
from dayspring.web.middleware import RequestFrame
from dayspring.web.sse import unless_client_leaves

FACTS: dict[str, Any] = {
    "message": "m.", "reason": "r.", "remedy": "Do this.", "param": "p", "model": "m", "prompt_tokens": 9,
    "context_tokens": 4, "what": "It", "limit_bytes": 5, "setting": "DAYSPRING_X", "file": "f", "rule": "r",
    "kind": "model", "identifier": "x", "request_id": "req_1", "left": "0.00 USD", "bound": "1.00 USD",
    "retry_after_s": 1.5, "needed_bytes": 1 << 30, "free_bytes": 1 << 20, "limit_s": 3, "input_tokens": 7,
    "host": "other.example", "quota_bytes": 1 << 30, "size_bytes": 9, "owner": "the key key_1",
}  # fmt: skip


def made(kind: type[DayspringError]) -> DayspringError:
    """One of the class, from whatever facts it takes."""
    wanted = inspect.signature(kind.__init__).parameters
    needed = {
        name: FACTS[name]
        for name, parameter in wanted.items()
        if name != "self" and (parameter.default is parameter.empty or name in ("retry_after_s", "request_id"))
    }
    return kind(**needed)


class Seen:
    """What the frame observed."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, int]] = []

    def __call__(self, method: str, route: str, status: int, seconds: float) -> None:
        self.requests.append((method, route, status))


def framed(work: Callable[[Request], Awaitable[Response]], *, limit: int = 1000) -> tuple[FastAPI, Seen]:
    """An app of one route, as the server frames its own."""
    seen = Seen()
    frame = Middleware(RequestFrame, entry=Entry(Settings()), max_body_bytes=limit, observe=seen)
    app = FastAPI(redirect_slashes=False, middleware=[frame])
    errors.install(app)
    app.add_api_route("/work/{name}", work, methods=["POST"], response_model=None)
    return app, seen


def raising(error: BaseException) -> Callable[[Request], Awaitable[Response]]:
    async def work(request: Request) -> Response:
        raise error

    return work


@pytest.mark.parametrize("kind", tree.tree(), ids=lambda kind: kind.__name__)
async def test_every_error_of_the_tree_has_the_shape(kind: type[DayspringError]) -> None:
    error = made(kind)
    app, seen = framed(raising(error))
    answer = await visit(app, "POST", "/work/x")
    assert answer.status == kind.status
    assert answer.error == {"message": error.message, "type": kind.type, "param": error.param, "code": kind.code}
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"].startswith("req_")
    assert ("www-authenticate" in answer.headers) == (kind.status == 401)
    assert ("retry-after" in answer.headers) == (error.retry_after_s is not None)
    assert seen.requests == [("POST", "/work/{name}", kind.status)]
    if kind not in (PromptOverLimit, DayspringError):
        assert error.message.endswith(".")


async def test_a_spent_budget_is_not_to_be_tried_again() -> None:
    app, _ = framed(raising(made(tree.InsufficientQuota)))
    assert (await visit(app, "POST", "/work/x")).headers["x-should-retry"] == "false"


async def test_a_foreign_exception_leaves_nothing_but_its_requests_id(caplog: pytest.LogCaptureFixture) -> None:
    app, _ = framed(raising(RuntimeError("a secret at /some/where")))
    answer = await visit(app, "POST", "/work/x")
    assert (answer.status, answer.error["code"]) == (500, Defect.code)
    assert answer.headers["x-request-id"] in answer.error["message"]
    assert b"secret" not in answer.body
    assert "a secret" in caplog.text


@pytest.mark.parametrize(
    ("method", "path", "status", "label"),
    [
        ("GET", "/nowhere", 404, "unmatched"),
        ("GET", "/work/a", 405, "/work/{name}"),
        ("BREW", "/work/a", 405, "/work/{name}"),
    ],
)
async def test_what_has_no_route_has_the_shape(method: str, path: str, status: int, label: str) -> None:
    app, seen = framed(raising(RuntimeError()))
    answer = await visit(app, method, path)
    assert (answer.status, set(answer.error)) == (status, SHAPE)
    assert seen.requests == [(method, label, status)]


async def _echo(request: Request) -> Response:
    body = await read_body(request, ChatCompletionBody)
    return Response(body.model)


GOOD = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'


@given(cuts=st.lists(st.integers(0, len(GOOD)), max_size=4))
def test_a_body_in_pieces_is_one_body(cuts: list[int]) -> None:
    places = sorted({0, len(GOOD), *cuts})
    app, _ = framed(_echo)
    pieces = [GOOD[a:b] for a, b in itertools.pairwise(places)]
    answer = asyncio.run(visit(app, "POST", "/work/x", body=pieces))
    assert (answer.status, answer.body) == (200, b"m")


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_over_the_limit_is_refused_before_it_is_held(announced: bool) -> None:
    app, seen = framed(_echo)
    headers = {"content-length": "30000"} if announced else {}
    visiting = Visit(app, "POST", "/work/x", [b" " * 300] * 100, headers, "127.0.0.1")
    answer = await visiting.run()
    assert (answer.status, answer.error["code"]) == (413, "too_large")
    assert len(visiting._pieces) >= 96  # four of them are over the limit
    assert seen.requests[0][2] == 413


@pytest.mark.parametrize(
    "body",
    [
        b"", b" ", b"{", b"[]", b"null", b"NaN", GOOD + b"x", GOOD + GOOD, GOOD[:-1], b"\xff\xfe", b"[" * 5000,
        b'{"model":"m","messages":[{"role":"user","content":[{"type":"' + b"x" * 500 + b'"}]}]}',
        b'{"model":"m","messages":[{"role":"' + b"y" * 500 + b'","content":"x"}]}',
        b'{"model":{"deep":1},"messages":[]}',
    ],
)  # fmt: skip
async def test_a_body_that_cannot_be_read_is_a_short_400(body: bytes) -> None:
    app, _ = framed(_echo, limit=100_000)
    answer = await visit(app, "POST", "/work/x", body=[body])
    assert (answer.status, answer.error["type"]) == (400, "invalid_request_error")
    assert len(answer.error["message"]) < 400
    assert "xxxx" not in answer.error["message"]
    assert "yyyy" not in answer.error["message"]


async def test_a_client_that_leaves_a_whole_answer_stops_the_work_and_is_no_fault(
    caplog: pytest.LogCaptureFixture,
) -> None:
    began, stopped = asyncio.Event(), asyncio.Event()

    async def forever() -> None:
        try:
            began.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            stopped.set()

    async def work(request: Request) -> Response:
        await request.body()
        await unless_client_leaves(request, forever())
        return Response("never")

    app, seen = framed(work)
    visiting = Visit(app, "POST", "/work/x", [GOOD], {}, "127.0.0.1")
    running = asyncio.create_task(visiting.run())
    await began.wait()
    visiting.leave()
    answer: Answer = await running
    assert answer.status == 0
    assert stopped.is_set()
    assert seen.requests == [("POST", "/work/{name}", 499)]
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_work_that_is_done_is_answered_though_nobody_left() -> None:
    async def work(request: Request) -> Response:
        return Response(await unless_client_leaves(request, asyncio.sleep(0, "done")))

    app, _ = framed(work)
    assert (await visit(app, "POST", "/work/x")).body == b"done"


async def test_only_a_harmless_client_id_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="dayspring.access")
    app, _ = framed(raising(RuntimeError()))
    await visit(app, "GET", "/", headers={"x-client-request-id": "abc-1"})
    await visit(app, "GET", "/", headers={"x-client-request-id": "a b\nc"})
    clients = [getattr(record, "client", None) for record in caplog.records]
    assert clients == ["abc-1", None]
