"""The stub upstream: a bare ASGI function that reads the body and returns a 300-byte chat completion."""

from collections.abc import Awaitable, Callable
from typing import Any

BODY = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"stub","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"Hello! How may I help you on this fine new day?"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":14,"completion_tokens":12,"total_tokens":26}}'
).ljust(300)

_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(BODY)).encode())],
}
_BODY = {"type": "http.response.body", "body": BODY}


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await send(_START)
    await send(_BODY)
