"""The options of a model for vLLM, checked strictly when the model is added and again when it is loaded."""

import re
from typing import Annotated, Any, Final, Literal

import msgspec

from dayspring.core.errors import InvalidRequest

__all__ = ["Options", "read_options"]

_Word = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9_]{1,40}$")]


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """All of a model's options. What is not set is vLLM's own choice."""

    max_model_len: Annotated[int, msgspec.Meta(ge=256, le=1 << 24)] | None = None
    """Tokens of context, prompt and answer together; fewer need less memory."""
    max_num_seqs: Annotated[int, msgspec.Meta(ge=1, le=4096)] | None = None
    """Requests computed together; more wait here. Empty: DAYSPRING_SLOTS."""
    gpu_memory_utilization: Annotated[float, msgspec.Meta(ge=0.05, le=0.98)] | None = None
    """Part of the accelerator's memory to take. Empty: what the weights and DAYSPRING_KV_CONTEXTS contexts need."""
    tensor_parallel_size: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    """Accelerators to spread the weights over; name them in `visible_devices`."""
    visible_devices: Annotated[str, msgspec.Meta(pattern=r"^(\d{1,3}(,\d{1,3}){0,63})?$")] = ""
    """Indexes of the accelerators to use, e.g. `0,1`. Empty: the one it is placed on."""
    quantization: Literal[
        "", "awq", "awq_marlin", "bitsandbytes", "compressed-tensors", "fp8", "gptq", "gptq_marlin", "modelopt"
    ] = ""
    """Empty: what the model's configuration says."""
    dtype: Literal["auto", "half", "float16", "bfloat16", "float32"] = "auto"
    """The numbers to compute with."""
    tool_call_parser: _Word | Literal[""] = ""
    """vLLM's name for how this model writes calls of tools, e.g. `hermes`. Without it a request with tools is refused,
    unless it forces one."""
    reasoning_parser: _Word | Literal[""] = ""
    """vLLM's name for how this model marks its thoughts."""
    enforce_eager: bool = False
    """Start quicker and compute slower: no graphs are captured."""
    device: Literal["cuda", "rocm", "cpu"] = "cuda"
    """What it is placed on. The installed vLLM must be built for it."""


_WHOLE_FIELD: Final = re.compile(r" - at `\$\.?([a-z_]*)`$")


def read_options(options: dict[str, Any]) -> Options:
    """The options as typed values. Raises InvalidRequest that names the field and the rule."""
    try:
        found = msgspec.convert(options, Options)
    except msgspec.ValidationError as error:
        # Our own validator's sentence about the operator's own options: a field and a rule, no foreign text.
        where = _WHOLE_FIELD.search(str(error))
        raise InvalidRequest(
            f"The options for vLLM are wrong: {error}. Correct the model's options.", param=where[1] if where else None
        ) from None
    if found.tensor_parallel_size > 1 and len(found.visible_devices.split(",")) != found.tensor_parallel_size:
        raise InvalidRequest(
            f"'tensor_parallel_size' is {found.tensor_parallel_size}. Name as many accelerators in 'visible_devices'.",
            param="visible_devices",
        )
    return found
