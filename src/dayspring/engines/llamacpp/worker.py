"""llama.cpp's heavy half: opens the library's server on one model, in a worker process.

The library always listens: here on a Unix socket in a private folder, behind a random key, never on the network.
"""

import asyncio
import secrets
import sys
import tempfile
from pathlib import Path
from typing import Any

import xllamacpp

from dayspring.contracts.devices import Device
from dayspring.contracts.engine import LoadOptions
from dayspring.contracts.models import Ability, Model
from dayspring.core.errors import Refused
from dayspring.engines.llamacpp.embedding import EmbeddingSession
from dayspring.engines.llamacpp.layout import Layout, layout
from dayspring.engines.llamacpp.local_http import LocalServer
from dayspring.engines.llamacpp.reranking import RerankSession
from dayspring.engines.llamacpp.session import TextSession

__all__ = ["open_session"]

_ERRORS_ONLY = 1
_ALL_LAYERS = 10_000
_POOLING = {"mean": "MEAN", "cls": "CLS", "last": "LAST", "rank": "RANK"}


async def open_session(
    model: Model, device: Device, options: LoadOptions
) -> TextSession | EmbeddingSession | RerankSession:
    """Raises Refused for a file the library cannot load."""
    plan = layout(model, options, device.kind)
    folder = tempfile.TemporaryDirectory(prefix="dayspring-")  # made with mode 0700
    key = secrets.token_urlsafe(32)
    path = str(Path(folder.name) / "llama.sock")  # the ending is how the library tells a socket from a host
    params = _parameters(model, device, options, plan)
    params.slot_save_path = folder.name + "/"  # without one the library empties no slot; nothing is saved
    params.hostnames = [path]
    params.api_keys = [key]
    try:
        server = await asyncio.to_thread(xllamacpp.Server, params)
    except RuntimeError as error:
        folder.cleanup()
        print(f"llama.cpp: {error}", file=sys.stderr, flush=True)  # noqa: T201 - the worker's log
        raise Refused(
            file=Path(model.path).name,
            rule="llama.cpp could not load it",
            remedy="It may be damaged, or of a kind this version does not know. Add it again, or choose another.",
        ) from None
    local = LocalServer(path, key)
    mark = f"llamacpp-{xllamacpp.__version__}-{'split' if plan.split else 'shared'}-{plan.batch_tokens}-{device.kind}"
    if model.abilities == (Ability.RERANK,):
        return RerankSession(server, local, folder, model, plan, mark)
    if params.embedding:
        return EmbeddingSession(server, local, folder, model, plan, mark)
    return TextSession(server, local, folder, model, plan, mark)


def _parameters(model: Model, device: Device, options: LoadOptions, plan: Layout) -> Any:
    params = xllamacpp.CommonParams()
    params.model.path = model.path
    params.n_ctx = plan.pool_tokens
    params.n_parallel = plan.slots
    params.kv_unified = not plan.split
    params.n_batch = params.n_ubatch = plan.batch_tokens
    params.cont_batching = True
    params.ctx_shift = False
    # Prompts are kept in their slots only: what lies outside is found by anyone whose prompt begins the same.
    params.cache_ram_mib = 0
    params.fit_params = False
    params.use_jinja = True
    params.chat_template = str(model.options.get("chat_template", ""))
    params.ui = params.endpoint_slots = params.endpoint_metrics = params.endpoint_props = False
    params.verbosity = _ERRORS_ONLY
    params.warmup = False  # the host's first inference is one
    params.offline = True
    threads = options.threads or device.threads
    if threads:
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    cache_type = getattr(xllamacpp.ggml_type, f"GGML_TYPE_{str(model.options.get('cache_type', 'f16')).upper()}")
    params.cache_type_k = params.cache_type_v = cache_type
    if device.kind == "cpu":
        params.n_gpu_layers = 0
    else:
        params.n_gpu_layers = _ALL_LAYERS
        params.main_gpu = int(device.id.partition(":")[2] or 0)
        params.split_mode = xllamacpp.llama_split_mode.LLAMA_SPLIT_MODE_NONE
    if projector := str(model.metadata.get("projector_file", "")):
        params.mmproj.path = str(Path(model.path).parent / projector)
        params.mmproj_use_gpu = device.kind != "cpu"
    if model.adapters:
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(adapter.path, 1.0) for adapter in model.adapters]
        params.lora_init_without_apply = True
    if model.abilities in ((Ability.EMBEDDING,), (Ability.RERANK,)):
        params.embedding = True
        pooling = _POOLING.get(str(model.metadata.get("pooling", "")))
        if pooling is not None:  # else what the header says, which the library reads itself
            params.pooling_type = getattr(xllamacpp.llama_pooling_type, f"LLAMA_POOLING_TYPE_{pooling}")
    return params
