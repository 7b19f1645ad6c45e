"""The size of key-value memory, from the facts of a model's header: the same for every engine that keeps one."""

from typing import Any

__all__ = ["cell_bytes"]

_NUMBER_BYTES = {"f16": 2.0, "q8_0": 34 / 32, "q4_0": 18 / 32}
"""Bytes of one number, by how it is kept."""


def cell_bytes(facts: dict[str, Any], cache_type: str) -> float:
    """Bytes of key-value memory for one token."""
    blocks = int(facts.get("block_count", 32))
    heads = int(facts.get("head_count", 0)) or 1
    width = int(facts.get("embedding_length", 4096))
    shared_heads = int(facts.get("head_count_kv", 0)) or heads
    key = int(facts.get("key_length", 0)) or width // heads
    value = int(facts.get("value_length", 0)) or width // heads
    return blocks * shared_heads * (key + value) * _NUMBER_BYTES.get(cache_type, 2.0)
