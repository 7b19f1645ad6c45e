"""What every test may use."""

import os
from pathlib import Path

import pytest

pytest_plugins = ["dayspring.testing.databases", "loopback"]


@pytest.fixture(scope="session")
def default_models() -> Path:
    """The folder with the default models' files, fetched by `make test`."""
    named = os.environ.get("DAYSPRING_TEST_MODELS")
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(named) if named else caches / "dayspring-tests"
    if not (folder / "SmolLM2-135M-Instruct.Q4_1.gguf").exists() or not (folder / "all-MiniLM-L6-v2").exists():
        pytest.skip("the default models are not here: run python dev/fetch_test_models.py")
    return folder
