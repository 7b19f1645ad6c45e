"""Reading `multipart/form-data` as it arrives: a part at a time, a piece at a time, nothing kept.

What holds: however large an upload is, memory holds one piece of it; fields, headers and their number are bounded; what
is cut off in the middle is a Malformed, never a short file.
What it does not do: bound the whole. The frame does, by the route's limit (`web.body.body_limits`).
"""

from collections import deque
from collections.abc import AsyncIterator

import msgspec
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from dayspring.core.errors import Malformed

__all__ = ["Part", "form_parts"]

MAX_PARTS = 64
MAX_PART_HEADERS = 8
MAX_HEADER_BYTES = 4096
MAX_FIELD_BYTES = 64 << 10
MAX_NAME_CHARACTERS = 200
MAX_FILENAME_CHARACTERS = 1024

_REMEDY = "Send multipart/form-data as every HTTP client makes it."


class _Begin(msgspec.Struct, frozen=True):
    name: str
    filename: str | None
    media_type: str


class _End(msgspec.Struct, frozen=True):
    pass


class Part:
    """One field, or one file when `filename` is not None. Read it before the next is asked for, or skip it."""

    def __init__(self, begin: _Begin, events: "_Events") -> None:
        self.name = begin.name
        self.filename = begin.filename
        self.media_type = begin.media_type
        """What the client says the content is: not to be believed."""
        self._events = events
        self._ended = False

    async def chunks(self) -> AsyncIterator[bytes]:
        """The content, as it arrives. Raises Malformed when it ends early."""
        while not self._ended:
            event = await self._events.next()
            if isinstance(event, bytes):
                yield event
            else:
                self._ended = True

    async def text(self, limit_bytes: int = MAX_FIELD_BYTES) -> str:
        """The whole content of a field. Raises Malformed over the limit or when it is not UTF-8."""
        content = bytearray()
        async for chunk in self.chunks():
            content += chunk
            if len(content) > limit_bytes:
                raise Malformed(f"it is over {limit_bytes} bytes. Send a shorter field.", location=self.name)
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise Malformed("it is not UTF-8 text. Correct it and send it again.", location=self.name) from None


async def form_parts(request: Request) -> AsyncIterator[Part]:
    """The parts in the order they were sent. Raises Malformed."""
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 1 <= len(boundary) <= 70:
        raise Malformed(f"the body is not multipart/form-data with a boundary. {_REMEDY}")
    events = _Events(request, boundary)
    while (begin := await events.begin()) is not None:
        part = Part(begin, events)
        yield part
        async for _ in part.chunks():  # what nobody read
            pass


class _Events:
    """The parser's callbacks as a queue that the next piece of the body fills."""

    def __init__(self, request: Request, boundary: bytes) -> None:
        self._stream = request.stream()
        self._queue: deque[_Begin | bytearray | _End] = deque()
        self._headers: list[tuple[bytearray, bytearray]] = []
        self._parts = 0
        self._complete = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part,
                "on_header_begin": lambda: self._headers.append((bytearray(), bytearray())),
                "on_header_field": lambda data, start, end: self._headers[-1][0].extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._headers[-1][1].extend(data[start:end]),
                "on_headers_finished": self._on_headers,
                "on_part_data": self._on_data,
                "on_part_end": lambda: self._queue.append(_End()),
                "on_end": self._on_end,
            },
            max_header_count=MAX_PART_HEADERS,
            max_header_size=MAX_HEADER_BYTES,
        )

    async def begin(self) -> _Begin | None:
        """The next part's beginning; None after the last."""
        event = await self._take()
        if event is None or isinstance(event, _Begin):
            return event
        raise Malformed(f"its parts are out of order. {_REMEDY}")

    async def next(self) -> bytes | _End:
        """The next piece of the part, or its end."""
        event = await self._take()
        if isinstance(event, bytearray):
            return bytes(event)
        if isinstance(event, _End):
            return event
        raise Malformed(f"it ends before its last part does. {_REMEDY}")

    async def _take(self) -> _Begin | bytearray | _End | None:
        while not self._queue:
            piece = await anext(self._stream, None)
            if piece is None:
                if self._complete:
                    return None
                raise Malformed(f"it ends before its closing boundary. {_REMEDY}")
            self._feed(piece)
        return self._queue.popleft()

    def _feed(self, piece: bytes) -> None:
        if self._complete or not piece:
            return  # an epilogue is to be ignored: RFC 2046, 5.1.1
        try:
            self._parser.write(piece)
        except FormParserError:
            raise Malformed(f"it is not well-formed multipart/form-data. {_REMEDY}") from None

    def _on_part(self) -> None:
        self._headers.clear()
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise Malformed(f"it has over {MAX_PARTS} parts. Send fewer.")

    def _on_headers(self) -> None:
        headers = {bytes(name).lower(): bytes(value).decode("latin-1") for name, value in self._headers}
        kind, options = parse_options_header(headers.get(b"content-disposition", ""))
        name, filename = _text(options.get(b"name")), _text(options.get(b"filename"))
        if kind != b"form-data" or not name or len(name) > MAX_NAME_CHARACTERS:
            raise Malformed(f"one of its parts has no name. {_REMEDY}")
        if filename is not None and len(filename) > MAX_FILENAME_CHARACTERS:
            raise Malformed(f"its file name is over {MAX_FILENAME_CHARACTERS} characters.", location=name)
        media_type = parse_options_header(headers.get(b"content-type", ""))[0].decode("latin-1")
        self._queue.append(_Begin(name, filename, media_type))

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        """Joined to what came just before: content full of line ends comes a few bytes at a time."""
        last = self._queue[-1] if self._queue else None
        if isinstance(last, bytearray):
            last += data[start:end]
        else:
            self._queue.append(bytearray(data[start:end]))

    def _on_end(self) -> None:
        self._complete = True


def _text(raw: bytes | None) -> str | None:
    """A parameter, which browsers send as UTF-8 and the parser gives as Latin-1 bytes."""
    return None if raw is None else raw.decode("utf-8", "replace")
