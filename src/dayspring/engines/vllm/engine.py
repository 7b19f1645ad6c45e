"""vLLM's cheap half: what it runs, with which options, and what a model will need.

What it does not do: import vLLM, or start it. Its program is the operator's; `worker.py` starts it.
"""

import shutil
from typing import Any

from dayspring.contracts.engine import LoadOptions, engine_defaults
from dayspring.contracts.models import Ability, Model
from dayspring.engines.vllm.memory import needed_bytes
from dayspring.engines.vllm.options import read_options

__all__ = ["Vllm", "engine"]

NAME = "vllm"


class Vllm(engine_defaults):
    """See `options.Options` for what a model may set."""

    name = NAME
    abilities = frozenset({Ability.CHAT, Ability.COMPLETION, Ability.EMBEDDING})
    formats = frozenset({"safetensors"})
    devices = frozenset({"cuda", "rocm", "cpu"})
    session = "dayspring.engines.vllm.worker:open_session"

    def runs_on(self, model: Model) -> frozenset[str]:
        return frozenset({read_options(model.options).device})

    def missing(self, options: LoadOptions) -> str:
        program = options.executables.get(NAME, NAME)
        if shutil.which(program) is not None:
            return ""
        return (
            f"vLLM is not installed here: there is no program {program!r}. Install it into an environment of its own "
            "('pip install vllm', version 0.12 or newer), and name its program in DAYSPRING_VLLM_EXECUTABLE."
        )

    def memory_bytes(self, model: Model, options: LoadOptions) -> int:
        return needed_bytes(model, options, read_options(model.options))

    def check_options(self, options: dict[str, Any]) -> None:
        read_options(options)


engine = Vllm()
