"""Pictures on their way in: told by content, bounded before anything decodes them, fetched by nobody but the server."""

import asyncio
import base64
import io
import struct
import zlib
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dayspring.contracts.models import Ability, Modality, Model
from dayspring.contracts.tasks import ChatTask
from dayspring.core.errors import InvalidRequest, UnsupportedParameter
from dayspring.core.pictures import MAX_PIXELS, MAX_SIDE, Picture, as_data_url, from_data_url, read_picture
from dayspring.dispatch import bounds, pictures
from dayspring.dispatch.pictures import MAX_PICTURES, Pictures
from dayspring.engines.llamacpp.pictures import plain_picture
from dayspring.net.fetcher import Fetcher
from tiny_models import png

SEEING = Model("m", "e", (Ability.CHAT,), reads=(Modality.IMAGE,), picture_tokens=100)
BLIND = Model("m", "e", (Ability.CHAT,))
RED = png((255, 0, 0))


def packed(kind: str, mode: str = "RGB", size: tuple[int, int] = (31, 17), **options: object) -> bytes:
    made = io.BytesIO()
    Image.new(mode, size, 128 if mode in ("L", "I;16") else None).save(made, kind, **options)
    return made.getvalue()


def show(*urls: str) -> ChatTask:
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return ChatTask(({"role": "user", "content": [{"type": "text", "text": "look"}, *parts]},))


def url_of(task: ChatTask, part: int = 1) -> str:
    return str(task.messages[0]["content"][part]["image_url"]["url"])


def head_of(width: int, height: int) -> bytes:
    """A PNG's first bytes, as large as they say."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (packed("PNG"), "image/png"),
        (packed("GIF", "L"), "image/gif"),
        (packed("JPEG"), "image/jpeg"),
        (packed("JPEG", progressive=True), "image/jpeg"),
        (packed("WEBP"), "image/webp"),
        (packed("WEBP", lossless=True), "image/webp"),
        (packed("WEBP", "RGBA", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0"), "image/webp"),
    ],
)
def test_type_and_size_are_read_from_the_content(data: bytes, media_type: str) -> None:
    assert read_picture(data) == Picture(media_type, 31, 17)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "no picture of a known type"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\n <?xml version='1.0'?><svg/>", "SVG"),
        (b"%PDF-1.7", "no picture"),
        (b"BM" + bytes(60), "no picture"),
        (b"\x89PNG\r\n\x1a\n", "no picture"),
        (b"\xff\xd8\xff" + b"\xff\xe0\x00\x04ab" * 3, "no picture"),
        (b"\xff\xd8\xff\xe0\x00\x00", "no picture"),
        (head_of(0, 5), "no size"),
        (head_of(MAX_SIDE + 1, 1), "side over"),
        (head_of(8000, MAX_PIXELS // 8000 + 1), "40 million"),
    ],
)
def test_what_is_none_or_would_be_too_large_is_refused_before_anything_decodes_it(data: bytes, told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        read_picture(data)


@given(
    st.binary(max_size=200), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFFxxxxWEBP"])
)
def test_no_bytes_make_the_reader_fail_otherwise(tail: bytes, start: bytes) -> None:
    try:
        found = read_picture(start + tail)
    except InvalidRequest:
        return
    assert 0 < found.width * found.height <= MAX_PIXELS


async def test_a_claimed_type_counts_for_nothing() -> None:
    task = await Pictures().resolved(show(as_data_url(RED, "text/html")), SEEING)
    assert url_of(task) == as_data_url(RED, "image/png")


@pytest.mark.parametrize("url", ["data:image/png,hello", "data:image/png;base64,@@@@", "data:image/png;base64,\u00e9",
                                 "ftp://a/b.png", "file:///etc/passwd", "/etc/passwd", "javascript:1"])  # fmt: skip
async def test_what_is_no_address_of_a_picture_is_refused_with_its_place(url: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await Pictures().resolved(show(as_data_url(RED, "image/png"), url), SEEING)
    assert caught.value.param == "messages.0.content.2.image_url"


async def test_a_model_without_eyes_refuses_by_the_fields_name_and_an_upstream_takes_it() -> None:
    task = show(as_data_url(RED, "image/png"))
    with pytest.raises(UnsupportedParameter, match="reads no pictures") as caught:
        await Pictures().resolved(task, BLIND)
    assert caught.value.param == "messages.0.content"
    upstream = Model("u", "upstream", (Ability.CHAT,), format="upstream")
    assert await Pictures().resolved(task, upstream) == task


async def test_text_is_left_as_it_is() -> None:
    task = ChatTask(({"role": "user", "content": "hello"},))
    assert await Pictures().resolved(task, BLIND) is task


async def test_too_many_or_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    url = as_data_url(RED, "image/png")
    with pytest.raises(InvalidRequest, match="At most 32 pictures"):
        await Pictures().resolved(show(*[url] * (MAX_PICTURES + 1)), SEEING)
    monkeypatch.setattr(pictures, "MAX_TOTAL_BYTES", 2 * len(RED))
    with pytest.raises(InvalidRequest, match="The pictures are over"):
        await Pictures().resolved(show(*[url] * 3), SEEING)
    monkeypatch.setattr(pictures, "MAX_PICTURE_BYTES", len(RED) - 1)
    with pytest.raises(InvalidRequest, match="The picture is over"):
        await Pictures().resolved(show(url), SEEING)


class Place:
    """A server of pictures on loopback, and what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.stall = asyncio.Event()
        application = web.Application()
        application.router.add_get("/{what}", self.give)
        self.server = TestServer(application)

    async def give(self, request: web.Request) -> web.StreamResponse:
        what = request.match_info["what"]
        self.asked.append(what)
        if what == "private":
            raise web.HTTPFound("http://169.254.169.254/latest/meta-data/")
        if what == "never":
            await self.stall.wait()
        if what == "endless":
            return web.Response(body=bytes(2 << 20))
        if what == "missing":
            raise web.HTTPNotFound
        return web.Response(body=RED, content_type="text/plain")


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    made = Place()
    await made.server.start_server()
    yield made
    made.stall.set()
    await made.server.close()


