"""What a file is, told by its first bytes alone: neither its name nor what its sender says counts.

Text is told first, by ourselves, for many a binary format's mark is a readable word; programs next, since they are
refused; the `filetype` package knows the rest. What does not stand in the first 64 KiB is not looked at.
"""

import csv
import re

import orjson

__all__ = ["EMPTY", "HEAD_BYTES", "IMAGES", "JSONL", "PROGRAM", "UNKNOWN", "media_type"]

HEAD_BYTES = 1 << 16

EMPTY = "application/x-empty"
JSONL = "application/jsonl"
PROGRAM = "application/x-executable"
UNKNOWN = "application/octet-stream"
IMAGES = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif"})

_PROGRAMS = (
    b"\x7fELF",
    b"\xfe\xed\xfa\xce", b"\xfe\xed\xfa\xcf", b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe",  # Mach-O
    b"\xca\xfe\xba\xbe", b"\xca\xfe\xba\xbf",  # Mach-O of several machines, Java class
    b"MZ",  # DOS and Windows; a text that begins so is told before
    b"\0asm",
    b"dex\n",
    b"L\0\0\0\x01\x14\x02\0",  # Windows shortcut
)  # fmt: skip
_TEXT_MARKS = ((b"%PDF-", "application/pdf"), (b"{\\rtf", "application/rtf"), (b"%!PS", "application/postscript"))
"""Formats whose files may be text throughout."""
_NAMES = {"audio/x-wav": "audio/wav", "audio/x-flac": "audio/flac", "video/x-m4v": "video/mp4"}
"""Names of before their registration."""
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
"""What no text holds: all but tab, line ends, form feed and escape."""
_HTML = re.compile(r"\s*(<!--.*?-->\s*)*<(!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL)
_SVG = re.compile(r"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*(<!DOCTYPE svg[^>]*>\s*)?<svg\b", re.IGNORECASE | re.DOTALL)


def media_type(head: bytes, whole: bool) -> str:
    """The media type of a file that begins with `head` (at least HEAD_BYTES of it, or, where `whole`, all)."""
    if not head:
        return EMPTY
    for mark, kind in _TEXT_MARKS:
        if head.startswith(mark):
            return kind
    text = _text(head, whole)
    if text is not None:
        return _kind_of_text(text, whole)
    if head.startswith(_PROGRAMS):
        return PROGRAM
    import filetype  # with the first file that is no text, not with the server

    found = filetype.guess_mime(head)
    return UNKNOWN if found is None else _NAMES.get(found, found)


def _text(head: bytes, whole: bool) -> str | None:
    """The head as text, without a character that it may have cut; None where it is none."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) and len(head) % 2 == 0:
        text = head.decode("utf-16", errors="replace")
        return None if "\ufffd" in text[:-1] or _CONTROL.search(text.encode()) else text
    if _CONTROL.search(head):
        return None
    try:
        return head.decode()
    except UnicodeDecodeError as fault:
        cut = not whole and fault.start >= len(head) - 3
        return head[: fault.start].decode() if cut else None


def _kind_of_text(text: str, whole: bool) -> str:
    bare = text.removeprefix("\ufeff")
    if _SVG.match(bare):
        return "image/svg+xml"
    if _HTML.match(bare):
        return "text/html"
    if bare.startswith("<?xml"):
        return "application/xml"
    lines = bare.splitlines()
    if not whole and len(lines) > 1:
        lines.pop()  # perhaps cut
    return _json(bare, lines, whole) or (_csv(lines) and "text/csv") or "text/plain"


def _json(text: str, lines: list[str], whole: bool) -> str:
    """`application/json`, JSONL, or empty. A value of one line is JSON, two lines of an object each are JSONL."""
    if text.lstrip()[:1] not in {"{", "["}:
        return ""
    filled = [line for line in lines if line.strip()]
    if len(filled) > 1 and all(_fault(line) is None and line.lstrip()[0] in "{[" for line in filled):
        return JSONL
    fault = _fault(text)
    cut = not whole and fault is not None and "unexpected end" in fault
    return "application/json" if fault is None or cut else ""


def _fault(text: str) -> str | None:
    try:
        orjson.loads(text.encode(errors="replace"))
    except orjson.JSONDecodeError as error:
        return str(error)
    return None


def _csv(lines: list[str]) -> bool:
    """Whether the first lines have the same number of cells, at least two, at commas, semicolons or tabs."""
    first = [line for line in lines[:20] if line.strip()]
    if len(first) < 2:
        return False
    for separator in ",;\t":
        try:
            widths = {len(row) for row in csv.reader(first, delimiter=separator, strict=True)}
        except csv.Error:
            continue
        if len(widths) == 1 and widths.pop() > 1:
            return True
    return False
