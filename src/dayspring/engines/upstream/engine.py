"""The engine `upstream`: models that another service runs, by OpenAI's protocol. It talks, and computes nothing."""

from collections.abc import Callable
from typing import Any, Literal

from dayspring.contracts.devices import Device
from dayspring.contracts.engine import LoadOptions, engine_defaults
from dayspring.contracts.models import Ability, Model
from dayspring.engines.upstream.options import read_options
from dayspring.engines.upstream.session import open_session

__all__ = ["Upstream", "engine"]


class Upstream(engine_defaults):
    """See `options.Options` for what a model may set."""

    name = "upstream"
    abilities = frozenset(Ability)
    formats = frozenset({"upstream"})
    placement: Literal["process", "inline"] = "inline"

    @property
    def session(self) -> Callable[[Model, Device, LoadOptions], Any]:
        return open_session

    def memory_bytes(self, model: Model, options: LoadOptions) -> int:
        return 0

    def check_options(self, options: dict[str, Any]) -> None:
        read_options(options)


engine = Upstream()
