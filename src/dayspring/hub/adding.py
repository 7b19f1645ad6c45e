"""Carrying out a plan: fetch, check, convert, put in place, record.

What holds: the row appears last, and only when every file has the bytes and the format that were promised. A process
killed on the way leaves partial downloads and whole blobs, which the next try takes up; nothing else is believed.
"""

import asyncio
import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection

from dayspring.accounts.principals import Principal
from dayspring.contracts.blobs import BlobStore
from dayspring.contracts.clock import Clock
from dayspring.contracts.engine import Engine
from dayspring.contracts.models import Model
from dayspring.core.errors import NotFound, PermissionDenied, Refused
from dayspring.core.settings import Settings
from dayspring.hub.adapters.entries import FORMAT as ADAPTER
from dayspring.hub.adapters.entries import adapter_of
from dayspring.hub.adapters.fitting import check_fit, tensor_shapes
from dayspring.hub.auditing import note
from dayspring.hub.conversions import ConversionOrder, convert
from dayspring.hub.description import (
    abilities_of,
    choose_engine,
    context_of,
    dimensions_of,
    estimate_memory,
    projector_beside,
    reads_of,
)
from dayspring.hub.fetching.assembly import Assembled, Assembler
from dayspring.hub.formats.detect import WEIGHTS, read_file_header
from dayspring.hub.licences import acceptance_digest
from dayspring.hub.plan import Plan, Progress, ProgressCallback
from dayspring.hub.shelf import Shelf
from dayspring.store.database import Database
from dayspring.store.models import LicenceAcceptance, ModelFile, list_acceptances, record_acceptance

__all__ = ["Adder"]


