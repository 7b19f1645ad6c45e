"""Which names a file inside an archive, a repository or a model may have."""

import re

from dayspring.core.errors import Refused

__all__ = ["check_name", "unsafe_name"]

_MAX_NAME = 512


def unsafe_name(name: str) -> str:
    """Why the name must not become a path on this machine; empty for a good one."""
    parts = name.split("/")
    if not name or len(name) > _MAX_NAME:
        return "it has no name, or one that is too long"
    if name.startswith(("/", "~")) or re.match(r"[A-Za-z]:", name) or "\\" in name:
        return "its name is absolute or written for another system"
    if any(part in ("", ".", "..") for part in parts):
        return "its name leaves the folder it belongs in"
    if any(ord(character) < 32 or ord(character) == 127 for character in name):
        return "its name has control characters"
    return ""


def check_name(name: str, *, where: str = "") -> str:
    """The name itself. Raises Refused for one that is unsafe."""
    if rule := unsafe_name(name):
        shown = f"{where}: {name[:120]}" if where else name[:120]
        raise Refused(file=shown, rule=rule, remedy="Take the model from a source that packs it plainly.")
    return name
