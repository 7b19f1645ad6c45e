"""The hub: where models come from, and which are here. The user's verbs are plan, add, list, get and remove.

What holds: nothing big is fetched before a plan was made; a model is here only when its files were verified, its format
read from its header and its licence recorded. What it does not do: load a model. `compute` does.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from dayspring.contracts.blobs import BlobStore
from dayspring.contracts.clock import Clock
from dayspring.contracts.engine import Engine
from dayspring.contracts.models import Ability, Model
from dayspring.contracts.registry import engines as installed_engines
from dayspring.core.errors import NotFound
from dayspring.core.settings import Settings
from dayspring.hub.adding import Adder
from dayspring.hub.catalogue import DEFAULT_PACK, CataloguedModel, catalogue
from dayspring.hub.fetching.assembly import Assembler
from dayspring.hub.fetching.download import Downloader
from dayspring.hub.fetching.network import Fetcher
from dayspring.hub.finding import Finder
from dayspring.hub.plan import Plan, Progress, ProgressCallback
from dayspring.hub.planning import Planner
from dayspring.hub.shelf import Shelf
from dayspring.store.database import Database
from dayspring.store.models import LicenceAcceptance, list_acceptances

__all__ = ["Hub"]

_CACHE_NS = 1_000_000_000
_GRACE_S = 7 * 86_400.0


_Models = list[Model]
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
        downloader = Downloader(self._fetcher, blobs, settings, pause_s=retry_pause_s)
        finder = Finder(self._fetcher, downloader, settings, catalogue() if catalogued is None else catalogued)
        self._planner = Planner(finder, blobs, settings, engines)
        assembler = Assembler(downloader, blobs, scratch)
        self._adder = Adder(db, blobs, assembler, self._shelf, scratch, settings, clock, engines)
        self._known: dict[str, Model] = {}
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
    ) -> Plan:
        """What adding `source` (an address, or a name of the catalogue) would do. Fetches directories and headers only.

        `sha256` is what an https: file must have; `licence` is the operator's own word on the terms; `abilities`
        overrides what the header says, and is how an upstream's are told (default: chat and completion, or embedding
        when its name says so). What stands against it is in `Plan.refusals`; what cannot even be planned raises.
        """
        return await self._planner.plan(
            source, id, sha256=sha256, licence=licence, abilities=abilities, options=options
        )

    async def add(
        self, plan: Plan, accept_licence: str | None = None, progress: ProgressCallback | None = None
    ) -> Model:
        """Carry out a plan. `accept_licence` is who accepts its licence, where that is needed; it is recorded.

        Raises Refused for what the plan refuses or for bytes, formats and archives that break a rule, PermissionDenied
        without a needed acceptance or for gated files, Conflict for a taken id or a running download of the same file,
        Unavailable for a network that fails: then call again, it goes on where it stopped. So it does after a kill.
        """
        model = await self._adder.add(plan, accept_licence, progress or _unheard)
        self._forget()
        return await self.get(model.id)

    async def list(self) -> _Models:
        """Every model, oldest first."""
        return await self._shelf.models()

    async def get(self, model_id: str) -> Model:
        """At most a second old, but for changes made here. Raises NotFound. The gateway's hot path: mostly a lookup."""
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
        known = {model.id: model for model in await self._shelf.models()}
        # What was read before a change here must not be believed after it.
        if changes == self._changes:
            self._known = known
            self._known_until_ns = self._clock.monotonic_ns() + _CACHE_NS

    def _forget(self) -> None:
        self._changes += 1
        self._known_until_ns = -1

    async def remove(self, model_id: str) -> None:
        """Take the model and the files that only it is made of off this machine. Raises NotFound."""
        await self._shelf.remove(model_id)
        self._forget()

    async def verify(self, model_id: str) -> None:
        """Read every file of a model again. Raises Unavailable for damage, NotFound."""
        await self.get(model_id)
        for file in await self._shelf.files(model_id):
            await asyncio.to_thread(self._blobs.verify, file.sha256)

    async def acceptances(self) -> _Acceptances:
        """Every licence that was accepted here, oldest first."""
        return await self._db.read(list_acceptances)

    async def collect(self, grace_s: float = _GRACE_S) -> int:
        """Remove files no model is made of that nobody touched for `grace_s` seconds. Returns bytes freed."""
        referenced = await self._shelf.referenced()
        await asyncio.to_thread(self._shelf.sweep, grace_s)
        await asyncio.to_thread(self._adder.sweep, grace_s)
        return (await asyncio.to_thread(self._blobs.collect, referenced, grace_s)).bytes

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
