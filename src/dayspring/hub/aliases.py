"""Names that lead to models: resolving chains of them, and changing them.

What holds: a chain is followed MAX_STEPS deep at most and a loop is refused when it would be made; an alias never has a
model's id; a target that is not here is passed over while another is.
What it does not do: try one model after another. `dispatch` does.
"""

from collections.abc import Mapping

from sqlalchemy import Connection

from dayspring.accounts.principals import Principal
from dayspring.contracts.clock import Clock
from dayspring.contracts.models import Model
from dayspring.core.errors import Conflict, DayspringError, InvalidRequest, NotFound
from dayspring.hub.auditing import note
from dayspring.hub.planning import check_id
from dayspring.store.aliases import Alias, delete_alias, list_aliases, put_alias
from dayspring.store.database import Database
from dayspring.store.models import list_models, model_exists

__all__ = ["Aliases", "routes"]

MAX_STEPS = 8
"""Deepest chain of aliases."""
MAX_TARGETS = 8
"""Models that one request may try."""


class Aliases:
    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def list(self) -> list[Alias]:
        """By name."""
        return await self._db.read(list_aliases)

    async def set(self, name: str, targets: tuple[str, ...], by: Principal | None) -> Alias:
        """See `Hub.set_alias`."""
        now_ns = self._clock.time_ns()
        seconds = now_ns // 10**9
        alias = Alias(check_id(name), tuple(check_id(each) for each in targets), seconds, seconds)
        if not 1 <= len(alias.targets) <= MAX_TARGETS or len(set(alias.targets)) < len(alias.targets):
            raise InvalidRequest(f"An alias has 1 to {MAX_TARGETS} different targets. Name the first, then fallbacks.")

        def write(connection: Connection) -> Alias:
            models = {model.id for model in list_models(connection)}
            others = {each.name: each.targets for each in list_aliases(connection) if each.name != name}
            _check(alias, models, others)
            note(connection, now_ns, by, "model.alias.set", name, {"targets": list(alias.targets)})
            return put_alias(connection, alias)

        return await self._db.write(write)

    async def remove(self, name: str, by: Principal | None) -> None:
        """Raises NotFound."""
        now_ns = self._clock.time_ns()

        def write(connection: Connection) -> None:
            if not delete_alias(connection, name):
                raise NotFound("alias", name, "See 'dayspring models alias' for those there are.")
            note(connection, now_ns, by, "model.alias.removed", name, {})

        await self._db.write(write)


def _check(alias: Alias, models: set[str], others: Mapping[str, tuple[str, ...]]) -> None:
    """Raises Conflict for a model's id and for a loop, NotFound for a target that is neither."""
    error: DayspringError | None = None
    if alias.name in models:
        error = model_exists(alias.name)
    for target in alias.targets:
        if target not in models and target not in others and target != alias.name:
            error = NotFound("model or alias", target, "See GET /v1/models for those that are here.", param="targets")
    known = {**others, alias.name: alias.targets}
    depths: dict[str, int] = {}
    if error is None and _depth(alias.name, known, depths) > MAX_STEPS:
        what = f"{alias.name!r} would lead back to itself, or through over {MAX_STEPS} aliases"
        error = Conflict(what, "Name a model as the target.")
    # Also those that lead here: their chains grow by this one.
    for name in known if error is None else ():
        if _depth(name, known, depths) > MAX_STEPS:
            error = Conflict(f"{name!r} would lead through over {MAX_STEPS} aliases", "Name a model as the target.")
    if error is not None:
        raise error


def _depth(name: str, known: Mapping[str, tuple[str, ...]], depths: dict[str, int]) -> int:
    """Aliases on the longest way from a name to models; over MAX_STEPS for a loop. `depths` are those known already,
    so that each alias is looked at once: the ways through a few layers of aliases are millions.
    """
    if name not in known:
        return 0
    if name not in depths:
        depths[name] = MAX_STEPS + 1  # met again below: a loop
        depths[name] = 1 + max((_depth(target, known, depths) for target in known[name]), default=0)
    return depths[name]


def routes(aliases: list[Alias], models: Mapping[str, Model]) -> dict[str, tuple[Model, ...]]:
    """The models of each alias in the order in which to try them; those of no model here are left out."""
    known = {each.name: each.targets for each in aliases}
    ways: dict[str, dict[str, Model]] = {}
    found = {name: tuple(_models(name, known, models, ways).values())[:MAX_TARGETS] for name in known}
    return {name: way for name, way in found.items() if way and name not in models}


def _models(
    name: str, known: Mapping[str, tuple[str, ...]], models: Mapping[str, Model], ways: dict[str, dict[str, Model]]
) -> dict[str, Model]:
    """The models of a name, by their ids, in order. `ways` has those of the aliases looked at already."""
    if name in models:
        return {name: models[name]}
    if name not in ways:
        ways[name] = {}  # met again below: a loop, which leads nowhere
        for target in known.get(name, ()):
            for each, model in _models(target, known, models, ways).items():
                ways[name].setdefault(each, model)
    return ways[name]
