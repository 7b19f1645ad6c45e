"""The Range header of a request for a file: one range of bytes (RFC 9110, section 14).

What holds: what is no range of bytes, and several at once, are answered with the whole, as the standard lets a server
do. What it does not do: If-Range. There is nothing here to compare it with, so a request that has it gets the whole.
"""

import re

from starlette.requests import Request

from dayspring.core.errors import OutOfRange

__all__ = ["span_asked"]

_ONE = re.compile(r"bytes=\s*([0-9]{0,18})-([0-9]{0,18})\s*", re.IGNORECASE)


def span_asked(request: Request, size_bytes: int) -> tuple[int, int] | None:
    """Where the part that is asked for begins and where it has ended; None: all. Raises OutOfRange."""
    asked = _ONE.fullmatch(request.headers.get("range", ""))
    if asked is None or "if-range" in request.headers or len(request.headers.getlist("range")) > 1:
        return None
    first, last = asked.groups()
    if not first and not last:
        return None
    if first and last and int(last) < int(first):
        return None
    start = int(first) if first else max(0, size_bytes - int(last))
    if start >= size_bytes:
        raise OutOfRange(size_bytes)
    return start, min(size_bytes, int(last) + 1) if first and last else size_bytes
