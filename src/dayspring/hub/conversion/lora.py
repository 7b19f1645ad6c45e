"""A PEFT LoRA to GGUF, for llama.cpp: names by its architectures, and rows in the order its base has them.

llama.cpp's `llama` architecture rotates neighbouring pairs where the original rotates halves, so the base's query and
key rows were reordered when it was made; the adapter's are reordered here in the same way.
"""

from pathlib import Path

import gguf
import numpy as np

from dayspring.core.errors import Refused
from dayspring.hub.conversion.peft_folder import Array, PeftFolder
from dayspring.hub.formats.detect import read_file_header

__all__ = ["BaseFacts", "reordered", "target_of", "write_lora"]

_MODULES = {
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_output",
    "gate_proj": "ffn_gate",
    "up_proj": "ffn_up",
    "down_proj": "ffn_down",
}
_REORDERED = frozenset({"llama"})
"""Architectures whose query and key rows are reordered (Mistral's and SmolLM2's models are of it too)."""
_STRAIGHT = frozenset({"qwen2", "qwen3", "gemma", "gemma2", "gemma3"})


class BaseFacts:
    """What of the base decides the conversion. Raises Refused for an architecture it does not cover."""

    def __init__(self, path: Path) -> None:
        facts = read_file_header(path, path.name).facts
        self.architecture = str(facts.get("architecture", ""))
        self.heads = int(facts.get("head_count", 1))
        self.key_heads = int(facts.get("head_count_kv", 0)) or self.heads
        if self.architecture not in _REORDERED | _STRAIGHT:
            known = ", ".join(sorted(_REORDERED | _STRAIGHT))
            raise Refused(
                file=path.name,
                rule=f"adapters are converted for {known} only, not for {self.architecture[:32]!r}",
                remedy="Choose a GGUF file of the adapter.",
            )


def target_of(layer: int, module: str) -> str:
    """The base's tensor that a module's pair changes. Raises Refused."""
    if module not in _MODULES:
        raise Refused(
            file="adapter_model.safetensors",
            rule=f"it changes {module[:40]!r}, which is not converted",
            remedy="Choose a GGUF file of the adapter.",
        )
    return f"blk.{layer}.{_MODULES[module]}.weight"


def reordered(b: Array, module: str, base: BaseFacts) -> Array:
    """B of shape (out, rank) with its rows where the base has them."""
    if base.architecture not in _REORDERED or module not in ("q_proj", "k_proj"):
        return b
    heads = base.heads if module == "q_proj" else base.key_heads
    if b.shape[0] % (2 * heads):
        raise Refused(
            file="adapter_model.safetensors",
            rule=f"its {module!r} has {b.shape[0]} rows, which the base's {heads} heads do not share",
            remedy="Choose an adapter made for this model.",
        )
    split = b.reshape(heads, 2, b.shape[0] // heads // 2, b.shape[1])
    swapped: Array = split.swapaxes(1, 2).reshape(b.shape)
    return swapped


def write_lora(source: PeftFolder, base: BaseFacts, output: Path, name: str) -> None:
    """Write the whole file, in 32-bit floats: an adapter is small. Raises Refused for a module that has no place."""
    writer = gguf.GGUFWriter(output, base.architecture)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_name(name)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, source.alpha)
    if source.base_name:
        writer.add_uint32("general.base_model.count", 1)
        writer.add_string("general.base_model.0.name", source.base_name)
    for (layer, module), (a, b) in source.pairs.items():
        target = target_of(layer, module)
        writer.add_tensor(f"{target}.lora_a", np.ascontiguousarray(a))
        writer.add_tensor(f"{target}.lora_b", np.ascontiguousarray(reordered(b, module, base)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
