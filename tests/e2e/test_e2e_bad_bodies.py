"""Whatever a client sends, it gets one plain error in the one shape, and the server stays small and well."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import orjson
import pytest

from live import Started

HELLO = {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}
DEEP = b'{"model":"echo","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


async def post(
    started: Started, body: bytes | AsyncIterator[bytes], path: str = "/chat/completions"
) -> tuple[int, dict]:
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {started.key}"}) as session,
        session.post(started.base_url + path, data=body) as response,
    ):
        return response.status, orjson.loads(await response.read())


def resident_bytes(started: Started) -> int:
    pages = int(Path(f"/proc/{started.server.pid}/statm").read_text().split()[1])
    return pages * 4096


BAD = {
    "empty": b"",
    "blank": b"  \n ",
    "truncated": orjson.dumps(HELLO)[:-5],
    "a list": b"[]",
    "a number": b"3",
    "deep nesting": DEEP,
    "invalid UTF-8": b'{"model":"echo","messages":[{"role":"user","content":"\xff\xfe"}]}',
    "a lone surrogate": b'{"model":"echo","messages":[{"role":"user","content":"\\ud800"}]}',
    "a NaN": b'{"model":"echo","temperature":NaN,"messages":[{"role":"user","content":"x"}]}',
    "no messages": b'{"model":"echo"}',
    "messages of the wrong type": b'{"model":"echo","messages":"hi"}',
    "a huge number": b'{"model":"echo","max_tokens":1' + b"0" * 5000 + b',"messages":[{"role":"user","content":"x"}]}',
    "binary": bytes(range(256)) * 20,
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("path", ["/chat/completions", "/completions", "/embeddings"])
async def test_a_bad_body_gets_a_plain_error(echo_server: Started, name: str, path: str) -> None:
    status, answer = await post(echo_server, BAD[name], path)
    assert 400 <= status < 500
    error = answer["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert len(error["message"]) < 500


async def test_a_hundred_megabytes_are_refused_in_bounded_memory(echo_server: Started) -> None:
    before = resident_bytes(echo_server)
    peak = before

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal peak
        yield b'{"model":"echo","messages":[{"role":"user","content":"'
        for _ in range(100):
            yield b"x" * (1 << 20)
            peak = max(peak, resident_bytes(echo_server))

    try:
        status, answer = await post(echo_server, pieces())
    except aiohttp.ClientError:
        pass  # the server closed the connection instead of reading on, as it may
    else:
        assert status == 413
        assert answer["error"]["code"] == "too_large"
    assert peak - before < 48 << 20

    async def announced() -> AsyncIterator[bytes]:
        yield b"x"

    headers = {"Content-Length": str(9 << 20), "Authorization": f"Bearer {echo_server.key}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(echo_server.base_url + "/chat/completions", data=announced()) as response,
    ):
        assert response.status == 413  # before a byte of it was read


async def test_a_prompt_longer_than_the_context_is_refused(echo_server: Started) -> None:
    long = {"model": "echo", "messages": [{"role": "user", "content": "word " * 5000}]}
    status, answer = await post(echo_server, orjson.dumps(long))
    assert (status, answer["error"]["code"]) == (400, "context_length_exceeded")


async def test_unknown_routes_and_methods_have_the_shape(echo_server: Started) -> None:
    async with aiohttp.ClientSession() as session:
        for method, path, expected in (
            ("GET", "/nowhere", 404),
            ("PUT", "/v1/chat/completions", 405),
            ("POST", "/v1/chat/completions", 401),
            ("GET", "/v1/models", 401),
        ):
            async with session.request(method, echo_server.server.url + path) as response:
                assert response.status == expected
                assert set(orjson.loads(await response.read())["error"]) == {"message", "type", "param", "code"}


async def test_many_at_once_are_all_answered(echo_server: Started) -> None:
    answers = await asyncio.gather(*(post(echo_server, orjson.dumps(HELLO)) for _ in range(100)))
    assert [status for status, _ in answers] == [200] * 100
