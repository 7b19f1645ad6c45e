"""Forms as clients make them, in any pieces, and as they never do."""

import asyncio
import contextlib
import itertools
import tracemalloc
from collections.abc import AsyncIterator

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.types import Message

from dayspring.core.errors import Malformed
from dayspring.web.multipart import MAX_FIELD_BYTES, MAX_PARTS, form_parts

KIND = "multipart/form-data; boundary=xyz"


def asked(pieces: list[bytes], kind: str = KIND) -> Request:
    left = iter(pieces)

    async def receive() -> Message:
        piece = next(left, None)
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

    headers = [(b"content-type", kind.encode("latin-1"))]
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


async def read(pieces: list[bytes], kind: str = KIND) -> list[tuple[str, str | None, str, bytes]]:
    return [
        (part.name, part.filename, part.media_type, b"".join([chunk async for chunk in part.chunks()]))
        async for part in form_parts(asked(pieces, kind))
    ]


def form(*parts: tuple[str, bytes], end: bytes = b"--xyz--\r\n") -> bytes:
    return b"".join(b"--xyz\r\n" + head.encode() + b"\r\n\r\n" + body + b"\r\n" for head, body in parts) + end


FIELD = 'Content-Disposition: form-data; name="purpose"'
FILE = 'Content-Disposition: form-data; name="file"; filename="a; b.txt"\r\nContent-Type: text/plain; charset=utf-8'
GOOD = form((FIELD, b"batch"), (FILE, b"--xyz is no boundary\r\n--xy\r\n\r\n"))
WANTED = [("purpose", None, "", b"batch"), ("file", "a; b.txt", "text/plain", b"--xyz is no boundary\r\n--xy\r\n\r\n")]


@given(st.lists(st.integers(0, len(GOOD)), max_size=8))
def test_a_form_is_the_same_in_any_pieces(cuts: list[int]) -> None:
    places = sorted({0, len(GOOD), *cuts})
    pieces = [GOOD[a:b] for a, b in itertools.pairwise(places)]
    assert asyncio.run(read(pieces)) == WANTED


@given(st.binary(max_size=300), st.integers(1, 64))
def test_any_content_comes_out_as_it_went_in(content: bytes, step: int) -> None:
    if b"\r\n--xyz" in b"\r\n" + content:
        return
    sent = form((FILE, content))
    pieces = [sent[place : place + step] for place in range(0, len(sent), step)]
    assert asyncio.run(read(pieces))[0][3] == content


async def test_a_form_of_a_real_client_is_read() -> None:
    data = aiohttp.FormData(quote_fields=False)
    data.add_field("purpose", "user_data")
    data.add_field("file", bytes(70_000), filename="模型.bin", content_type="application/octet-stream")
    payload = data()

    class Writer:
        sent = bytearray()

        async def write(self, chunk: bytes) -> None:
            self.sent += chunk

    writer = Writer()
    await payload.write(writer)  # type: ignore[arg-type]
    found = await read([bytes(writer.sent)], payload.headers["Content-Type"])
    assert found[0] == ("purpose", None, "text/plain", b"user_data")
    assert found[1] == ("file", "模型.bin", "application/octet-stream", bytes(70_000))


async def test_a_part_that_nobody_reads_is_passed_over() -> None:
    names = [part.name async for part in form_parts(asked([GOOD]))]
    assert names == ["purpose", "file"]


async def test_memory_holds_a_piece_and_not_the_file() -> None:
    head = form((FILE, b""), end=b"")[:-2]

    async def pieces() -> AsyncIterator[bytes]:
        yield head
        for _ in range(1000):
            yield bytes(1 << 16)
        yield b"\r\n--xyz--\r\n"

    left = pieces()

    async def receive() -> Message:
        piece = await anext(left, None)
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", KIND.encode())]}
    size = 0
    tracemalloc.start()
    async for part in form_parts(Request(scope, receive)):
        async for chunk in part.chunks():
            size += len(chunk)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size == 1000 << 16
    assert peak < 2 << 20


BAD = {
    "nothing": b"",
    "cut in a file": GOOD[:-20],
    "cut in a head": GOOD[:30],
    "no closing boundary": form((FIELD, b"batch"), end=b""),
    "another boundary": GOOD.replace(b"xyz", b"abc"),
    "no boundary": b"purpose=batch",
    "no name": form(("Content-Disposition: form-data", b"a")),
    "no disposition": form(("Content-Type: text/plain", b"a")),
    "another disposition": form(('Content-Disposition: attachment; name="a"', b"a")),
    "a long name": form((f'Content-Disposition: form-data; name="{"a" * 300}"', b"a")),
    "a long file name": form((f'Content-Disposition: form-data; name="a"; filename="{"a" * 2000}"', b"a")),
    "a long header": form((FIELD + "\r\nX-A: " + "a" * 10_000, b"a")),
    "many headers": form((FIELD + "\r\nX-A: a" * 20, b"a")),
    "many parts": form(*[(FIELD, b"a")] * (MAX_PARTS + 1)),
}


@pytest.mark.parametrize("which", BAD)
@pytest.mark.parametrize("step", [1, 1 << 20])
async def test_what_is_no_form_is_malformed(which: str, step: int) -> None:
    sent = BAD[which]
    with pytest.raises(Malformed):
        await read([sent[place : place + step] for place in range(0, len(sent), step)])


@pytest.mark.parametrize(
    "kind",
    ["", "application/json", "multipart/form-data", "multipart/form-data; boundary=", "multipart/mixed; boundary=xyz",
     "multipart/form-data; boundary=" + "a" * 71, "multipart/form-data; boundary=é"],
)  # fmt: skip
async def test_a_content_type_without_a_usable_boundary_is_malformed(kind: str) -> None:
    with pytest.raises(Malformed):
        await read([GOOD], kind)


async def test_a_field_is_bounded_and_text() -> None:
    for content in (b"a" * (MAX_FIELD_BYTES + 1), b"\xff\xfe"):
        part = await anext(form_parts(asked([form((FIELD, content))])))
        with pytest.raises(Malformed) as caught:
            await part.text()
        assert caught.value.param == "purpose"
    async for part in form_parts(asked([form((FIELD, "批".encode()))])):
        assert await part.text() == "批"


@given(st.binary(max_size=400))
def test_no_bytes_do_anything_but_parse_or_be_malformed(sent: bytes) -> None:
    for body in (sent, b"--xyz\r\n" + sent, GOOD[:100] + sent):
        with contextlib.suppress(Malformed):
            asyncio.run(read([body]))
