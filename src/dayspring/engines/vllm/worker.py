"""vLLM's worker half: checks the folder, starts `vllm serve` on it, and gives a session to it.

What holds: a folder that holds code, a pickle, or asks for code of its own is refused before anything is started; when
vLLM ends by itself this process ends too, so that its calls fail at once and the next one starts another.
"""

import asyncio
import json
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from dayspring.contracts.devices import Device
from dayspring.contracts.engine import LoadOptions
from dayspring.contracts.models import Model
from dayspring.core.errors import Refused
from dayspring.engines.vllm.command import SERVED_NAME, arguments, environment
from dayspring.engines.vllm.engine import NAME, engine
from dayspring.engines.vllm.options import read_options
from dayspring.engines.vllm.process import VllmProcess
from dayspring.engines.vllm.questions import Questions
from dayspring.engines.vllm.session import VllmSession

__all__ = ["check_folder", "open_session"]

_ENDED = 70
_CODE = frozenset({".py", ".pyc", ".so", ".sh"})
_PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
_ASKS_FOR_CODE = ("auto_map", "custom_pipelines", "custom_generate")
_MAX_CONFIG_BYTES = 64 << 20


async def open_session(model: Model, device: Device, options: LoadOptions) -> VllmSession:
    """Raises Refused for a folder that a rule forbids or vLLM cannot load, and where vLLM is not installed."""
    chosen = read_options(model.options)
    program = shutil.which(options.executables.get(NAME, NAME))
    if program is None:
        raise Refused(file="vLLM", rule=engine.missing(options).rstrip("."), remedy="Then load the model again.")
    for folder in (model.path, *(adapter.path for adapter in model.adapters)):
        await asyncio.to_thread(check_folder, Path(folder))
    place = tempfile.mkdtemp(prefix="dayspring-")  # made with mode 0700
    socket, key = Path(place) / "vllm.sock", secrets.token_urlsafe(32)
    process = VllmProcess(model.id)
    questions = Questions(model.id, SERVED_NAME, socket, key)
    try:
        command = arguments(program, model, device, options, chosen, socket)
        await process.start(command, environment(model, device, options, chosen, key))
        await process.healthy(questions.http, "/health")
        context = await questions.context_tokens() or model.context_tokens
    except BaseException:
        await questions.close()
        await process.close()
        shutil.rmtree(place, ignore_errors=True)
        raise
    session = VllmSession(model, options, chosen, process, questions, socket, key, context)
    session.watcher = asyncio.create_task(_end_with(process, place))
    return session


async def _end_with(process: VllmProcess, place: str) -> None:
    """Ends this worker when vLLM has ended and nobody asked it to."""
    await process.gone.wait()
    shutil.rmtree(place, ignore_errors=True)
    if not process.closing:
        print(f"vLLM ended by itself. Its last lines:\n{process.last_words()}", file=sys.stderr, flush=True)  # noqa: T201 - the log
        os._exit(_ENDED)


def check_folder(folder: Path) -> None:
    """Raises Refused for a folder whose loading could run what is in it."""
    for file in sorted(_files(folder)):
        name = file.relative_to(folder).as_posix()
        if file.suffix in _CODE:
            raise Refused(file=name, rule="it is program code", remedy="Take a model that needs none of its own.")
        if file.suffix in _PICKLES:
            raise Refused(file=name, rule="it may be a pickle", remedy="Keep only safetensors in the folder.")
        if file.suffix == ".json" and file.stat().st_size <= _MAX_CONFIG_BYTES and _asks_for_code(file):
            raise Refused(
                file=name,
                rule="it asks for code of the model's own ('auto_map')",
                remedy="Take a model that needs none: remote code is never run here.",
            )


def _files(folder: Path) -> Iterator[Path]:
    return (file for file in folder.rglob("*") if file.is_file())


def _asks_for_code(file: Path) -> bool:
    try:
        fields = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        return False
    return isinstance(fields, dict) and any(name in fields for name in _ASKS_FOR_CODE)
