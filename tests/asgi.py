"""A client that calls an ASGI app directly, without a socket, and can leave whenever it likes."""

import asyncio
from collections.abc import Iterable
from typing import Any

import orjson
from starlette.types import ASGIApp, Message

__all__ = ["Answer", "Visit", "visit"]

SHAPE = {"message", "type", "param", "code"}


class Answer:
    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.pieces: list[bytes] = []
        self.ended = False

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """What is inside of an answer of the one error shape, which it must have."""
        assert set(self.json) - {"type"} == {"error"}
        assert self.json.get("type", "error") == "error"  # /v1/messages alone has it: see web.dialects
        assert set(self.json["error"]) == SHAPE
        found: dict[str, Any] = self.json["error"]
        return found


class Visit:
    """One request. `leave` closes the connection; `sent` is set after each piece of the answer."""

    def __init__(
        self, app: ASGIApp, method: str, path: str, body: Iterable[bytes], headers: dict[str, str], host: str
    ) -> None:
        self._app = app
        path, _, query = path.partition("?")
        self._scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path,
            "raw_path": path.encode(), "query_string": query.encode(), "root_path": "", "scheme": "http",
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
            "client": (host, 1), "server": ("127.0.0.1", 80), "state": {},
        }  # fmt: skip
        self._pieces = list(body) or [b""]
        self._left = asyncio.Event()
        self.answer = Answer()
        self.sent = asyncio.Event()
        self.takes = asyncio.Event()
        """Cleared: the client takes nothing, and the server's send waits."""
        self.takes.set()

    def leave(self) -> None:
        self._left.set()

    async def run(self) -> Answer:
        """Until the app has returned; raises what it raises."""
        await self._app(self._scope, self._receive, self._send)
        return self.answer

    async def _receive(self) -> Message:
        if self._pieces:
            body = self._pieces.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(self._pieces)}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        await self.takes.wait()
        if message["type"] == "http.response.start":
            assert not self.answer.status, "the answer begins twice"
            self.answer.status = message["status"]
            self.answer.headers = {name.decode().lower(): value.decode("latin-1") for name, value in message["headers"]}
        else:
            assert self.answer.status, "a body before its head"
            assert not self.answer.ended, "a body after its end"
            self.answer.pieces.append(message.get("body", b""))
            self.answer.ended = not message.get("more_body", False)
        self.sent.set()


async def visit(
    app: ASGIApp,
    method: str,
    path: str,
    *,
    body: Iterable[bytes] = (),
    json: Any = None,
    headers: dict[str, str] | None = None,
    host: str = "127.0.0.1",
) -> Answer:
    """The whole answer of one request."""
    sent = [orjson.dumps(json)] if json is not None else body
    return await Visit(app, method, path, sent, headers or {}, host).run()
