"""Adapters: low-rank weights (LoRA) that change one model, the base, and are called by an id of their own.

What holds: an adapter is added only to a base of the same architecture whose tensors have the shapes it changes, and is
tied to that base by its hash; a base that is gone or was replaced leaves the adapter without a host, and using it says
so. What it does not do: run one. A worker holds a base with all its adapters.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from dayspring.contracts.models import Ability, Adapter, Model
from dayspring.core.errors import Conflict, InvalidRequest

__all__ = ["FORMAT", "adapter_facts", "adapter_of", "adapts", "as_stored", "check_unused", "linked", "owner_of_base"]

FORMAT = "lora"


def adapts(facts: Mapping[str, Any], base: Model | None) -> bool:
    """Whether the facts are an adapter's. Raises InvalidRequest where a base was named for something else."""
    if facts.get("kind") == "adapter":
        return True
    if base is not None and facts:
        raise InvalidRequest("This is a whole model, and changes no other. Leave out --base.")
    return base is not None


def adapter_facts(base: Model, header_format: str) -> dict[str, Any]:
    """What else decides how it is added: a base in GGUF needs the adapter in GGUF too."""
    converted = base.format == "gguf" and header_format == "safetensors"
    return {"abilities": list(base.abilities)} | ({"conversion": FORMAT} if converted else {})


def owner_of_base(base: Model | None, facts: Mapping[str, Any]) -> Model:
    """The base, if it can have adapters. Raises InvalidRequest."""
    named = str(facts.get("base_name", ""))
    if base is None:
        made_for = f" It was made for {named!r}." if named else ""
        raise InvalidRequest(f"This is an adapter.{made_for} Name the model here that it changes with --base.")
    if base.base:
        raise InvalidRequest(f"{base.id!r} is an adapter itself. Name the model it changes, {base.base!r}.")
    if not {Ability.CHAT, Ability.COMPLETION} & set(base.abilities) or base.format == "upstream" or not base.path:
        raise InvalidRequest(f"{base.id!r} takes no adapter. Name a text model that runs here.")
    return base


def adapter_of(base: Model, model: Model) -> Model:
    """The entry of an adapter: called like a model, and able to do what its base can."""
    return msgspec.structs.replace(
        model,
        engine=base.engine,
        abilities=base.abilities,
        format=FORMAT,
        context_tokens=base.context_tokens,
        reads=base.reads,
        picture_tokens=base.picture_tokens,
        options={},
        base=base.id,
        base_sha256=base.sha256,
        memory_bytes=model.size_bytes,
    )


def linked(models: Iterable[Model]) -> dict[str, Model]:
    """Models by id, each base with its adapters and each adapter with its base as `host`, as far as they fit."""
    known = {model.id: model for model in models}
    adapters: dict[str, list[Model]] = {}
    for model in known.values():
        base = known.get(model.base) if model.base else None
        if base is not None and base.sha256 == model.base_sha256:
            adapters.setdefault(base.id, []).append(model)
    for base_id, theirs in adapters.items():
        theirs.sort(key=lambda adapter: (adapter.created_at, adapter.id))
        beside = tuple(Adapter(each.id, each.path, each.sha256, int(each.metadata.get("rank", 0))) for each in theirs)
        known[base_id] = host = msgspec.structs.replace(known[base_id], adapters=beside)
        for each in theirs:
            known[each.id] = msgspec.structs.replace(each, host=host)
    return known


def as_stored(model: Model) -> Model:
    """The model without what `linked` filled in."""
    return msgspec.structs.replace(model, host=None, adapters=())


def check_unused(model_id: str, models: Iterable[Model]) -> None:
    """Raises Conflict for a model that adapters need."""
    if theirs := [model.id for model in models if model.base == model_id]:
        raise Conflict(f"Model {model_id!r} is the base of {', '.join(sorted(theirs))}", "Remove those first.")
