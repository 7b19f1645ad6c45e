"""Making a plan: what a source has, what that is, whether it fits here, and on which terms."""

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from dayspring.contracts.blobs import BlobStore
from dayspring.contracts.engine import Engine
from dayspring.contracts.models import Ability, Model
from dayspring.core.errors import Malformed, Refused
from dayspring.core.settings import Settings
from dayspring.hub.adapters.entries import adapter_facts, adapter_of, adapts, owner_of_base
from dayspring.hub.adapters.fitting import misfits
from dayspring.hub.choice import is_weights
from dayspring.hub.configuration import CONFIGURATIONS, read_configuration
from dayspring.hub.conversions import conversion_of, converted_size_bytes
from dayspring.hub.description import (
    abilities_of,
    choose_engine,
    context_of,
    dimensions_of,
    estimate_memory,
    missing_for,
    projector_beside,
    reads_of,
)
from dayspring.hub.fetching.window import NoParts, peek_header
from dayspring.hub.finding import Finder
from dayspring.hub.formats.header import Header
from dayspring.hub.licences import commercial_use, front_matter_licence, spdx_id
from dayspring.hub.machine import disk_free_bytes, memory_limit_bytes
from dayspring.hub.plan import Found, Licence, Local, Plan, PlannedFile, Remote

__all__ = ["Planner", "check_id"]

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:-]{0,127}")
_SPARE_BYTES = 64 << 20
_ARCHIVES = ("zip", "tar")


def check_id(model_id: str) -> str:
    """The id itself. Raises Malformed for one that clients or folders could stumble over."""
    if not _ID.fullmatch(model_id) or ".." in model_id:
        raise Malformed("an id has letters, digits, '.', '_', '-', ':' and '/', at most 128 of them", location="id")
    return model_id


class Planner:
    def __init__(
        self, finder: Finder, blobs: BlobStore, settings: Settings, engines: Callable[[], Mapping[str, Engine]]
    ) -> None:
        self._finder = finder
        self._blobs = blobs
        self._settings = settings
        self._engines = engines

    async def plan(
        self,
        source: str,
        model_id: str | None,
        *,
        sha256: str = "",
        licence: str = "",
        abilities: tuple[Ability, ...] = (),
        options: dict[str, Any] | None = None,
        base: Model | None = None,
    ) -> Plan:
        """See `Hub.plan`."""
        found = await self._finder.find(source, sha256)
        refusals: list[str] = []
        warnings = list(found.warnings)
        facts, model_format = await self._look(found, refusals, warnings)
        if adapts(facts, base):
            base = owner_of_base(base, facts)
            facts = facts | adapter_facts(base, model_format)
            refusals += await asyncio.to_thread(misfits, base, facts)
        conversion = ""
        if kind := str(facts.get("conversion", "")):
            conversion, model_format = conversion_of(kind)
        able = abilities or tuple(Ability(name) for name in facts.get("abilities", ()))
        # Without a header nothing is said: the download will tell.
        able = able or (abilities_of(model_format, facts) if facts else ())
        engines = self._engines()
        model = _candidate(check_id(model_id or _proposed(found.name)), found, facts, model_format, able, engines)
        model = msgspec.structs.replace(model, options={**model.options, **(options or {})})
        if base is not None:
            model = adapter_of(base, model)
        if model.engine and model.options:
            engines[model.engine].check_options(model.options)
        memory = estimate_memory(engines, model, self._settings)
        terms = Licence(spdx_id(licence), "operator", licence) if licence else await self._licence(found, facts)
        plan = Plan(
            id=model.id,
            source=source,
            pinned=found.pinned,
            files=found.files,
            download_bytes=self._download_bytes(found.files),
            disk_bytes=self._disk_bytes(found.files) + (converted_size_bytes(facts) if conversion else 0),
            disk_free_bytes=disk_free_bytes(self._settings.home),
            format=model_format,
            engine=model.engine,
            abilities=model.abilities,
            licence=terms,
            needs_licence_acceptance=bool(found.files) and self._asks(terms),
            memory_bytes=memory,
            memory_limit_bytes=memory_limit_bytes(self._settings),
            context_tokens=model.context_tokens,
            conversion=conversion,
            options=model.options,
            metadata=model.metadata,
            owned_by=found.owned_by,
            base=model.base,
        )
        refusals += _misfits(plan, able) + self._lacking(engines, model.engine, facts)
        return msgspec.structs.replace(plan, warnings=tuple(warnings), refusals=tuple(refusals))

    def _lacking(self, engines: Mapping[str, Engine], name: str, facts: Mapping[str, Any]) -> list[str]:
        """What is not here that it needs, in sentences: the engine's program, or the model that it gives eyes to."""
        found = [missing] if (missing := missing_for(engines, name, self._settings)) else []
        if facts.get("kind") == "projector":
            found.append("It is a projector, the eyes of a model. Add the model's own file that it lies beside.")
        return found

    def _asks(self, terms: Licence) -> bool:
        return self._settings.model_licences == "commercial" and commercial_use(terms).verdict != "yes"

    async def _look(self, found: Found, refusals: list[str], warnings: list[str]) -> tuple[dict[str, Any], str]:
        """Facts and format, from the header of the first weights and the configuration beside them."""
        if not found.files:
            return found.facts, "upstream"
        if found.facts:
            return found.facts, str(found.facts["format"])
        header: Header | None = None
        try:
            header = await self._peek(found.files[0])
            facts = dict(header.facts) if header else {}
            for file in found.files:
                if file.path.rsplit("/", 1)[-1] in CONFIGURATIONS:
                    facts |= await self._configuration(file)
                elif "mmproj" in file.path and file is not found.files[0] and (beside := await self._peek(file)):
                    facts |= projector_beside(file.path, beside.facts)
        except Refused as refused:
            refusals.append(refused.message)
            return {}, ""
        if header is None:
            warnings.append("What is in the file is known only after the download: it is checked before it is kept.")
        elif header.format in _ARCHIVES:
            refusals.append(f"{found.files[0].path!r} is an archive. Name the file or folder in it after '#'.")
        guessed = found.files[0].path.rsplit(".", 1)[-1] if is_weights(found.files[0].path) else ""
        return facts, str(facts.pop("folder_format", header.format if header else guessed))

    async def _peek(self, file: PlannedFile) -> Header | None:
        part = file.parts[0]
        if len(file.parts) > 1:
            return None
        try:
            return (await peek_header(await self._finder.window(part.origin), file.path, part.members))[0]
        except NoParts:
            return None

    async def _configuration(self, file: PlannedFile) -> dict[str, Any]:
        """What config.json says: its facts, and the conversion it allows. Raises Refused for code of its own."""
        data = await self._finder.small_file(file)
        if data is None:
            return {}
        return read_configuration(file.path, data)

    async def _licence(self, found: Found, facts: Mapping[str, Any]) -> Licence:
        """The most specific word on the terms: the source's, the model card's, the header's."""
        if found.licence.name:
            return msgspec.structs.replace(found.licence, name=spdx_id(found.licence.name))
        card = next((file for file in found.files if file.path.rsplit("/", 1)[-1] == "README.md"), None)
        data = await self._finder.small_file(card) if card else None
        if name := front_matter_licence((data or b"").decode("utf-8", "replace")):
            return Licence(name, "model card", name)
        if facts.get("licence"):
            return Licence(spdx_id(str(facts["licence"])), "file header", str(facts["licence"]))
        return Licence("", "", found.licence.text)

    def _download_bytes(self, files: tuple[PlannedFile, ...]) -> int:
        wanted = [file for file in files if not (file.sha256 and self._blobs.has(file.sha256))]
        parts = [part for file in wanted for part in file.parts]
        origins = {part.origin.url: part.origin for part in parts if isinstance(part.origin, Remote)}
        return sum(
            origin.size_bytes for origin in origins.values() if not (origin.sha256 and self._blobs.has(origin.sha256))
        )

    def _disk_bytes(self, files: tuple[PlannedFile, ...]) -> int:
        """What is fetched, and beside it what is taken out of archives or copied from this machine."""
        unpacked = sum(
            file.size_bytes
            for file in files
            if not (file.sha256 and self._blobs.has(file.sha256))
            and (len(file.parts) > 1 or file.parts[0].members or isinstance(file.parts[0].origin, Local))
        )
        return self._download_bytes(files) + unpacked


