"""Background tasks that are kept, named and ended: the only way this room starts one.

A task is held until it is over, so it is not collected half way; one that fails is logged with its trace.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["Background"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Background:
    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, _T], name: str, *, quiet: bool = False) -> asyncio.Task[_T]:
        """Runs `work`; `quiet` where somebody awaits the task and so hears of its failure."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._heard if quiet else self._logged)
        return task

    async def close(self) -> None:
        """Cancels what still runs and waits until it is over."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _heard(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # marks it as retrieved: every waiter may have been cancelled

    def _logged(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("background task %s failed", task.get_name(), exc_info=error)
