"""A fake OpenAI-compatible service on loopback, for tests: it speaks the real protocol and fails as it is told.

    async with FakeUpstream() as fake:
        fake.script(Reply(status=503), Reply())   # the first request fails, the second is answered
        ... ask fake.url ...
        assert fake.seen[0].body["model"] == "stub"

Its model says the last message again, as the echo engine does: one word is one token, the answer to the same request
is the same, `max_tokens`, `stop`, `n`, logprobs and embeddings are honoured, tools are called when the last message
says "call NAME", and a JSON schema is answered with its `const`. It waits for nothing but the events it is given.
"""

import asyncio
import base64
import hashlib
import math
import struct
from collections import deque
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self

import msgspec
import orjson
from aiohttp import web

from dayspring.testing.echo import words

__all__ = ["FakeUpstream", "Reply", "Seen"]

DIMENSIONS = 8


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """How one request is answered. All defaults: as the fake's model answers it."""

    status: int = 200
    headers: Mapping[str, str] = {}
    body: bytes | None = None
    """Sent as it is, instead of the model's answer."""
    pieces: tuple[bytes | asyncio.Event, ...] | None = None
    """Sent one by one, each in its own write, instead of the model's answer; an Event is waited for."""
    before_head: asyncio.Event | None = None
    """Waited for before anything is sent."""
    before_token: asyncio.Event | None = None
    """Waited for before each token of a stream after the first."""
    drop: bool = False
    """Close the connection before anything is sent."""
    cut: bool = False
    """End by closing the connection in the middle of the answer."""
    usage: bool = True
    """Report usage."""
    group: int = 1
    """Tokens in each piece of a stream."""


