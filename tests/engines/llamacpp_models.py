"""The default models as the hub would describe them, and a Compute to run them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from dayspring.compute.service import Compute
from dayspring.contracts.models import Ability, Model
from dayspring.core.settings import Settings
from dayspring.hub.conversions import ConversionOrder, convert
from dayspring.hub.formats.gguf import read_gguf

CHAT_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def described(path: Path, name: str, abilities: tuple[Ability, ...], **options: Any) -> Model:
    size = path.stat().st_size
    with path.open("rb") as stream:
        facts = read_gguf(stream, size, path.name).facts
    return Model(
        name,
        "llamacpp",
        abilities,
        "gguf",
        str(path),
        size_bytes=size,
        context_tokens=facts["context_length"],
        dimensions=facts["embedding_length"] if Ability.EMBEDDING in abilities else 0,
        options=options,
        metadata=facts,
    )


def chat_model(folder: Path, name: str = "smol", **options: Any) -> Model:
    return described(folder / CHAT_FILE, name, (Ability.CHAT, Ability.COMPLETION), **options)


async def embedding_model(folder: Path, work: Path) -> Model:
    """The default embedding model, converted as the hub converts it."""
    output = work / "all-MiniLM-L6-v2.gguf"
    await convert(ConversionOrder("bert", str(folder / "all-MiniLM-L6-v2"), str(output)))
    return described(output, "minilm", (Ability.EMBEDDING,))


@asynccontextmanager
async def running(home: Path, **settings: Any) -> AsyncIterator[Compute]:
    compute = Compute(Settings(home=home, **{"memory_bytes": 16 << 30, **settings}))
    try:
        yield compute
    finally:
        await compute.close()
