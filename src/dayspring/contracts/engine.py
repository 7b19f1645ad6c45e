"""What an engine must do. Provisional until text, sound and pictures have all tried it.

An engine has two halves. The cheap half (`engine.py`) is imported by the server: a name, what it can run, an estimate
of memory. The heavy half (`worker.py`) is imported only in a worker process (`placement = "process"`) and turns a model
into a session. An engine that only talks to the network (`placement = "inline"`) runs its session in the server
process, so its module must import nothing heavy.

A session's `run` is an async generator of events. Leaving the generator early (GeneratorExit, CancelledError) means
nobody wants the rest: stop the work within 200 ms. Errors are raised from `core.errors`; anything else is a defect.
"""

from collections.abc import AsyncIterator, Callable
from typing import Any, Literal, Protocol, runtime_checkable

import msgspec

from dayspring.contracts.devices import Device
from dayspring.contracts.events import Event
from dayspring.contracts.models import Ability, Model
from dayspring.contracts.tasks import Task
from dayspring.core.errors import InvalidRequest

__all__ = ["Engine", "LoadOptions", "Session", "engine_defaults"]


class LoadOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """The operator's settings that an engine needs; see the settings of the same names."""

    threads: int = 0
    slots: int = 8
    kv_contexts: int = 4
    memory_bytes: int = 0
    """Most memory this model may use; 0: not limited."""
    request_timeout_s: float = 600
    secrets: dict[str, str] = {}
    """For inline engines only: upstream keys by host. Never sent to a process."""
    executables: dict[str, str] = {}
    """Programs that engines start, by the engine's name: a name to look for, or a path."""


@runtime_checkable
class Session(Protocol):
    """One loaded model."""

    @property
    def parallel(self) -> int:
        """How many runs make progress at once; the host queues the rest in order of arrival."""

    def run(self, task: Task) -> AsyncIterator[Event]:
        """Do the task. Ends with Usage."""

    async def count_tokens(self, task: Task) -> int:
        """Input tokens of the task, exactly as `run` would count them."""

    async def close(self) -> None:
        """Let go of the model. Called once, when nothing runs."""


class Engine(Protocol):
    """The cheap half."""

    @property
    def name(self) -> str: ...

    @property
    def abilities(self) -> frozenset[Ability]: ...

    @property
    def formats(self) -> frozenset[str]: ...

    @property
    def devices(self) -> frozenset[str]:
        """Kinds of device it can use, e.g. {"cpu", "cuda"}."""

    @property
    def placement(self) -> Literal["process", "inline"]: ...

    @property
    def speaks_openai(self) -> bool:
        """Whether it hands OpenAI's fields on to a service that reads them: then `task.extra` carries every field
        this platform does not read, and `tool_choice`; otherwise a forced call arrives as `task.schema`."""

    @property
    def session(self) -> str | Callable[[Model, Device, LoadOptions], Any]:
        """`module:function` of the worker half, or for an inline engine the function itself.

        The function is `async (model, device, options) -> Session`.
        """

    def runs_on(self, model: Model) -> frozenset[str]:
        """Those kinds of device that this model may be placed on."""

    def missing(self, options: LoadOptions) -> str:
        """What this machine lacks to run any model with it, and what to do, in a sentence; empty for nothing."""

    def memory_bytes(self, model: Model, options: LoadOptions) -> int:
        """What the model will need on its device, from its header alone."""

    def check_options(self, options: dict[str, Any]) -> None:
        """Raises InvalidRequest for a model option this engine does not know."""


class engine_defaults:  # noqa: N801 - read as a word in `class Echo(engine_defaults)`
    """What most engines answer, so that the smallest is a dozen lines."""

    abilities: frozenset[Ability] = frozenset({Ability.CHAT})
    formats: frozenset[str] = frozenset()
    devices: frozenset[str] = frozenset({"cpu"})
    placement: Literal["process", "inline"] = "process"
    speaks_openai: bool = False

    def runs_on(self, model: Model) -> frozenset[str]:
        return self.devices

    def missing(self, options: LoadOptions) -> str:
        return ""

    def memory_bytes(self, model: Model, options: LoadOptions) -> int:
        return model.memory_bytes or model.size_bytes

    def check_options(self, options: dict[str, Any]) -> None:
        known: frozenset[str] = getattr(self, "options", frozenset())
        for name in options.keys() - known:
            listed = ", ".join(sorted(known)) or "none"
            raise InvalidRequest(f"There is no engine option {name!r} here. Use one of: {listed}.", param=name)
