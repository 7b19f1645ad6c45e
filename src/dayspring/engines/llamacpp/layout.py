"""How a GGUF model is laid out in memory: context, slots, key-value memory and batch, from its header alone.

Two layouts of the key-value memory. `split`: every slot has its own whole context, so a stream's arithmetic does not
depend on its neighbours and the same seed gives the same text whatever else runs; taken while it costs at most an
eighth of the memory there is. `shared`: one pool of `kv_contexts` contexts that any request may fill alone; then the
same seed gives the same text only while nothing else runs.
Both let one request use the model's whole context. The engine's estimate and the worker read the same layout.
"""

from pathlib import Path

import msgspec

from dayspring.contracts.engine import LoadOptions
from dayspring.contracts.models import Ability, Model
from dayspring.engines.key_values import cell_bytes

__all__ = ["Layout", "layout"]

_DEFAULT_CONTEXT = 4096
_SMALLEST_CONTEXT = 512
_SPLIT_SHARE = 8
"""`split` may take one part in so many of the memory."""
_BASE_BYTES = 192 << 20
"""Interpreter, library and buffers that do not grow with the model."""
_LOGITS = 4
"""Bytes of one logit."""
_BATCH_S = 0.15
_FLOPS_PER_THREAD = 30e9
"""What one thread of a plain server processor gets done in a batch; measured 35e9 on an AMD EPYC (Zen 4) core."""
_MOST_BATCH = 512


class Layout(msgspec.Struct, frozen=True):
    context_tokens: int
    """Most tokens of one request, prompt and answer together."""
    slots: int
    pool_tokens: int
    """Cells of the key-value memory in all."""
    split: bool
    batch_tokens: int
    """Most tokens computed between two looks at what was cancelled: about 0.15 s of work on a processor."""
    memory_bytes: int
    """Weights, key-value memory and working buffers."""


def layout(model: Model, options: LoadOptions, device: str = "cpu") -> Layout:
    """The layout for a kind of device. Depends on nothing that changes between two starts on the same settings."""
    facts = model.metadata
    trained = model.context_tokens or int(facts.get("context_length", 0)) or _DEFAULT_CONTEXT
    context = min(int(model.options.get("n_ctx", trained)), trained)
    cell = cell_bytes(facts, str(model.options.get("cache_type", "f16")))
    fixed = model.size_bytes + sum(_file_bytes(adapter.path) for adapter in model.adapters) + _BASE_BYTES
    if model.abilities in ((Ability.EMBEDDING,), (Ability.RERANK,)):
        # An encoder reads an input in one batch and keeps nothing of it.
        slots = min(options.slots, 8)
        work = context * int(facts.get("embedding_length", 1024)) * 64
        return Layout(context, slots, context * slots, True, context, fixed + work)
    batch = _batch_tokens(model, options, device)
    fixed += batch * int(facts.get("vocabulary", 65_536)) * _LOGITS
    room = options.memory_bytes - fixed if options.memory_bytes else None
    wish = model.options.get("kv")
    split_bytes = options.slots * context * cell
    fits = room is None or split_bytes <= room
    cheap = room is None or split_bytes <= options.memory_bytes / _SPLIT_SHARE or options.kv_contexts >= options.slots
    if fits and (wish == "split" or (wish is None and cheap)):
        pool = options.slots * context
        return Layout(context, options.slots, pool, True, batch, fixed + int(pool * cell))
    pool = options.kv_contexts * context
    if room is not None:
        pool = min(pool, max(int(room / cell), _SMALLEST_CONTEXT)) // 256 * 256
    return Layout(min(context, pool), options.slots, pool, False, batch, fixed + int(pool * cell))


def _batch_tokens(model: Model, options: LoadOptions, device: str) -> int:
    """A power of two with about `_BATCH_S` of work on a processor; an accelerator is quick enough for the largest.

    Computed, not measured: the size of the batch changes the rounding, and the same seed is to give the same text
    after the next start as well.
    """
    wished = model.options.get("n_batch")
    if wished is not None:
        return int(wished)
    if device != "cpu":
        return _MOST_BATCH
    parameters = int(model.metadata.get("parameters", 0)) or max(model.size_bytes, 1) * 2
    tokens = _BATCH_S * _FLOPS_PER_THREAD * max(options.threads, 1) / (2 * parameters)
    batch = 8
    while batch * 2 <= min(tokens, _MOST_BATCH) or batch < 2 * options.slots:
        batch *= 2
    return batch


def _file_bytes(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0