class Adder:
    """`shelf` is where finished models stand; `scratch` is a folder on the same disk."""

    def __init__(
        self,
        db: Database,
        blobs: BlobStore,
        assembler: Assembler,
        shelf: Shelf,
        scratch: Path,
        settings: Settings,
        clock: Clock,
        engines: Callable[[], Mapping[str, Engine]],
    ) -> None:
        self._db = db
        self._blobs = blobs
        self._assembler = assembler
        self._shelf = shelf
        self._scratch = scratch
        self._settings = settings
        self._clock = clock
        self._engines = engines

    async def check(self, plan: Plan, accepted_by: str | None) -> None:
        """See `Hub.check`."""
        if plan.refusals:
            raise Refused(file=plan.id, rule=plan.refusals[0].rstrip("."), remedy="Plan again when that has changed.")
        await self._shelf.check_free(plan.id)
        if plan.needs_licence_acceptance and accepted_by is None and not await self._accepted(plan):
            name = repr(plan.licence.name) if plan.licence.name else "not stated, which permits nothing"
            read = f"Read {plan.licence.text}, then" if plan.licence.text else "Then"
            raise PermissionDenied(
                f"The licence of {plan.id!r} is {name}, and commercial use may not be permitted",
                f"{read} accept it for this model (--accept-licence, over HTTP accept_licence), or set "
                "DAYSPRING_MODEL_LICENCES.",
            )

    async def add(
        self, plan: Plan, accepted_by: str | None, progress: ProgressCallback, by: Principal | None = None
    ) -> Model:
        """See `Hub.add`."""
        await self.check(plan, accepted_by)
        if plan.needs_licence_acceptance and accepted_by is not None and not await self._accepted(plan):
            await self._accept(plan, accepted_by)
        if not plan.files:
            model = self._model(plan, plan.format, plan.metadata, "", 0)
            await self._shelf.publish(model, [], self._note(model, by))
            return model
        assembled = await self._assembler.assemble(
            plan.files, lambda name, done, total: progress(Progress("download", plan.id, name, done, total))
        )
        progress(Progress("verify", plan.id, plan.files[0].path, 0, plan.size_bytes))
        facts = await asyncio.to_thread(self._inspect, plan, assembled)
        files, metadata = assembled.files, {**plan.metadata, **facts}
        base = await self._base(plan)
        if plan.conversion:
            progress(Progress("convert", plan.id, plan.files[0].path, 0, 0))
            files, metadata = await self._convert(plan, assembled, metadata, base)
        sizes = {path: self._blobs.size(digest) for path, digest in files.items()}
        model = self._model(plan, plan.format, metadata, _digest(files), sum(sizes.values()), base)
        if base is not None:
            await asyncio.to_thread(check_fit, base, metadata)
        made_of = [ModelFile(path, files[path], sizes[path]) for path in files]
        await self._shelf.publish(model, made_of, self._note(model, by))
        await self._discard({*assembled.envelopes, *assembled.files.values()} - set(files.values()))
        progress(Progress("done", plan.id, plan.files[0].path, model.size_bytes, model.size_bytes))
        return model

    def sweep(self, grace_s: float) -> None:
        """Remove what a killed process left in the scratch folder."""
        oldest = time.time() - grace_s
        for left in self._scratch.iterdir():
            if left.stat().st_mtime > oldest:
                continue
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)

    async def _accepted(self, plan: Plan) -> bool:
        """Whether these terms of this source were accepted here before."""
        digest = acceptance_digest(plan.licence)
        earlier = await self._db.read(list_acceptances)
        return any(item.text_sha256 == digest and item.source == plan.pinned for item in earlier)

    async def _accept(self, plan: Plan, accepted_by: str) -> None:
        digest, now = acceptance_digest(plan.licence), self._clock.time_ns() // 10**9
        acceptance = LicenceAcceptance(plan.id, plan.pinned, plan.licence.name, digest, accepted_by, now)
        await self._db.write(lambda connection: record_acceptance(connection, acceptance))

    def _note(self, model: Model, by: Principal | None) -> Callable[[Connection], None]:
        """The entry in the audit log, for the transaction in which the model appears."""
        now_ns = self._clock.time_ns()
        details = {"source": model.source, "sha256": model.sha256, "licence": model.licence}
        return lambda connection: note(connection, now_ns, by, "model.added", model.id, details)

    def _inspect(self, plan: Plan, assembled: Assembled) -> dict[str, Any]:
        """Facts of the first weights, after every file's header was read. Raises Refused, and drops that file."""
        facts: dict[str, Any] = {}
        for path, digest in assembled.files.items():
            try:
                header = read_file_header(self._blobs.path(digest), path)
                if header.format in ("zip", "tar"):
                    raise Refused(file=path, rule="it is an archive", remedy="Name the file in it after '#'.")
            except Refused:
                self._shelf.let_go({digest})  # unless it is somebody's file as well
                raise
            if header.format in WEIGHTS and not facts:
                facts = {**header.facts, "header_format": header.format}
            elif facts:
                facts |= projector_beside(path, header.facts)
            if plan.base and header.format == "safetensors":
                facts["shapes"] = tensor_shapes(self._blobs.path(digest))
        if not facts:
            raise Refused(file=plan.files[0].path, rule="there are no weights in it", remedy="Choose a model file.")
        return facts

    async def _base(self, plan: Plan) -> Model | None:
        """The model that an adapter changes; None for what is none. Raises NotFound when it has gone since the plan."""
        if not plan.base:
            return None
        found = [model for model in await self._shelf.models() if model.id == plan.base]
        if not found:
            raise NotFound("model", plan.base, "Add the base first, then plan again.", param="base")
        return found[0]

    async def _convert(
        self, plan: Plan, assembled: Assembled, metadata: dict[str, Any], base: Model | None
    ) -> tuple[dict[str, str], dict[str, Any]]:
        """The converted file in place of the original's files, and what the check of it measured."""
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, dir=self._scratch))
        name = f"{plan.id.replace('/', '-')}.gguf"
        try:
            await asyncio.to_thread(self._lay_out, assembled.files, folder / "original")
            kind, beside = ("bert", "") if base is None else (ADAPTER, base.path)
            order = ConversionOrder(kind, str(folder / "original"), str(folder / name), beside)
            result = await convert(order)
            digest = await asyncio.to_thread(self._blobs.adopt, folder / name)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        header = await asyncio.to_thread(read_file_header, self._blobs.path(digest), name)
        conversion = {
            "from": {path: assembled.files[path] for path in sorted(assembled.files)},
            "worst_cosine": result.worst_cosine,
            "sentences": result.sentences,
        }
        return {name: digest}, {**metadata, **header.facts, "header_format": header.format, "conversion": conversion}

    def _lay_out(self, files: Mapping[str, str], folder: Path) -> None:
        for path, digest in files.items():
            self._blobs.link(digest, folder / path)

    def _model(
        self,
        plan: Plan,
        model_format: str,
        metadata: dict[str, Any],
        sha256: str,
        size: int,
        base: Model | None = None,
    ) -> Model:
        """The finished value, from what the whole header says rather than what the plan could see."""
        facts = {name: value for name, value in metadata.items() if name != "shapes"}
        model_format = str(facts.pop("header_format", model_format))
        reads, picture_tokens = reads_of(facts), int(facts.pop("picture_tokens", 0))
        facts.pop("reads", None)
        engines = self._engines()
        able = plan.abilities or abilities_of(model_format, facts)
        engine = choose_engine(engines, model_format, able)
        if not engine or not able:
            what = f"no installed engine runs {model_format!r} models like it"
            remedy = (
                "Choose a GGUF file that is for chat or embeddings, or a BERT sentence embedder in safetensors, which "
                "is converted."
            )
            raise Refused(file=plan.id, rule=what, remedy=remedy)
        terms = plan.licence
        told = {"licence_said_by": terms.said_by, "licence_text": terms.text, "licence_commercial": terms.commercial}
        licence_facts = {name: value for name, value in told.items() if value}
        model = Model(
            id=plan.id,
            engine=engine,
            abilities=tuple(ability for ability in able if ability in engines[engine].abilities),
            format=model_format,
            source=plan.source if plan.source.partition(":")[0] == "file" else plan.pinned,
            sha256=sha256,
            size_bytes=size,
            licence=plan.licence.name,
            context_tokens=context_of(facts) or plan.context_tokens,
            dimensions=dimensions_of(able, facts),
            created_at=self._clock.time_ns() // 10**9,
            owned_by=plan.owned_by,
            options=plan.options,
            metadata={**facts, **licence_facts},
            reads=reads,
            picture_tokens=picture_tokens,
        )
        if base is not None:
            return adapter_of(base, model)
        return msgspec.structs.replace(model, memory_bytes=estimate_memory(engines, model, self._settings))

    async def _discard(self, digests: set[str]) -> None:
        """Lets go of what was only needed on the way, unless something else refers to it."""
        await self._shelf.release(digests)


def _digest(files: Mapping[str, str]) -> str:
    """As `Model.sha256` says: of the one file, or of the sorted list."""
    if len(files) == 1:
        return next(iter(files.values()))
    lines = "".join(f"{digest}  {path}\n" for path, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()
