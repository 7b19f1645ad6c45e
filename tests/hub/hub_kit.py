"""What the hub's tests share: engines that only say what they would run, and the type of a fixture."""

from collections.abc import Callable

from dayspring.contracts.engine import engine_defaults
from dayspring.contracts.models import Ability
from dayspring.hub.service import Hub


class Runner(engine_defaults):
    name = "runner"
    abilities = frozenset(Ability)
    formats = frozenset({"gguf"})
    session = "nowhere:nothing"


class Caller(engine_defaults):
    name = "upstream"
    abilities = frozenset(Ability)
    formats = frozenset({"upstream"})
    session = "nowhere:nothing"
    options = frozenset({"targets"})

    def memory_bytes(self, model: object, options: object) -> int:
        return 0


ENGINES = {"runner": Runner(), "upstream": Caller()}
MakeHub = Callable[..., Hub]
