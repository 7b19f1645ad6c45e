"""The command line and environment of `vllm serve` for one model.

What holds: it listens on a Unix socket in a folder that only this user can enter, and on no port; its key is in its
environment, which other users cannot read, not on its command line, which they can; no code of a model's own is run, no
pickle is read, nothing is fetched; what it remembers of pictures is not shared between requests.
"""

import hashlib
from pathlib import Path

from dayspring.contracts.devices import Device
from dayspring.contracts.engine import LoadOptions
from dayspring.contracts.models import Ability, Adapter, Modality, Model
from dayspring.core.environment import child_environment
from dayspring.engines.vllm.memory import needed_bytes, utilization
from dayspring.engines.vllm.options import Options

__all__ = ["adapter_name", "arguments", "environment"]

SERVED_NAME = "model"
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What --max-lora-rank may be."""
_MOST_PICTURES = 32
_GIB = 1 << 30


def adapter_name(adapter: str) -> str:
    """What vLLM calls an adapter; for none, the model. An id may hold what its command line could take for more."""
    return f"adapter-{hashlib.sha256(adapter.encode()).hexdigest()[:16]}" if adapter else SERVED_NAME


def arguments(
    program: str, model: Model, device: Device, options: LoadOptions, chosen: Options, socket: Path
) -> list[str]:
    """The whole command."""
    command = [
        *(program, "serve", model.path, "--uds", str(socket), "--served-model-name", SERVED_NAME),
        *("--load-format", "safetensors", "--dtype", chosen.dtype),
        *("--max-num-seqs", str(chosen.max_num_seqs or options.slots)),
        *("--tensor-parallel-size", str(chosen.tensor_parallel_size)),
        *("--enable-prompt-tokens-details", "--disable-uvicorn-access-log"),
    ]
    if context := chosen.max_model_len or model.context_tokens:
        command += ["--max-model-len", str(context)]
    if chosen.device != "cpu":
        command += ["--gpu-memory-utilization", f"{utilization(model, options, chosen, device):.2f}"]
    if chosen.quantization:
        command += ["--quantization", chosen.quantization]
    if chosen.tool_call_parser:
        command += ["--enable-auto-tool-choice", "--tool-call-parser", chosen.tool_call_parser]
    if chosen.reasoning_parser:
        command += ["--reasoning-parser", chosen.reasoning_parser]
    if chosen.enforce_eager:
        command.append("--enforce-eager")
    if model.abilities == (Ability.EMBEDDING,):
        command += ["--runner", "pooling"]
    if Modality.IMAGE in model.reads:
        # Its memory of pictures knows no salt: whoever sends one again would learn from the time that somebody had it.
        command += ["--limit-mm-per-prompt", f'{{"image": {_MOST_PICTURES}}}', "--mm-processor-cache-gb", "0"]
    return command + _adapters(model.adapters)


def _adapters(adapters: tuple[Adapter, ...]) -> list[str]:
    if not adapters:
        return []
    largest = max(adapter.rank for adapter in adapters)
    rank = next((allowed for allowed in _RANKS if allowed >= largest), _RANKS[-1])
    named = [f"{adapter_name(adapter.id)}={adapter.path}" for adapter in adapters]
    return ["--enable-lora", "--max-loras", str(len(adapters)), "--max-lora-rank", str(rank), "--lora-modules", *named]


def environment(model: Model, device: Device, options: LoadOptions, chosen: Options, key: str) -> dict[str, str]:
    """The child's."""
    index = chosen.visible_devices or device.id.partition(":")[2]
    more = {
        "VLLM_API_KEY": key,
        "VLLM_HOST_IP": "127.0.0.1",  # where its processes meet
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1",
        # An operator's own settings for other servers must not open these.
        "VLLM_SERVER_DEV_MODE": "0",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "0",
        "VLLM_ALLOW_INSECURE_SERIALIZATION": "0",
    }
    if chosen.device == "cuda" and index:
        more["CUDA_VISIBLE_DEVICES"] = index
    if chosen.device == "rocm" and index:
        more["HIP_VISIBLE_DEVICES"] = index
    if chosen.device == "cpu":
        keys = max(needed_bytes(model, options, chosen) - model.size_bytes, 0)
        more["VLLM_CPU_KVCACHE_SPACE"] = str(max(1, keys // _GIB))
    return child_environment(**more)
