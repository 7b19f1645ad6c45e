"""Live servers for the end-to-end tests, the echo model's and the default models', and the official client at each."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from default_pack import CHAT, EMBEDDING
from openai import OpenAI

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
        (default_models / "SmolLM2-135M-Instruct.Q4_1.gguf", CHAT),
        (default_models / "all-MiniLM-L6-v2", EMBEDDING),
    ):
        server.command("models", "add", f"file:{source.resolve()}", "--id", name, "--yes", "--accept-licence", "test")
    asyncio.run(server.start())
    yield Started(server, key)
    assert asyncio.run(server.stop()) == 0


def _client(started: Started) -> OpenAI:
    return OpenAI(base_url=started.base_url, api_key=started.key, admin_api_key=started.key, max_retries=0)


@pytest.fixture
def client(echo_server: Started) -> Iterator[OpenAI]:
    """OpenAI's own, as the administrator. A test module of another client has its own fixture."""
    with _client(echo_server) as made:
        yield made


@pytest.fixture
def model_client(model_server: Started) -> Iterator[OpenAI]:
    with _client(model_server) as made:
        yield made
