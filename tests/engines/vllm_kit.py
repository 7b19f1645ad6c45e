"""A Compute whose `vllm` is the stand-in, and model folders for it."""

import json
import os
import select
import stat
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from dayspring.compute.service import Compute
from dayspring.contracts.devices import Device
from dayspring.contracts.models import Ability, Model
from dayspring.core.settings import Settings

DEVICE = Device("cuda:1", "cuda", "test", 40 << 30)
STAND_IN = Path(__file__).with_name("vllm_stand_in.py")


def program(folder: Path) -> Path:
    """An executable called vllm."""
    file = folder / "vllm"
    file.write_text(f'#!/bin/sh\nexec {sys.executable} {STAND_IN} "$@"\n')
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return file


@asynccontextmanager
async def running(folder: Path, **settings: Any) -> AsyncIterator[Compute]:
    chosen = {"vllm_executable": str(program(folder)), "memory_bytes": 40 << 30, "slots": 4, **settings}
    compute = Compute(Settings(home=folder / "home", **chosen), devices=[DEVICE])
    try:
        yield compute
    finally:
        await compute.close()


def folder_model(folder: Path, name: str = "big", wishes: dict[str, Any] | None = None, **fields: Any) -> Model:
    """A model whose folder has what the stand-in looks for."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"architectures": ["TinyForCausalLM"]}))
    (folder / "stand_in.json").write_text(json.dumps(wishes or {}))
    abilities = fields.pop("abilities", (Ability.CHAT, Ability.COMPLETION))
    return Model(name, "vllm", abilities, "safetensors", str(folder), size_bytes=1 << 20, **fields)


def seen(model: Model) -> dict[str, Any]:
    """What the stand-in was started with."""
    found: dict[str, Any] = json.loads((Path(model.path) / "seen.json").read_text())
    return found


def asked(model: Model) -> dict[str, Any]:
    """The last body it got."""
    found: dict[str, Any] = json.loads((Path(model.path) / "asked.json").read_text())
    return found


class Watched:
    """A process of this machine, to be seen ending."""

    def __init__(self, pid: int) -> None:
        self._descriptor = os.pidfd_open(pid)

    def ended(self, limit_s: float = 20) -> bool:
        """Whether it has ended, or does within the limit."""
        ready, _, _ = select.select([self._descriptor], [], [], limit_s)
        return bool(ready)


def gone(pid: int) -> bool:
    """Whether the process has ended, or does soon."""
    try:
        return Watched(pid).ended()
    except ProcessLookupError:
        return True


def wait_until_started(model: Model, limit_s: float = 30) -> None:
    """Until the stand-in has noted what it was started with."""
    ends = time.monotonic() + limit_s
    while not (Path(model.path) / "seen.json").exists():
        if time.monotonic() > ends:
            raise TimeoutError
        time.sleep(0.01)  # between two looks at a file of another process
