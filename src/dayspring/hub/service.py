"""The hub: where models come from, which are here, and by which names. The user's verbs are search, plan, add, list,
get, remove, and those for aliases.

What holds: nothing big is fetched before a plan was made; a model is here only when its files were verified, its format
read from its header and its licence recorded. What it does not do: load a model. `compute` does.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dayspring.accounts.principals import Principal
from dayspring.contracts.blobs import BlobStore
from dayspring.contracts.clock import Clock
from dayspring.contracts.engine import Engine
from dayspring.contracts.models import Ability, Model
from dayspring.contracts.registry import engines as installed_engines
from dayspring.core.errors import NotFound
from dayspring.core.settings import Settings
from dayspring.hub.adapters.entries import check_unused, linked
from dayspring.hub.adding import Adder
from dayspring.hub.aliases import Aliases, routes
from dayspring.hub.auditing import note
from dayspring.hub.catalogue import DEFAULT_PACK, CataloguedModel, catalogue
from dayspring.hub.fetching.assembly import Assembler
from dayspring.hub.fetching.download import Downloader
from dayspring.hub.finding import Finder
from dayspring.hub.plan import Plan, Progress, ProgressCallback
from dayspring.hub.planning import Planner
from dayspring.hub.refetching import refetch
from dayspring.hub.search.service import Searcher
from dayspring.hub.search.values import Found, HubName
from dayspring.hub.shelf import Shelf
from dayspring.net.fetcher import Fetcher
from dayspring.store.aliases import Alias
from dayspring.store.database import Database
from dayspring.store.models import LicenceAcceptance, ModelFile, list_acceptances

__all__ = ["Hub"]

_CACHE_NS = 1_000_000_000
_GRACE_S = 7 * 86_400.0


_Models = list[Model]
_Names = list[str]
_Aliases = list[Alias]
_Files = list[tuple[ModelFile, Path]]
_Acceptances = list[LicenceAcceptance]
# Named here because inside Hub, `list` is a verb.


class Hub:
    """`fetcher`, `engines` and `catalogued` are for tests and closed networks. Close it when done."""

    def __init__(
        self,
        db: Database,
        blobs: BlobStore,
        settings: Settings,
        clock: Clock,
        *,
        fetcher: Fetcher | None = None,
        engines: Callable[[], Mapping[str, Engine]] = installed_engines,
        catalogued: Mapping[str, CataloguedModel] | None = None,
        retry_pause_s: float = 1,
    ) -> None:
        self._db = db
        self._blobs = blobs
        self._clock = clock
        self._fetcher = fetcher or Fetcher()
        scratch = settings.home / "scratch"
        scratch.mkdir(parents=True, exist_ok=True)
        self._shelf = Shelf(db, blobs, settings.home / "models")
        downloader = Downloader(self._fetcher, blobs, settings, let_go=self._shelf.let_go, pause_s=retry_pause_s)
        finder = Finder(self._fetcher, downloader, settings, catalogue() if catalogued is None else catalogued)
        self._planner = Planner(finder, blobs, settings, engines)
        assembler = Assembler(downloader, blobs, scratch, let_go=self._shelf.let_go)
        self._adder = Adder(db, blobs, assembler, self._shelf, scratch, settings, clock, engines)
        self._aliases = Aliases(db, clock)
        self._searcher = Searcher(self._fetcher, settings, engines)
        self._known: dict[str, Model] = {}
        """Models by their ids and by their aliases."""
        self._routes: dict[str, tuple[Model, ...]] = {}
        self._known_until_ns = -1
        self._refreshing: asyncio.Task[None] | None = None
        self._changes = 0

    async def close(self) -> None:
        await self._fetcher.close()

    async def plan(
        self,
        source: str,
        id: str | None = None,  # noqa: A002 - the name the user gives it
        *,
        sha256: str = "",
        licence: str = "",
        abilities: tuple[Ability, ...] = (),
        options: dict[str, Any] | None = None,
        base: str = "",
    ) -> Plan:
        """What adding `source` (an address, or a name of the catalogue) would do. Fetches directories and headers only.

        `sha256` is what an https: file must have; `licence` is the operator's own word on the terms; `abilities`
        overrides what the header says, and is how an upstream's are told (default: chat and completion, or embedding
        when its name says so); `base` is the model here that an adapter changes. What stands against it is in
        `Plan.refusals`; what cannot even be planned raises.
        """
        changed = await self.get(base) if base else None
        return await self._planner.plan(
            source, id, sha256=sha256, licence=licence, abilities=abilities, options=options, base=changed
        )

    async def check(self, plan: Plan, accept_licence: str | None = None) -> None:
        """What `add` would refuse at once: the plan's refusals, a taken id, terms that nobody accepted. Raises so."""
        await self._adder.check(plan, accept_licence)

    async def add(
        self,
        plan: Plan,
        accept_licence: str | None = None,
        progress: ProgressCallback | None = None,
        by: Principal | None = None,
    ) -> Model:
        """Carry out a plan. `accept_licence` is who accepts its licence, where that is needed; it is recorded. `by` is
        whose request it was, for the audit log; None for the terminal.

        Raises Refused for what the plan refuses or for bytes, formats and archives that break a rule, PermissionDenied
        without a needed acceptance or for gated files, Conflict for a taken id or a running download of the same file,
        Unavailable for a network that fails: then call again, it goes on where it stopped. So it does after a kill.
        """
        model = await self._adder.add(plan, accept_licence, progress or _unheard, by)
        self._forget()
        return await self.get(model.id)

    async def made_of(self, plan: Plan, since: int) -> bool:
        """Whether the plan's model is here and was made of it since then, in seconds since 1970 UTC."""
        sources = (plan.source, plan.pinned)
        known = await self._shelf.models()
        return any(model.id == plan.id and model.source in sources and model.created_at >= since for model in known)

    async def list(self) -> _Models:
        """Every model, oldest first."""
        return await self._shelf.models()

    async def search(self, words: str, hubs: Sequence[HubName] = (), limit: int = 20) -> Found:
        """Models at the hubs (none named: all of them) that fit the words. Hubs that failed are named with the rest.

        Raises InvalidRequest for no words.
        """
        return await self._searcher.search(words, hubs, limit, await self.list())

    async def aliases(self) -> _Aliases:
        """Every alias, by name, whether or not its models are here."""
        return await self._aliases.list()

    async def set_alias(self, name: str, targets: tuple[str, ...], by: Principal | None = None) -> Alias:
        """Let a name stand for the first target; the others are tried in order when it is not available.

        A target is a model here or another alias. Raises Conflict for a model's id and for a loop, NotFound for a
        target that is neither, InvalidRequest, Malformed.
        """
        alias = await self._aliases.set(name, targets, by)
        self._forget()
        return alias

    async def remove_alias(self, name: str, by: Principal | None = None) -> None:
        """Raises NotFound."""
        await self._aliases.remove(name, by)
        self._forget()

    def fallbacks(self, name: str) -> tuple[Model, ...]:
        """What to try after the model that `get` gave for this name just now, in order. Nothing for a model's id."""
        return self._routes.get(name, ())[1:]

    async def get(self, model_id: str) -> Model:
        """The model of an id, or the first of an alias. At most a second old, but for changes made here.

        Raises NotFound. The gateway's hot path: mostly a lookup.
        """
        while self._clock.monotonic_ns() >= self._known_until_ns:
            # One read for all who wait.
            if self._refreshing is None or self._refreshing.done():
                self._refreshing = asyncio.create_task(self._refresh())
            await asyncio.shield(self._refreshing)
        model = self._known.get(model_id)
        if model is None:
            raise NotFound("model", model_id, "See GET /v1/models for those that are here.", param="model")
        return model

    async def _refresh(self) -> None:
        changes = self._changes
        known = linked(await self._shelf.models())
        found = routes(await self._aliases.list(), known)
        # What was read before a change here must not be believed after it.
        if changes == self._changes:
            self._known = known | {name: way[0] for name, way in found.items()}
            self._routes = found
            self._known_until_ns = self._clock.monotonic_ns() + _CACHE_NS

    def _forget(self) -> None:
        self._changes += 1
        self._known_until_ns = -1

    async def remove(self, model_id: str, by: Principal | None = None) -> None:
        """Take the model and the files that only it is made of off this machine. Raises NotFound, Conflict for one that
        adapters change.

        Aliases that lead to it stay, and lead to what they have left.
        """
        now_ns = self._clock.time_ns()
        check_unused(model_id, await self.list())
        await self._shelf.remove(
            model_id, lambda connection: note(connection, now_ns, by, "model.removed", model_id, {})
        )
        self._forget()

    async def contents(self, model_id: str) -> tuple[Model, _Files]:
        """The model and the files it is made of, with where each lies. Raises NotFound."""
        model = await self.get(model_id)
        return model, [(file, self._blobs.path(file.sha256)) for file in await self._shelf.files(model.id)]

    async def verify(self, model_id: str) -> None:
        """Read every file of a model again. Raises Unavailable for damage, NotFound."""
        model = await self.get(model_id)
        for file in await self._shelf.files(model.id):
            await asyncio.to_thread(self._blobs.verify, file.sha256)

    async def acceptances(self) -> _Acceptances:
        """Every licence that was accepted here, oldest first."""
        return await self._db.read(list_acceptances)

    async def collect(self, grace_s: float = _GRACE_S) -> int:
        """Remove files no model is made of that nobody touched for `grace_s` seconds. Returns bytes freed."""
        await asyncio.to_thread(self._shelf.sweep, grace_s)
        await asyncio.to_thread(self._adder.sweep, grace_s)
        return (await asyncio.to_thread(self._blobs.collect, self._shelf.referenced, grace_s)).bytes

    def relink(self) -> _Names:
        """Put restored models in place, from the stored files. Ids of those whose files are not stored. Blocks."""
        return self._shelf.relink()

    async def fetch_missing(self, progress: ProgressCallback | None = None) -> _Names:
        """Fetch again, from their recorded sources, the files of models that a restore brought without them.

        The ids of those that are here now. Raises the first error after all were tried.
        """
        missing = await asyncio.to_thread(self._shelf.relink)
        wanted = [model for model in await self.list() if model.id in missing]
        return await refetch(self, self._shelf, wanted, progress)

    def default_pack(self) -> tuple[str, ...]:
        """Ids of the models of a fresh installation: one for chat, one for embeddings."""
        return DEFAULT_PACK

    async def ensure_default_pack(self, progress: ProgressCallback | None = None) -> _Models:
        """Add what is missing of it, at the same time. Raises the first error after all have ended."""
        here = {model.id for model in await self.list()}
        missing = [name for name in DEFAULT_PACK if name not in here]
        adding = (self._add_catalogued(name, progress) for name in missing)
        results = await asyncio.gather(*adding, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return [await self.get(name) for name in DEFAULT_PACK]

    async def _add_catalogued(self, name: str, progress: ProgressCallback | None) -> None:
        await self.add(await self.plan(name), progress=progress)


def _unheard(progress: Progress) -> None:
    """Nobody listens."""
