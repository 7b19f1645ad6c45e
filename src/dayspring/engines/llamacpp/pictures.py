"""Pictures made plain for the library: decoded, turned upright, in 8-bit RGB, no larger than a model can use, as PNG.

Runs in the worker only. What holds: the library's own decoder sees nothing but PNG files written here; a picture whose
size differs from what its header promised, or that Pillow finds damaged, is refused. The first frame of an animation
is taken; transparency becomes white.
"""

import io
import warnings
from typing import Any

from PIL import Image, ImageOps, UnidentifiedImageError

from dayspring.core.errors import InvalidRequest
from dayspring.core.pictures import MAX_PIXELS, as_data_url, from_data_url, read_picture

__all__ = ["plain_messages", "plain_picture"]

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
_MOST_SIDE = 2048
_LOW_SIDE = 512
"""Longest side for `detail: low`, as OpenAI has it."""
_DEEP = ("I;16", "I;16L", "I;16B", "I")
"""Modes that Pillow gives grey of 16 bits, which it would clip to eight where they should be scaled."""


def plain_messages(messages: tuple[dict[str, Any], ...]) -> list[dict[str, Any]]:
    """The messages with every picture made plain. Raises InvalidRequest."""
    return [_plain_message(message, number) for number, message in enumerate(messages)]


def _plain_message(message: dict[str, Any], number: int) -> dict[str, Any]:
    content = message.get("content")
    if not isinstance(content, list | tuple):
        return message
    parts = []
    for place, part in enumerate(content):
        if part.get("type") == "image_url":
            where = f"messages.{number}.content.{place}.image_url"
            url = plain_picture(from_data_url(part["image_url"]["url"], where), part["image_url"].get("detail"), where)
            parts.append({"type": "image_url", "image_url": {"url": url}})
        else:
            parts.append(part)
    return {**message, "content": parts}


def plain_picture(data: bytes, detail: str | None = None, where: str | None = None) -> str:
    """One picture as the library gets it. Raises InvalidRequest for what cannot be decoded."""
    promised = read_picture(data, where)
    side = _LOW_SIDE if detail == "low" else _MOST_SIDE
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data), formats=_FORMATS) as opened:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if opened.size != (promised.width, promised.height):
                raise InvalidRequest("The picture's header contradicts itself. Save it again.", param=where)
            opened.draft("RGB", (side, side))  # JPEG: decodes no more than is kept
            upright = ImageOps.exif_transpose(opened)
            upright.thumbnail((side, side))
            plain = _rgb(upright)
    except (UnidentifiedImageError, Image.DecompressionBombError, Image.DecompressionBombWarning, OSError, ValueError,
            SyntaxError, EOFError, OverflowError, IndexError, KeyError, TypeError) as error:  # fmt: skip
        if isinstance(error, InvalidRequest):
            raise
        raise InvalidRequest("The picture is damaged and cannot be decoded. Save it again.", param=where) from None
    packed = io.BytesIO()
    plain.save(packed, "PNG", compress_level=1)
    return as_data_url(packed.getvalue(), "image/png")


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode in _DEEP:
        picture = picture.convert("F").point(lambda value: value * (1 / 257)).convert("L")
    if picture.has_transparency_data:
        clear = picture.convert("RGBA")
        white = Image.new("RGBA", clear.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, clear)
    return picture.convert("RGB")
