"""Server-sent events: the same bytes give the same events however they are split."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dayspring.engines.upstream.sse import EventReader, OversizedEventError


def slow_twin(stream: bytes) -> list[bytes]:
    """The standard's rules over the whole stream at once, and an event for what the end cuts off."""
    text = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    events: list[bytes] = []
    data: list[bytes] = []
    for line in [*text.split(b"\n"), b""]:
        if not line:
            if data:
                events.append(b"\n".join(data))
            data = []
            continue
        name, _, value = line.partition(b":")
        if name == b"data":
            data.append(value.removeprefix(b" "))
    return events


def read(chunks: list[bytes], limit: int = 1 << 20) -> list[bytes]:
    reader = EventReader(limit)
    return [event for chunk in chunks for event in reader.feed(chunk)] + reader.finish()


FIELDS = (b"data: {}", b"data:", b"data", b"data: x", b"data:  y", b": ping", b"event: e", b"id", b"data: [DONE]")
BREAKS = (b"\n", b"\r\n", b"\r", b"\n\n", b"\xef\xbb\xbf", b"\xff\x00", b"d", b"ata: z\n")
PIECES = st.sampled_from((*FIELDS, *BREAKS))


@given(st.lists(PIECES, max_size=30), st.lists(st.integers(1, 7), max_size=60))
@example([b"data: x", b"\r\n", b"\r\n"], [8, 1, 1])
@example([b"\xef\xbb\xbf", b"data: x", b"\n"], [1, 1, 1])
def test_any_chunking_gives_the_events_of_the_slow_twin(pieces: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(pieces)
    chunks, rest = [], stream
    for cut in cuts:
        chunks.append(rest[:cut])
        rest = rest[cut:]
    assert read([*chunks, rest]) == slow_twin(stream)


def test_data_of_several_lines_is_joined_and_comments_are_dropped() -> None:
    assert read([b": hello\ndata: a\n: between\ndata: b\n\n"]) == [b"a\nb"]


def test_an_event_without_its_last_newline_is_given_at_the_end() -> None:
    assert read([b"data: a\n\ndata: [DONE]"]) == [b"a", b"[DONE]"]


def test_an_event_over_the_limit_is_refused_while_it_comes() -> None:
    reader = EventReader(1000)
    assert [reader.feed(b"data: " + b"x" * 400), reader.feed(b"x" * 400)] == [[], []]
    with pytest.raises(OversizedEventError):
        reader.feed(b"x" * 400)


def test_many_short_lines_of_one_event_count_together() -> None:
    reader = EventReader(1000)
    assert [reader.feed(b"data: 12345\n") for _ in range(90)] == [[]] * 90
    with pytest.raises(OversizedEventError):
        reader.feed(b"data: 12345\n" * 90)


def test_comments_without_end_hold_no_memory() -> None:
    reader = EventReader(1000)
    assert [reader.feed(b": keep alive\n") for _ in range(1000)] == [[]] * 1000
    assert reader.feed(b"data: still here\n\n") == [b"still here"]
