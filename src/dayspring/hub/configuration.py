"""What a model's config.json says: facts, and which conversion would make it run here."""

import json
from typing import Any

from dayspring.core.errors import Refused
from dayspring.hub.adapters.peft import FILE as ADAPTER
from dayspring.hub.adapters.peft import read_adapter_configuration
from dayspring.hub.formats.diffusers import read_diffusers

__all__ = ["CONFIGURATIONS", "read_configuration"]

CONFIGURATIONS = ("config.json", "model_index.json", ADAPTER)
"""Names of files that say what a folder is."""

_BERT_ACTIVATIONS = ("gelu",)


def read_configuration(file: str, data: bytes) -> dict[str, Any]:
    """Facts as in `Model.metadata`; `conversion` and `folder_format` where they apply.

    Raises Refused for what cannot be read or asks for code of its own.
    """
    if file.rsplit("/", 1)[-1] == "model_index.json":
        header = read_diffusers(data, file)
        return {**header.facts, "folder_format": header.format}
    if file.rsplit("/", 1)[-1] == ADAPTER:
        return {**read_adapter_configuration(file, data), "folder_format": "safetensors"}
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise Refused(file=file, rule="it is no JSON object", remedy="Fetch it again.")
    if "auto_map" in fields:
        raise Refused(
            file=file,
            rule="it asks for code of the model's own ('auto_map')",
            remedy="Take a model that needs none: remote code is never run here.",
        )
    if "/" in file:
        return {}
    architectures = fields.get("architectures")
    # A model with eyes describes its text half inside.
    half = fields.get("text_config")
    fields = {**half, **fields} if isinstance(half, dict) else fields
    facts: dict[str, Any] = {
        "architecture": str(architectures[0])[:64] if isinstance(architectures, list) and architectures else "",
        "context_length": _natural(fields.get("max_position_embeddings")),
        "embedding_length": _natural(fields.get("hidden_size")),
        "block_count": _natural(fields.get("num_hidden_layers")),
        "head_count": _natural(fields.get("num_attention_heads")),
        "head_count_kv": _natural(fields.get("num_key_value_heads")),
        "key_length": _natural(fields.get("head_dim")),
        "vocabulary": _natural(fields.get("vocab_size")),
    }
    facts["quantisation_method"] = _text(fields.get("quantization_config"), "quant_method")
    if isinstance(fields.get("vision_config"), dict):
        facts["reads"] = ["image_url"]
    if _is_plain_bert(fields):
        facts |= {"conversion": "bert", "abilities": ["embedding"]}
    return {key: value for key, value in facts.items() if value}


def _text(fields: object, name: str) -> str:
    return str(fields.get(name, ""))[:32] if isinstance(fields, dict) else ""


def _natural(value: object) -> int:
    return value if type(value) is int and 0 < value < 1 << 31 else 0


def _is_plain_bert(fields: dict[str, Any]) -> bool:
    """Whether the arithmetic is exactly that of the first BERT, which is what the conversion writes."""
    return (
        fields.get("model_type") == "bert"
        and fields.get("architectures") == ["BertModel"]
        and fields.get("hidden_act") in _BERT_ACTIVATIONS
        and fields.get("position_embedding_type", "absolute") == "absolute"
    )
