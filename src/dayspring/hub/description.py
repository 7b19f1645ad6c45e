"""From the facts of a header to what a model can do and which engine runs it."""

from collections.abc import Mapping
from typing import Any

from dayspring.contracts.engine import Engine, LoadOptions
from dayspring.contracts.models import Ability, Modality, Model
from dayspring.core.settings import Settings
from dayspring.hub.machine import memory_limit_bytes, processor_cores

__all__ = [
    "abilities_of", "choose_engine", "context_of", "dimensions_of", "estimate_memory", "missing_for",
    "projector_beside", "reads_of",
]  # fmt: skip

_EMBEDDERS = frozenset({
    "bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "jina-bert-v3", "neo-bert", "modern-bert", "eurobert",
    "gemma-embedding", "t5encoder",
})  # fmt: skip
"""Architectures of GGUF that only give vectors."""
_GENERATORS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
"""How classes are named in a config.json that continue text."""


def abilities_of(header_format: str, facts: Mapping[str, Any]) -> tuple[Ability, ...]:
    """What a header says a model can do; nothing when it does not say."""
    if header_format == "safetensors" and str(facts.get("architecture", "")).endswith(_GENERATORS):
        return (Ability.CHAT, Ability.COMPLETION)
    if header_format != "gguf" or facts.get("kind"):
        return ()
    if facts.get("pooling") == "rank":
        return (Ability.RERANK,)
    if facts.get("architecture") in _EMBEDDERS or facts.get("pooling") in ("mean", "cls", "last"):
        return (Ability.EMBEDDING,)
    if facts.get("has_chat_template"):
        return (Ability.CHAT, Ability.COMPLETION)
    return (Ability.COMPLETION,)


def context_of(facts: Mapping[str, Any]) -> int:
    return int(facts.get("context_length", 0))


def dimensions_of(abilities: tuple[Ability, ...], facts: Mapping[str, Any]) -> int:
    """Length of the vectors of an embedding model, else 0."""
    return int(facts.get("embedding_length", 0)) if Ability.EMBEDDING in abilities else 0


def projector_beside(path: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What a projector's file adds to the facts of the model it lies beside."""
    if facts.get("kind") != "projector" or not facts.get("reads_pictures"):
        return {}
    kept = {name: facts[name] for name in ("projector", "picture_tokens") if name in facts}
    return {**kept, "projector_file": path, "reads": ["image_url"]}


def reads_of(facts: Mapping[str, Any]) -> tuple[Modality, ...]:
    """What the model's messages may hold beside text."""
    return tuple(Modality(name) for name in facts.get("reads", ()))


def choose_engine(engines: Mapping[str, Engine], header_format: str, abilities: tuple[Ability, ...]) -> str:
    """The first engine by name that reads the format and offers every ability; else one that offers any; else none."""
    able = {name: engine for name, engine in sorted(engines.items()) if header_format in engine.formats}
    for name, engine in able.items():
        if set(abilities) <= engine.abilities:
            return name
    return next((name for name, engine in able.items() if set(abilities) & engine.abilities), "")


def estimate_memory(engines: Mapping[str, Engine], model: Model, settings: Settings) -> int:
    """Bytes the engine expects to need under these settings; 0 without an engine."""
    engine = engines.get(model.engine)
    return 0 if engine is None else engine.memory_bytes(model, _load_options(settings))


def missing_for(engines: Mapping[str, Engine], name: str, settings: Settings) -> str:
    """What this machine lacks to run the engine, in a sentence; empty for nothing."""
    engine = engines.get(name)
    return "" if engine is None else engine.missing(_load_options(settings))


def _load_options(settings: Settings) -> LoadOptions:
    return LoadOptions(
        threads=settings.threads or processor_cores(),
        slots=settings.slots,
        kv_contexts=settings.kv_contexts,
        memory_bytes=memory_limit_bytes(settings),
        executables=settings.executables,
    )
