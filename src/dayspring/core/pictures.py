"""What a picture is, from its first bytes: type and size, read without decoding it.

What holds: the type is told by content, never by a name or a header of somebody's server; a picture whose sides are not
known, or come to more than the limits, is refused before any decoder sees it. Formats: PNG (w3.org/TR/png), JPEG (ITU
T.81), GIF (GIF89a), WebP (RFC 9649). What it does not do: decode. That happens in a worker.
"""

import binascii
import struct

import msgspec

from dayspring.core.errors import InvalidRequest

__all__ = ["DATA_URL_PREFIX", "MAX_PIXELS", "MAX_SIDE", "Picture", "as_data_url", "from_data_url", "read_picture"]

MAX_PIXELS = 40_000_000
MAX_SIDE = 16_384
DATA_URL_PREFIX = "data:"

_KINDS = "Send a PNG, JPEG, WebP or GIF picture."
_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of a JPEG frame: all of C0 to CF but tables, an extension and arithmetic conditioning."""
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD8)})
"""Markers that no length follows."""


class Picture(msgspec.Struct, frozen=True):
    media_type: str
    width: int
    height: int
    """Pixels, as stored: a rotation noted in the file is not applied."""


def read_picture(data: bytes, param: str | None = None) -> Picture:
    """Type and size. Raises InvalidRequest for what is no picture, of another type, or too large to be decoded."""
    found = _png(data) or _gif(data) or _webp(data) or _jpeg(data)
    if found is None:
        if data.lstrip()[:256].lower().startswith((b"<svg", b"<?xml", b"<!doctype svg")):
            raise _refused("An SVG drawing is a program and is not read here.", _KINDS, param)
        raise _refused("There is no picture of a known type in it.", _KINDS, param)
    if not found.width or not found.height:
        raise _refused("The picture has no size.", _KINDS, param)
    if max(found.width, found.height) > MAX_SIDE or found.width * found.height > MAX_PIXELS:
        size = f"The picture has {found.width} x {found.height} pixels."
        raise _refused(size, f"Send at most {MAX_PIXELS // 10**6} million, no side over {MAX_SIDE}.", param)
    return found


def from_data_url(url: str, param: str | None = None) -> bytes:
    """The bytes of a base64 `data:` URL, whatever type it claims. Raises InvalidRequest."""
    head, comma, body = url.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise _refused("The data: URL is not in base64.", "Write it as data:image/png;base64,...", param)
    try:
        return binascii.a2b_base64(body.encode("ascii"), strict_mode=True)
    except ValueError:  # a character outside ASCII too
        raise _refused("The data: URL is no valid base64.", "Encode the picture again.", param) from None


def as_data_url(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{binascii.b2a_base64(data, newline=False).decode()}"


def _png(data: bytes) -> Picture | None:
    if not data.startswith(b"\x89PNG\r\n\x1a\n") or data[12:16] != b"IHDR" or len(data) < 24:
        return None
    width, height = struct.unpack(">II", data[16:24])
    return Picture("image/png", width, height)


def _gif(data: bytes) -> Picture | None:
    if data[:6] not in (b"GIF87a", b"GIF89a") or len(data) < 10:
        return None
    width, height = struct.unpack("<HH", data[6:10])
    return Picture("image/gif", width, height)


def _webp(data: bytes) -> Picture | None:
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return None
    kind = data[12:16]
    if kind == b"VP8X":
        sides = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
    elif kind == b"VP8L" and data[20] == 0x2F:
        bits = int.from_bytes(data[21:25], "little")
        sides = ((bits >> shift & 0x3FFF) + 1 for shift in (0, 14))
    elif kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        sides = (side & 0x3FFF for side in struct.unpack("<HH", data[26:30]))
    else:
        return None
    width, height = sides
    return Picture("image/webp", width, height)


def _jpeg(data: bytes) -> Picture | None:
    """Walks the segments to the frame header; every length is checked, so it ends."""
    if data[:3] != b"\xff\xd8\xff":
        return None
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker in _JPEG_BARE:
            at += 2
            continue
        (length,) = struct.unpack(">H", data[at + 2 : at + 4])
        if length < 2 or marker in (0xD9, 0xDA):
            return None
        if marker in _JPEG_SIZES:
            if at + 9 > len(data):
                return None
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return Picture("image/jpeg", width, height)
        at += 2 + length
    return None


def _refused(what: str, remedy: str, param: str | None) -> InvalidRequest:
    return InvalidRequest(f"{what} {remedy}", param=param)