@pytest.fixture
async def fetching() -> AsyncIterator[Pictures]:
    made = Pictures(Fetcher(allow_loopback=True, stall_s=2))
    yield made
    await made.close()


async def test_an_address_is_fetched_once_by_the_server_and_goes_on_as_bytes(place: Place, fetching: Pictures) -> None:
    task = await fetching.resolved(show(str(place.server.make_url("/red"))), SEEING)
    assert url_of(task) == as_data_url(RED, "image/png")
    assert place.asked == ["red"]


@pytest.mark.parametrize("what", ["private", "never", "endless", "missing"])
async def test_an_address_that_gives_no_picture_is_the_requests_fault(
    place: Place, fetching: Pictures, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "FETCH_LIMIT_S", 0.5)
    monkeypatch.setattr(pictures, "MAX_PICTURE_BYTES", 1 << 20)
    with pytest.raises(InvalidRequest) as caught:
        await fetching.resolved(show(str(place.server.make_url(f"/{what}"))), SEEING)
    assert caught.value.param == "messages.0.content.1.image_url"


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/a.png",
        "http://example.com/a.png",
        "https://169.254.169.254/x",
        "https://[::1]/a",
        "https://localhost/a",
        "https://user:pass@example.com/a",
    ],
)
async def test_no_address_of_this_network_is_ever_reached(url: str) -> None:
    made = Pictures()
    with pytest.raises(InvalidRequest):
        await made.resolved(show(url), SEEING)
    await made.close()


def test_a_picture_is_bounded_by_its_tokens_and_not_by_its_bytes() -> None:
    large = as_data_url(RED + bytes(1 << 20), "image/png")
    text, one, two = (bounds.input_bound(show(*[large] * count), SEEING) for count in (0, 1, 2))
    assert (one - text, two - one) == (100, 100)
    assert bounds.input_bound(show(large), BLIND) - text == 4096


@pytest.mark.parametrize(
    ("data", "colour"),
    [
        (packed("JPEG", "CMYK"), None),
        (packed("PNG", "I;16"), (0, 0, 0)),
        (packed("PNG", "LA"), (255, 255, 255)),
        (packed("PNG", "P"), (0, 0, 0)),
        (packed("PNG", "1"), (0, 0, 0)),
        (packed("GIF", "P"), (0, 0, 0)),
        (packed("WEBP", "RGBA"), (255, 255, 255)),
    ],
)
def test_every_kind_of_colour_becomes_plain_rgb(data: bytes, colour: tuple[int, int, int] | None) -> None:
    plain = Image.open(io.BytesIO(from_data_url(plain_picture(data))))
    assert (plain.format, plain.mode, plain.size) == ("PNG", "RGB", (31, 17))
    assert colour is None or plain.getpixel((3, 3)) == colour


def test_sixteen_bits_are_scaled_not_cut() -> None:
    made = io.BytesIO()
    Image.new("I;16", (4, 4), 0x8080).save(made, "PNG")
    plain = Image.open(io.BytesIO(from_data_url(plain_picture(made.getvalue()))))
    assert plain.getpixel((0, 0)) == (128, 128, 128)


def test_a_noted_rotation_is_applied_and_a_large_picture_shrunk() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = packed("JPEG", size=(3000, 1000), exif=exif)
    plain = Image.open(io.BytesIO(from_data_url(plain_picture(data))))
    assert plain.size == (683, 2048)
    low = Image.open(io.BytesIO(from_data_url(plain_picture(data, "low"))))
    assert low.size == (171, 512)


def test_the_first_frame_of_an_animation_is_taken() -> None:
    made = io.BytesIO()
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    frames[0].save(made, "GIF", save_all=True, append_images=frames[1:])
    plain = Image.open(io.BytesIO(from_data_url(plain_picture(made.getvalue()))))
    assert plain.getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP"])
def test_no_damage_makes_the_decoder_fail_otherwise(kind: str) -> None:
    whole = packed(kind, size=(64, 64))
    for at in range(0, len(whole), 7):
        for damaged in (whole[:at], whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]):
            with suppress(InvalidRequest):
                assert plain_picture(damaged).startswith("data:image/png;base64,")


def test_a_bomb_is_refused_by_its_header() -> None:
    bomb = head_of(100_000, 100_000)
    with pytest.raises(InvalidRequest, match="100000 x 100000"):
        plain_picture(bomb)
    assert base64.b64decode(as_data_url(b"x", "a/b").partition(",")[2]) == b"x"
