"""Answering a request for a file as a plain file server does: whole, or a range of it."""

from aiohttp import web


def ranged(request: web.Request, data: bytes, headers: dict[str, str] | None = None) -> web.Response:
    if "Range" not in request.headers:
        return web.Response(body=data, headers={**(headers or {}), "ETag": '"e"'})
    asked = request.http_range
    start, stop = asked.start or 0, min(asked.stop or len(data), len(data))
    content = {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"}
    return web.Response(status=206, body=data[start:stop], headers={**(headers or {}), **content})
