"""A Compute with echo models, and a clock the test moves where time matters."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from compute_models import CPU

from dayspring.compute.service import Compute
from dayspring.core.settings import Settings


@pytest.fixture
async def make_compute(tmp_path: Path) -> AsyncIterator[Callable[..., Compute]]:
    made: list[Compute] = []

    def make(clock: Any = None, **settings: Any) -> Compute:
        given = Settings(home=tmp_path, **{"memory_bytes": 10 << 30, "worker_start_timeout_s": 30, **settings})
        made.append(Compute(given, clock, devices=[CPU]))
        return made[-1]

    yield make
    for compute in made:
        await compute.close()


@pytest.fixture
def compute(make_compute: Callable[..., Compute]) -> Compute:
    return make_compute()
