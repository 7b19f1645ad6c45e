"""Live servers for the end-to-end tests: one with the test kit's echo model, one with the real default models."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from dayspring.core.money import Rate, Unit
from live import FLAT_NANOS, LiveServer, Started, echo_model


@pytest.fixture(scope="session")
def echo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """Models: `echo` (by the token), `flat` (by the request), `slow` (a word every 20 ms), `fragile` (dies after 3)."""
    server = LiveServer(tmp_path_factory.mktemp("echo-home"))
    models = (
        echo_model("echo"),
        echo_model("slow", delay_s=0.02),
        echo_model("fragile", die_after=3),
    )
    key = asyncio.run(server.prepare(*models))
    asyncio.run(server.register("flat", {Unit.REQUEST: Rate(FLAT_NANOS)}))
    asyncio.run(server.start())
    yield Started(server, key)
    assert asyncio.run(server.stop()) == 0


@pytest.fixture(scope="session")
def model_server(tmp_path_factory: pytest.TempPathFactory, default_models: Path) -> Iterator[Started]:
    """The default chat and embedding models, added from files as an operator would add them."""
    server = LiveServer(tmp_path_factory.mktemp("model-home"))
    key = asyncio.run(server.prepare())
    for source, name in (
        (default_models / "SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2-135m-instruct"),
        (default_models / "all-MiniLM-L6-v2", "all-minilm-l6-v2"),
    ):
        server.command("models", "add", f"file:{source.resolve()}", "--id", name, "--yes", "--accept-licence", "test")
    asyncio.run(server.start())
    yield Started(server, key)
    assert asyncio.run(server.stop()) == 0