class Seen(msgspec.Struct, frozen=True):
    """One request that came."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]
    peer: tuple[str, int]
    """Address of the connection it came by."""


class FakeUpstream:
    """A server in the running loop. `key`: the one that is accepted, if any; `context_tokens`: as a model has them."""

    def __init__(self, *, key: str | None = None, context_tokens: int = 0) -> None:
        self.key = key
        self.context_tokens = context_tokens
        self.seen: list[Seen] = []
        self.arrived = asyncio.Event()
        """Set when a request has come."""
        self.left = asyncio.Event()
        """Set when a client went away before its answer was complete."""
        self.url = ""
        """What stands before `/chat/completions`; known once started."""
        self._replies: deque[Reply] = deque()
        self.application = web.Application(client_max_size=64 << 20)
        self.application.router.add_post("/v1/{task:.+}", self._serve)
        self._runner = web.AppRunner(self.application, handler_cancellation=True, shutdown_timeout=0)

    def script(self, *replies: Reply) -> None:
        """Answers for the next requests, in order; after them the model answers."""
        self._replies.extend(replies)

    async def __aenter__(self) -> Self:
        await self.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self

    async def setup(self) -> web.AppRunner:
        """All but a place to listen on, for a stand-in that has its own."""
        await self._runner.setup()
        return self._runner

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        peer = request.transport.get_extra_info("peername") if request.transport else ("", 0)
        self.seen.append(Seen(request.path, dict(request.headers), body, peer[:2]))
        self.arrived.set()
        reply = self._replies.popleft() if self._replies else Reply()
        try:
            if reply.before_head is not None:
                await reply.before_head.wait()
            return await self._answer(request, reply, body)
        except (asyncio.CancelledError, ConnectionError):
            self.left.set()
            raise

    async def _answer(self, request: web.Request, reply: Reply, body: dict[str, Any]) -> web.StreamResponse:
        if reply.drop and request.transport is not None:
            request.transport.close()
            return web.StreamResponse()
        if reply.pieces is not None:
            return await self._send(request, reply, _given(reply.pieces), "text/event-stream")
        if reply.body is not None or reply.status != 200:
            content = reply.body if reply.body is not None else _error("server_error", None)
            return await self._send(request, reply, _given((content,)), "application/json", len(content))
        if self.key is not None and request.headers.get("Authorization") != f"Bearer {self.key}":
            return web.Response(status=401, body=_error("invalid_api_key", None), content_type="application/json")
        task = request.match_info["task"]
        if self.context_tokens and len(_prompt(task, body)) > self.context_tokens:
            refused = _error("context_length_exceeded", "messages")
            return web.Response(status=400, body=refused, content_type="application/json")
        if task == "embeddings":
            content = orjson.dumps(_embeddings(body))
        elif task == "rerank":
            content = orjson.dumps(_ranking(body))
        elif body.get("stream"):
            return await self._send(request, reply, _stream(task, body, reply), "text/event-stream")
        else:
            content = orjson.dumps(_whole(task, body, reply))
        return await self._send(request, reply, _given((content,)), "application/json", len(content))

    async def _send(
        self, request: web.Request, reply: Reply, pieces: AsyncIterator[bytes], media: str, length: int | None = None
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=reply.status, headers={"Content-Type": media, **reply.headers})
        # A reply that is cut promises more than it sends, so that its reader can tell.
        response.content_length = length + 1 if reply.cut and length is not None else length
        await response.prepare(request)
        async for piece in pieces:
            await response.write(piece)
        if reply.cut and request.transport is not None:
            request.transport.close()
            return response
        await response.write_eof()
        return response


async def _given(pieces: tuple[bytes | asyncio.Event, ...]) -> AsyncIterator[bytes]:
    for piece in pieces:
        if isinstance(piece, asyncio.Event):
            await piece.wait()
        else:
            yield piece


def _error(code: str, param: str | None) -> bytes:
    # The text is one that must never reach a client.
    return orjson.dumps({"error": {"message": "INTERNAL upstream text", "type": "x", "code": code, "param": param}})


def _prompt(task: str, body: dict[str, Any]) -> list[str]:
    """Every token that is read."""
    if task == "chat/completions":
        return [word for message in body["messages"] for word in words(_text(message.get("content")))]
    if task == "rerank":
        return [word for document in body["documents"] for word in words(f"{body['query']}\n{document}")]
    given = body["prompt"] if task == "completions" else body["input"]
    given = given if isinstance(given, list) and not all(isinstance(one, int) for one in given) else [given]
    return [word for one in given for word in words(one if isinstance(one, str) else " ".join(map(str, one)))]


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content or ())


def _answers(task: str, body: dict[str, Any]) -> list[str]:
    """The text of each choice, before its limit."""
    if task == "chat/completions":
        schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
        said = _text(body["messages"][-1].get("content"))
        texts = [orjson.dumps(schema.get("const", {})).decode() if schema is not None else said]
    else:
        prompts = body["prompt"]
        texts = prompts if isinstance(prompts, list) and isinstance(prompts[0], str | list) else [prompts]
        texts = [one if isinstance(one, str) else " ".join(map(str, one)) for one in texts]
    return [text for text in texts for _ in range(body.get("n", 1))]


def _limited(text: str, body: dict[str, Any]) -> tuple[list[str], str]:
    """Tokens and the reason they end."""
    stops = body.get("stop") or []
    ends = [at for stop in ([stops] if isinstance(stops, str) else stops) if (at := text.find(stop)) >= 0]
    tokens = words(text[: min(ends)] if ends else text)
    most = body.get("max_tokens", body.get("max_completion_tokens"))
    return (tokens, "stop") if most is None or len(tokens) <= most else (tokens[:most], "length")


def _usage(task: str, body: dict[str, Any], output: int) -> dict[str, Any]:
    prompt = len(_prompt(task, body))
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": prompt // 2},
    }


def _logprobs(tokens: list[str], body: dict[str, Any]) -> dict[str, Any] | None:
    asked = body.get("logprobs")
    if asked is None or asked is False:
        return None
    if asked is True:
        most = body.get("top_logprobs", 0)
        return {"content": [_logprob(token, most) for token in tokens]}
    return {
        "tokens": tokens,
        "token_logprobs": [0.0] * len(tokens),
        "top_logprobs": [{token: 0.0} for token in tokens] if asked else None,
        "text_offset": [0] * len(tokens),
    }


def _logprob(token: str, most: int) -> dict[str, Any]:
    top = [{"token": token, "logprob": 0.0}][:most]
    return {"token": token, "logprob": 0.0, "bytes": list(token.encode()), "top_logprobs": top}


def _tool_call(task: str, body: dict[str, Any], text: str) -> dict[str, Any] | None:
    names = [tool["function"]["name"] for tool in body.get("tools", ())] if task == "chat/completions" else []
    said = text.split()
    if len(said) == 2 and said[0] == "call" and said[1] in names:
        return {"id": "call_1", "type": "function", "function": {"name": said[1], "arguments": '{"a":1}'}}
    return None


def _head(task: str, body: dict[str, Any], kind: str) -> dict[str, Any]:
    chat = task == "chat/completions"
    return {"id": "fake-1", "object": f"chat.completion{kind}" if chat else "text_completion", "created": 1_700_000_000,
            "model": body["model"], "system_fingerprint": "fp_fake"}  # fmt: skip


def _whole(task: str, body: dict[str, Any], reply: Reply) -> dict[str, Any]:
    choices: list[dict[str, Any]] = []
    output = 0
    for index, text in enumerate(_answers(task, body)):
        tokens, reason = _limited(text, body)
        output += len(tokens)
        choice: dict[str, Any] = {"index": index, "finish_reason": reason, "logprobs": _logprobs(tokens, body)}
        if called := _tool_call(task, body, text):
            choice["message"] = {"role": "assistant", "content": None, "tool_calls": [called]}
            choice["finish_reason"] = "tool_calls"
        elif task == "chat/completions":
            choice["message"] = {"role": "assistant", "content": "".join(tokens), "refusal": None}
        else:
            choice["text"] = (text if body.get("echo") else "") + "".join(tokens)
        choices.append(choice)
    answer = {**_head(task, body, ""), "choices": choices}
    if reply.usage:
        answer["usage"] = _usage(task, body, output)
    return answer


async def _stream(task: str, body: dict[str, Any], reply: Reply) -> AsyncIterator[bytes]:
    head = _head(task, body, ".chunk")
    chat = task == "chat/completions"
    output = 0

    def piece(choices: list[dict[str, Any]], **more: Any) -> bytes:
        return b"data: " + orjson.dumps({**head, "choices": choices, **more}) + b"\n\n"

    for index, text in enumerate(_answers(task, body)):
        tokens, reason = _limited(text, body)
        if chat:
            yield piece([{"index": index, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
        elif body.get("echo"):
            yield piece([{"index": index, "text": text, "finish_reason": None}])
        if called := _tool_call(task, body, text):
            opening = {"index": 0, **called, "function": {**called["function"], "arguments": ""}}
            yield piece([{"index": index, "delta": {"tool_calls": [opening]}, "finish_reason": None}])
            tokens, reason = [called["function"]["arguments"]], "tool_calls"
        for at in range(0, len(tokens), reply.group):
            if reply.before_token is not None and output:
                await reply.before_token.wait()
            several = tokens[at : at + reply.group]
            output += len(several)
            token = "".join(several)
            delta: dict[str, Any] = {"text": token}
            if called:
                delta = {"delta": {"tool_calls": [{"index": 0, "function": {"arguments": token}}]}}
            elif chat:
                delta = {"delta": {"content": token}}
            choice = {"index": index, **delta, "finish_reason": None, "logprobs": _logprobs(several, body)}
            yield piece([choice], **_so_far(task, body, at + len(several)))
        last: dict[str, Any] = {"delta": {}} if chat else {"text": ""}
        yield piece([{"index": index, **last, "finish_reason": reason}], **_so_far(task, body, len(tokens)))
    if reply.usage and body.get("stream_options", {}).get("include_usage"):
        yield piece([], usage=_usage(task, body, output))
    yield b"data: [DONE]\n\n"


def _so_far(task: str, body: dict[str, Any], output: int) -> dict[str, Any]:
    """What a piece tells of its own choice, where that is asked for: all but what was cached, as vLLM does."""
    if not body.get("stream_options", {}).get("continuous_usage_stats"):
        return {}
    usage = _usage(task, body, output)
    del usage["prompt_tokens_details"]
    return {"usage": usage}


def _embeddings(body: dict[str, Any]) -> dict[str, Any]:
    given = body["input"]
    given = given if isinstance(given, list) and not all(isinstance(one, int) for one in given) else [given]
    data: list[dict[str, Any]] = []
    for index, one in enumerate(given):
        vector = _vector(orjson.dumps(one), body.get("dimensions") or DIMENSIONS)
        packed = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
        wanted: str | list[float] = packed if body.get("encoding_format") == "base64" else vector
        data.append({"object": "embedding", "index": index, "embedding": wanted})
    tokens = len(_prompt("embeddings", body))
    return {"object": "list", "model": body["model"], "data": data,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}  # fmt: skip


def _ranking(body: dict[str, Any]) -> dict[str, Any]:
    """Best first, as such services answer: the part of both's words that are in both."""
    asked = {*body["query"].split()}
    scores = [len(asked & {*one.split()}) / len(asked | {*one.split()}) for one in body["documents"]]
    order = sorted(range(len(scores)), key=lambda place: -scores[place])
    results = [{"index": place, "relevance_score": scores[place]} for place in order]
    return {"id": "fake-1", "results": results, "usage": {"total_tokens": len(_prompt("rerank", body))}}


def _vector(seed: bytes, dimensions: int) -> list[float]:
    values = [byte - 127.5 for byte in hashlib.shake_256(seed).digest(dimensions)]
    length = math.hypot(*values)
    return [value / length for value in values]
