"""What a model takes of an accelerator under vLLM, and how that is told to it.

vLLM takes the part of the memory that it is given and fills what the weights leave with key-value memory. Here the part
is what the weights and a number of whole contexts need, so that several models fit beside one another.
"""

import math

from dayspring.contracts.devices import Device
from dayspring.contracts.engine import LoadOptions
from dayspring.contracts.models import Ability, Model
from dayspring.engines.key_values import cell_bytes
from dayspring.engines.vllm.options import Options

__all__ = ["needed_bytes", "utilization"]

_BASE_BYTES = 3 << 30
"""CUDA's context, captured graphs and activations, which grow little with the model."""
_DEFAULT_CONTEXT = 4096
_BUDGET_SHARE = 0.8
"""Of an accelerator's memory that compute lets models have: see `compute.placement`."""
_LEAST, _MOST = 0.05, 0.95


def needed_bytes(model: Model, options: LoadOptions, chosen: Options) -> int:
    """For weights, key-value memory and working buffers, on one accelerator."""
    if chosen.gpu_memory_utilization is not None and chosen.device != "cpu" and options.memory_bytes:
        whole = options.memory_bytes / _BUDGET_SHARE
        return min(int(whole * chosen.gpu_memory_utilization), options.memory_bytes)
    context = chosen.max_model_len or model.context_tokens or _DEFAULT_CONTEXT
    contexts = 0 if model.abilities == (Ability.EMBEDDING,) else options.kv_contexts
    keys = int(cell_bytes(model.metadata, "f16") * context * contexts)
    return (model.size_bytes + keys) // chosen.tensor_parallel_size + _BASE_BYTES


def utilization(model: Model, options: LoadOptions, chosen: Options, device: Device) -> float:
    """The part of the device's memory to take, upwards to whole hundredths."""
    if chosen.gpu_memory_utilization is not None:
        return chosen.gpu_memory_utilization
    if not device.memory_bytes:
        return _MOST
    part = math.ceil(100 * needed_bytes(model, options, chosen) / device.memory_bytes) / 100
    return min(max(part, _LEAST), _MOST)
