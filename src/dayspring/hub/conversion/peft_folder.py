"""The tensors of a PEFT LoRA, by the layer each changes, in 32-bit floats."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dayspring.core.errors import Refused
from dayspring.hub.adapters.peft import FILE, read_adapter_configuration

__all__ = ["Array", "PeftFolder"]

Array = NDArray[np.float32]

_WEIGHTS = "adapter_model.safetensors"
_NAME = re.compile(
    r"base_model\.model\.(?:model\.)*layers\.(\d+)\.(?:self_attn|mlp)\.(\w+)\.lora_([AB])(?:\.\w+)?\.weight"
)
_PLAIN = {"F32": np.float32, "F16": np.float16}


class PeftFolder:
    """Reads a folder whose headers the hub has checked. Raises Refused for what the conversion does not cover.

    `pairs`: by (layer, module), A of shape (rank, in) and B of shape (out, rank).
    """

    def __init__(self, folder: Path) -> None:
        facts = read_adapter_configuration(FILE, (folder / FILE).read_bytes())
        self.rank = int(facts["rank"])
        self.alpha = float(facts["alpha"])
        self.base_name = str(facts.get("base_name", ""))
        halves: dict[tuple[int, str], dict[str, Array]] = {}
        for name, array in _tensors(folder / _WEIGHTS).items():
            match = _NAME.fullmatch(name)
            if match is None:
                raise _refused(f"changes {name[:80]!r}, which is not converted")
            halves.setdefault((int(match[1]), match[2]), {})[match[3]] = array
        self.pairs: dict[tuple[int, str], tuple[Array, Array]] = {}
        for place, half in sorted(halves.items()):
            a, b = half.get("A"), half.get("B")
            if a is None or b is None or a.ndim != 2 or b.ndim != 2 or not a.shape[0] == b.shape[1] == self.rank:
                raise _refused(f"does not hold the two halves of {place[1]!r} in layer {place[0]} at rank {self.rank}")
            self.pairs[place] = (a, b)
        if not self.pairs:
            raise _refused("changes nothing")


def _tensors(path: Path) -> dict[str, Array]:
    """Every tensor. Read by hand, because numpy knows no bfloat16: its bytes are the upper half of a float32's."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header: dict[str, Any] = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    found: dict[str, Array] = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        raw = data[8 + length + begin : 8 + length + end]
        if entry["dtype"] in _PLAIN:
            values = np.frombuffer(raw, dtype=np.dtype(_PLAIN[entry["dtype"]]).newbyteorder("<")).astype(np.float32)
        elif entry["dtype"] == "BF16":
            values = (np.frombuffer(raw, dtype="<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            raise _refused(f"holds numbers of type {str(entry['dtype'])[:16]!r}")
        if not np.isfinite(values).all():
            raise _refused(f"has a number in {name[:80]!r} that is none")
        found[name] = values.reshape(entry["shape"])
    return found


def _refused(rule: str) -> Refused:
    return Refused(file=_WEIGHTS, rule=f"it {rule}", remedy="Choose a GGUF file of the adapter.")
