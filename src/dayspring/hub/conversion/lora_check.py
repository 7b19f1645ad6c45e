"""Checking a converted LoRA: read back from the file, it changes every layer as the original does.

What an adapter does to a layer is linear, so vectors with random numbers tell: y = scale * B A x, once from PEFT's
tensors in the order of the original's rows, once from the GGUF file as llama.cpp reads it (scale = alpha / rank).
"""

from pathlib import Path

import gguf
import numpy as np

from dayspring.core.errors import Refused
from dayspring.hub.conversion.lora import BaseFacts, target_of
from dayspring.hub.conversion.peft_folder import PeftFolder

__all__ = ["PROBES", "check_lora"]

PROBES = 4
_LEAST_COSINE = 0.999_999


def check_lora(source: PeftFolder, base: BaseFacts, converted: Path) -> float:
    """The worst cosine over all layers. Raises Refused when it is too small, or a layer is missing."""
    reader = gguf.GGUFReader(converted)
    tensors = {tensor.name: tensor.data for tensor in reader.tensors}
    alpha = float(reader.fields[gguf.Keys.Adapter.LORA_ALPHA].contents())
    if len(tensors) != 2 * len(source.pairs):
        raise _refused("it holds another number of layers")
    random = np.random.default_rng(0)
    worst = 1.0
    for (layer, module), (a, b) in source.pairs.items():
        target = target_of(layer, module)
        read_a, read_b = tensors[f"{target}.lora_a"], tensors[f"{target}.lora_b"]
        x = random.standard_normal((a.shape[1], PROBES))
        right = source.alpha / source.rank * (b.astype(np.float64) @ (a.astype(np.float64) @ x))
        made = alpha / read_a.shape[0] * (read_b.astype(np.float64) @ (read_a.astype(np.float64) @ x))
        order = _rows(b.shape[0], module, base)
        length = float(np.linalg.norm(right) * np.linalg.norm(made))
        cosine = float((right[order] * made).sum()) / length if length else 1.0
        same = np.allclose(np.linalg.norm(right), np.linalg.norm(made), rtol=1e-5)
        worst = min(worst, cosine if same else 0.0)
    if not worst >= _LEAST_COSINE:
        raise _refused(f"it changes the model differently (cosine {worst:.6f})")
    return worst


def _rows(count: int, module: str, base: BaseFacts) -> list[int]:
    """Which of the original's rows stands at each place in the base, spelled out row by row."""
    if base.architecture != "llama" or module not in ("q_proj", "k_proj"):
        return list(range(count))
    heads = base.heads if module == "q_proj" else base.key_heads
    width = count // heads
    return [
        head * width + half * (width // 2) + at for head in range(heads) for at in range(width // 2) for half in (0, 1)
    ]


def _refused(rule: str) -> Refused:
    return Refused(file="the converted adapter", rule=rule, remedy="Choose a GGUF file of it, and report this.")
