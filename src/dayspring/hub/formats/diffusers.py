"""A diffusers folder: `model_index.json` names a pipeline and the folders of its parts."""

import json

from dayspring.core.errors import Refused
from dayspring.hub.formats.header import Header

__all__ = ["INDEX", "read_diffusers"]

INDEX = "model_index.json"
_MAX_BYTES = 1 << 20


def read_diffusers(index: bytes, file: str = INDEX) -> Header:
    """Facts: architecture (the pipeline's class), components. Raises Refused, for code of its own too."""
    try:
        fields = json.loads(index) if len(index) <= _MAX_BYTES else None
    except (ValueError, RecursionError):
        fields = None
    name = fields.get("_class_name") if isinstance(fields, dict) else None
    if not isinstance(fields, dict) or not isinstance(name, str):
        raise Refused(
            file=file, rule="it names no pipeline as a string", remedy="Take a pipeline of the library's own."
        )
    components = {}
    for part, kind in fields.items():
        if part.startswith("_") or not isinstance(kind, list) or len(kind) != 2:
            continue
        library, class_name = kind
        if library is not None and library not in ("diffusers", "transformers"):
            raise Refused(
                file=file,
                rule=f"part {part[:60]!r} brings code of its own",
                remedy="Take a model that needs none: remote code is never run here.",
            )
        components[part] = class_name
    return Header("diffusers", {"architecture": name, "components": components})