_NOT_METADATA = frozenset(
    {"format", "abilities", "conversion", "options", "folder_format", "licence", "shapes", "picture_tokens", "reads"}
)


def _candidate(
    model_id: str,
    found: Found,
    facts: Mapping[str, Any],
    model_format: str,
    able: tuple[Ability, ...],
    engines: Mapping[str, Engine],
) -> Model:
    """The model as far as it is known before the download."""
    engine = choose_engine(engines, model_format, able)
    offered = engines[engine].abilities if engine else frozenset(able)
    return Model(
        id=model_id,
        engine=engine,
        abilities=tuple(ability for ability in able if ability in offered),
        format=model_format,
        size_bytes=sum(file.size_bytes for file in found.files),
        context_tokens=context_of(facts),
        dimensions=dimensions_of(able, facts),
        reads=reads_of(facts),
        picture_tokens=int(facts.get("picture_tokens", 0)),
        options={**facts.get("options", {}), **found.options},
        metadata={**{key: value for key, value in facts.items() if key not in _NOT_METADATA}, **found.about},
    )


def _proposed(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._/:-]+", "-", name).strip("-./:") or "model"


def _misfits(plan: Plan, able: tuple[Ability, ...]) -> list[str]:
    """What keeps this machine from running the model, in sentences."""
    found = []
    if not plan.engine and plan.format:
        what = f"models of format {plan.format!r}" + (f" for {', '.join(able)}" if able else "")
        found.append(
            f"No installed engine runs {what}. Choose a GGUF file or, for embeddings, a BERT sentence embedder in "
            "safetensors, which is converted; or install an engine that does."
        )
    if plan.disk_bytes + _SPARE_BYTES > plan.disk_free_bytes:
        short = (plan.disk_bytes + _SPARE_BYTES - plan.disk_free_bytes >> 20) + 1
        found.append(f"The disk lacks {short} MiB for it. Make room, or set another DAYSPRING_HOME.")
    if plan.memory_bytes > plan.memory_limit_bytes:
        found.append(
            f"It needs about {plan.memory_bytes >> 20} MiB of memory, of {plan.memory_limit_bytes >> 20} MiB. "
            "Choose a smaller model, or raise DAYSPRING_MEMORY_BYTES."
        )
    return found
