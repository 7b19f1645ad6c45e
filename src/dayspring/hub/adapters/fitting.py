"""Whether an adapter fits a base: its architecture, and the shape of every tensor it changes, from headers alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dayspring.contracts.models import Model
from dayspring.core.errors import Refused
from dayspring.hub.formats.gguf import read_gguf_shapes
from dayspring.hub.formats.safetensors import read_safetensors_shapes

__all__ = ["check_fit", "misfits", "tensor_shapes"]

_REBUILD = "Choose an adapter made for this model, or name another with --base."
_TABLE = "token_embd.weight"


def check_fit(base: Model, facts: Mapping[str, Any]) -> None:
    """Raises Refused for an adapter that does not fit."""
    if wrong := misfits(base, facts):
        raise Refused(file="the adapter", rule=wrong[0].rstrip("."), remedy="Nothing was added.")


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Of a safetensors file. Raises Refused."""
    with path.open("rb") as stream:
        return read_safetensors_shapes(stream, path.stat().st_size, path.name)


def misfits(base: Model, facts: Mapping[str, Any]) -> list[str]:
    """Why the adapter does not fit the base, in sentences; none when it does."""
    if facts.get("activated"):
        return ["It is switched on by words in the prompt (aLoRA), which is not supported. Choose a plain LoRA."]
    if facts.get("adapter_type", "lora") != "lora":
        return [f"It is an adapter of kind {facts['adapter_type']!r}, not LoRA. Choose a LoRA."]
    theirs, ours = facts.get("architecture"), base.metadata.get("architecture")
    if base.format == "gguf" and theirs and ours and theirs != ours:
        return [f"It is for the architecture {theirs!r}, and {base.id!r} is of {ours!r}. {_REBUILD}"]
    shapes = {name: tuple(shape) for name, shape in (facts.get("shapes") or {}).items()}
    wrong = _gguf_misfit(base, shapes) if base.format == "gguf" else _safetensors_misfit(base, shapes)
    return [f"{wrong} {_REBUILD}"] if wrong else []


def _gguf_misfit(base: Model, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Of a GGUF adapter, fastest dimension first: A is (in, rank), B (rank, out), and the base's weight (in, out)."""
    if not any(name.endswith(".lora_a") for name in shapes):
        return ""  # converted later, and looked at again then
    weights: dict[str, tuple[int, ...]] = {}
    first = Path(base.path)
    for path in sorted(first.parent.glob("*-of-*.gguf")) if base.metadata.get("split_count", 0) else [first]:
        with path.open("rb") as stream:
            weights |= read_gguf_shapes(stream, path.stat().st_size, path.name)
    for name, a in shapes.items():
        if not name.endswith(".lora_a"):
            continue
        target = name.removesuffix(".lora_a")
        b, weight = shapes.get(f"{target}.lora_b", ()), weights.get(target)
        if weight is None:
            return f"It changes the tensor {target[:64]!r}, which {base.id!r} does not have."
        made = (b[-1:], a[1:]) if target == _TABLE else (a[:1], b[1:])
        inner = (a[:1], b[:1]) if target == _TABLE else (a[1:], b[:1])
        if len(a) != 2 or len(b) != 2 or inner[0] != inner[1] or made[0] + made[1] != weight:
            return f"It changes {target[:64]!r} in another shape than {base.id!r} has there, {_sizes(weight)}."
    return ""


def _safetensors_misfit(base: Model, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Of PEFT's folder, slowest dimension first: A is (rank, in), B (out, rank), and the base's weight (out, in)."""
    weights: dict[str, tuple[int, ...]] = {}
    for path in sorted(Path(base.path).glob("*.safetensors")):
        weights |= tensor_shapes(path)
    for name, a in shapes.items():
        target, marked, _ = name.partition(".lora_A.")
        if not marked:
            continue
        b = shapes.get(name.replace(".lora_A.", ".lora_B."), ())
        weight = weights.get(f"{target.removeprefix('base_model.model.')}.weight")
        if weight is None:
            return f"It changes the tensor {target[:64]!r}, which {base.id!r} does not have."
        if len(a) != 2 or len(b) != 2 or a[0] != b[1] or (b[0], a[1]) != weight:
            return f"It changes {target[:64]!r} in another shape than {base.id!r} has there, {_sizes(weight)}."
    return ""


def _sizes(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
