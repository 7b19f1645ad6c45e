"""A client's file name, made harmless: shown and sent in headers, never used as a path."""

import re
import unicodedata
from urllib.parse import quote

__all__ = ["clean_name", "disposition", "plain_name"]

_LONGEST = 255
_JOINERS = "\u200c\u200d"
_PLAIN = re.compile(r"[^A-Za-z0-9 ._()+-]")


def clean_name(name: str) -> str:
    """The last part of what may have been a path, without what no name should have; `file` where nothing is left.

    Control, format and unassigned characters go (Unicode's categories C*), among them those that turn the direction of
    writing and so make one ending look like another; the two joiners that Persian, Hindi and emoji need stay.
    """
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", name.replace("\0", "")))[-1]
    kept = "".join(each for each in last if each in _JOINERS or unicodedata.category(each)[0] != "C").strip()
    if kept.strip(". ") == "":
        return "file"
    if len(kept) <= _LONGEST:
        return kept
    stem, dot, ending = kept.rpartition(".")
    ending = dot + ending if 0 < len(ending) <= 16 and stem else ""
    return kept[: _LONGEST - len(ending)] + ending


def plain_name(name: str) -> str:
    """Of ASCII letters, digits and `._-` only, and no dot first; for a path inside an archive."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".") or "file"


def disposition(name: str) -> str:
    """A Content-Disposition for it (RFC 6266): ASCII for old readers, and the name itself percent-encoded."""
    return f"attachment; filename=\"{_PLAIN.sub('_', name)}\"; filename*=UTF-8''{quote(name, safe='')}"
