"""A server for the pages' code blocks; and, after the run, the soft limits of the house: for a look, no failure."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest
from house_tree import PACKAGE, package

from live import LiveServer

PACK = {"SmolLM2-135M-Instruct.Q4_1.gguf": "smollm2-135m-instruct", "all-MiniLM-L6-v2": "all-minilm-l6-v2"}


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, default_models: Path) -> Iterator[LiveServer]:
    """As a reader has it after `make serve`: the default models, the administrator's key, no price. Its own, since the
    pages change it."""
    live = LiveServer(tmp_path_factory.mktemp("pages-home"))
    asyncio.run(live.prepare())
    for file, name in PACK.items():
        source = f"file:{(default_models / file).resolve()}"
        live.command("models", "add", source, "--id", name, "--yes", "--accept-licence", "pages")
    asyncio.run(live.start())
    yield live
    assert asyncio.run(live.stop()) == 0


def soft_limits() -> list[str]:
    """One line for each soft limit that is passed."""
    modules = [module for module in package() if module.path.name != "__init__.py"]
    middle = median(module.lines for module in modules)
    found = [f"the median module has {middle:g} lines, over 150"] if middle > 150 else []
    folders = Counter(module.path.parent for module in modules)
    found += [f"{folder.relative_to(PACKAGE)}/ has {n} modules, over 14" for folder, n in folders.items() if n > 14]
    deep = [module.where for module in modules if len(module.path.relative_to(PACKAGE).parts) > 4]
    return found + [f"{where} is more than 4 deep" for where in deep]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    try:
        lines = soft_limits()
    except (SyntaxError, AssertionError):
        return  # the tests themselves have said so
    if lines:
        terminalreporter.section("house: soft limits passed")
        for line in lines:
            terminalreporter.line(line)
