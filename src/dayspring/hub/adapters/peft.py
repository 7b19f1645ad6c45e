"""What an adapter's adapter_config.json says (PEFT's format), and what of it is served here: plain LoRA."""

import json
import math
from typing import Any

from dayspring.core.errors import Refused

__all__ = ["FILE", "read_adapter_configuration"]

FILE = "adapter_config.json"
_MOST_RANK = 1024
_OTHERS = {
    "use_dora": "DoRA",
    "modules_to_save": "whole layers beside the low-rank ones",
    "rank_pattern": "ranks that differ by layer",
    "alpha_pattern": "scales that differ by layer",
    "fan_in_fan_out": "weights stored the other way round",
    "lora_bias": "biases",
    "alora_invocation_tokens": "being switched on by words in the prompt (aLoRA)",
    "trainable_token_indices": "new words",
    "megatron_config": "Megatron's layers",
}
"""Settings that are off or empty in a plain LoRA, and what each would mean."""


def read_adapter_configuration(file: str, data: bytes) -> dict[str, Any]:
    """Facts as in `Model.metadata`: kind, adapter_type, rank, alpha (as divided by the rank), base_name.

    Raises Refused for what is no plain LoRA.
    """
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise Refused(file=file, rule="it is no JSON object", remedy="Fetch it again.")
    if "auto_mapping" in fields and fields["auto_mapping"] and fields.get("peft_type") != "LORA":
        raise _refused(file, "names classes of its own")
    if fields.get("peft_type") != "LORA":
        raise _refused(file, f"is an adapter of kind {str(fields.get('peft_type'))[:32]!r}")
    for name, meaning in _OTHERS.items():
        if fields.get(name):
            raise _refused(file, f"asks for {meaning} ({name!r})")
    if fields.get("bias", "none") != "none":
        raise _refused(file, "changes biases ('bias')")
    rank, alpha = fields.get("r"), fields.get("lora_alpha")
    if type(rank) is not int or not 0 < rank <= _MOST_RANK or isinstance(alpha, bool):
        raise _refused(file, f"has no rank from 1 to {_MOST_RANK} ('r')")
    if not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise _refused(file, "has no scale ('lora_alpha')")
    # Rank-stabilised LoRA divides by the root of the rank (arxiv.org/abs/2312.03732); every runner here by the rank.
    scaled = float(alpha) * (math.sqrt(rank) if fields.get("use_rslora") else 1.0)
    base = fields.get("base_model_name_or_path")
    facts: dict[str, Any] = {"kind": "adapter", "adapter_type": "lora", "rank": rank, "alpha": scaled}
    return facts | ({"base_name": base[:200]} if isinstance(base, str) and base else {})


def _refused(file: str, rule: str) -> Refused:
    return Refused(file=file, rule=f"it {rule}", remedy="Choose a plain LoRA, or merge it into its model first.")
