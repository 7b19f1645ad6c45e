"""What a multimodal projector's header (`mmproj`, architecture `clip`) says: what it reads, and a picture's tokens.

The bound is for a reservation; the engine counts exactly and holds to it. Where a picture is cut into tiles or read at
its own size, the count depends on the picture, and the bound is what llama.cpp allows at most for that kind.
"""

from typing import Any

__all__ = ["LARGEST_PICTURE_TOKENS", "projector_facts"]

LARGEST_PICTURE_TOKENS = 4352
"""llama.cpp reads at most 4,096 patches of a picture, some kinds with a mark after each of up to 64 rows, or two around
each of a dozen tiles."""
_WHOLE = {"mlp": 1, "mlp_norm": 1, "ldp": 4, "ldpv2": 4, "gemma3": 16}
"""Kinds that read every picture at one size: patches that become one token."""
_AROUND = 8
"""Marks that a model's family puts before and after a picture."""


def projector_facts(values: dict[str, Any]) -> dict[str, Any]:
    """`projector` (its kind), `reads_pictures`, `picture_tokens`, `embedding_width`; what is not there is left out."""
    kind = str(values.get("clip.projector_type") or values.get("clip.vision.projector_type") or "mlp")[:32]
    facts: dict[str, Any] = {"projector": kind, "embedding_width": _natural(values, "projection_dim")}
    if values.get("clip.has_vision_encoder"):
        facts |= {"reads_pictures": True, "picture_tokens": _picture_tokens(values, kind)}
    return {key: value for key, value in facts.items() if value}


def _picture_tokens(values: dict[str, Any], kind: str) -> int:
    size, patch = _natural(values, "image_size"), _natural(values, "patch_size")
    if kind in _WHOLE and size and patch and "clip.vision.image_grid_pinpoints" not in values:
        side = size // patch
        return min(side * side // _WHOLE[kind] + _AROUND, LARGEST_PICTURE_TOKENS)
    return LARGEST_PICTURE_TOKENS


def _natural(values: dict[str, Any], name: str) -> int:
    value = values.get(f"clip.vision.{name}")
    return value if type(value) is int and 0 < value < 1 << 20 else 0
