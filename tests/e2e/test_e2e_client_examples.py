"""The official clients' own examples, unchanged but for base URL and key, from the packages that are installed."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from client_examples import blocks, models_named, readme
from live import LiveServer, Started, echo_model

_CALLS = ("responses.create(", "chat.completions.create(", "messages.create(")
_ELSEWHERE = (
    "workload", "realtime", "Azure", "azure", "bedrock", "undici", "proxy", "my.test", "api.nga.gov", "path/to",
    "pino", "my-fetch", "Deno.", "npm:openai", "baz:",
)  # fmt: skip
"""Marks of an example that needs another service, a file of the reader's, or a package that is not the client."""


def _complete(example: str, *starts: str) -> bool:
    """Whether it makes its own client and calls a model with it."""
    return (
        any(start in example for start in starts)
        and any(call in example for call in _CALLS)
        and not any(mark in example for mark in _ELSEWHERE)
    )


OPENAI = [each for each in blocks(readme("openai"), "python", "py") if _complete(each, "= OpenAI(", "AsyncOpenAI(")]
ANTHROPIC = [each for each in blocks(readme("anthropic"), "python", "py") if _complete(each, "= Anthropic(")]


def _node_client() -> Path:
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return caches / "dayspring-tests" / "node" / "node_modules" / "openai"


def _node_examples() -> list[str]:
    page = _node_client() / "README.md"
    if not page.exists():
        return []
    return [each for each in blocks(page.read_text(), "ts", "js") if _complete(each, "= new OpenAI(")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """Has the models that the examples name; each says the last message again."""
    server = LiveServer(tmp_path_factory.mktemp("examples-home"))
    named = sorted(models_named(*OPENAI, *ANTHROPIC, *_node_examples()))
    key = asyncio.run(server.prepare(*(echo_model(name) for name in named)))
    asyncio.run(server.start())
    yield Started(server, key)
    assert asyncio.run(server.stop()) == 0


def _run(server: Started, command: list[str], folder: Path) -> str:
    environment = {
        **os.environ,
        "OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": server.key,
        "ANTHROPIC_BASE_URL": server.server.url, "ANTHROPIC_API_KEY": server.key,
    }  # fmt: skip
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_there_are_examples_to_run() -> None:
    assert len(OPENAI) >= 8
    assert ANTHROPIC


@pytest.mark.parametrize("number", range(len(OPENAI)))
def test_an_example_of_the_openai_python_client_runs(server: Started, tmp_path: Path, number: int) -> None:
    if "DefaultAioHttpClient" in OPENAI[number]:
        pytest.importorskip("httpx_aiohttp", reason="that example needs an extra: pip install 'openai[aiohttp]'")
    said = _run(server, [sys.executable, "-c", OPENAI[number]], tmp_path)
    assert said.strip() or "print(" not in OPENAI[number]


@pytest.mark.parametrize("number", range(len(ANTHROPIC)))
def test_an_example_of_the_anthropic_python_client_runs(server: Started, tmp_path: Path, number: int) -> None:
    assert "Hello" in _run(server, [sys.executable, "-c", ANTHROPIC[number]], tmp_path)


def test_the_examples_of_the_openai_node_client_run(server: Started, tmp_path: Path) -> None:
    node = shutil.which("node")
    examples = _node_examples()
    if node is None or not examples:  # no package, no examples
        remedy = "the Node client is not here: install nodejs and npm, then run python dev/fetch_node_client.py"
        if "node" in os.environ.get("DAYSPRING_REQUIRE", "").split(","):
            pytest.fail(remedy)
        pytest.skip(remedy)
    (tmp_path / "node_modules").symlink_to(_node_client().parent)
    assert len(examples) >= 4
    for number, example in enumerate(examples):
        given = "" if "import OpenAI" in example else "import OpenAI from 'openai';\n"  # by the example before it
        (tmp_path / f"{number}.mjs").write_text(given + example)
        said = _run(server, [node, f"{number}.mjs"], tmp_path)
        assert said.strip() or "console.log" not in example
