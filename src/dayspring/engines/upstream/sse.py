"""Server-sent events, read from bytes that may be split anywhere (WHATWG HTML, section 9.2).

Only the `data` of an event is kept: event names, ids and retry times mean nothing in OpenAI's protocol. What holds: any
split of the same bytes gives the same events, in time linear in the bytes; an event is never held beyond the limit. A
last event without its blank line is given by `finish`: the standard would drop it, services forget the line.
"""

__all__ = ["EventReader", "OversizedEventError"]

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class OversizedEventError(ValueError):
    """One event is longer than the reader may hold."""


class EventReader:
    """Feed bytes in, take the `data` of each finished event out. `max_event_bytes` bounds the memory used."""

    def __init__(self, max_event_bytes: int) -> None:
        self._limit = max_event_bytes
        self._line: list[
            bytes
        ] = []  # the parts of the line not ended yet; joined once, so that a long one stays linear
        self._data: list[bytes] = []
        self._held = 0  # bytes in both lists
        self._after_cr = False
        self._first_line = True

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of the events that `chunk` finished. Raises OversizedEventError."""
        events: list[bytes] = []
        if not chunk:
            return events
        if self._after_cr and chunk[0] == 0x0A:
            chunk = chunk[1:]
        if chunk:
            self._after_cr = chunk[-1] == 0x0D
        else:
            self._after_cr = False
        if b"\r" in chunk:
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        first, *others = chunk.split(b"\n")
        self._grow(first)
        for part in others:
            self._end_line(events)
            self._grow(part)
        return events

    def finish(self) -> list[bytes]:
        """The data of an event that the end of the stream cut off before its blank line; empty if there is none."""
        events: list[bytes] = []
        self._end_line(events)
        self._end_event(events)
        return events

    def _grow(self, part: bytes) -> None:
        if part:
            self._line.append(part)
            self._held += len(part)
            if self._held > self._limit:
                raise OversizedEventError

    def _end_line(self, events: list[bytes]) -> None:
        parts = self._line
        line = parts[0] if len(parts) == 1 else b"".join(parts)
        if parts:
            self._line = []
        if self._first_line:
            self._first_line = False
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if not line:
            self._end_event(events)
        elif line.startswith(b"data:"):
            self._data.append(line[6:] if line[5:6] == b" " else line[5:])
        elif line == b"data":
            self._data.append(b"")
        else:
            self._held -= len(line)  # a comment or another field: let go of it

    def _end_event(self, events: list[bytes]) -> None:
        if self._data:
            events.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
            self._data = []
        self._held = 0
