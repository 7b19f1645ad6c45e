"""What goes by itself: kept things past their project's retention, old log files, sessions that have ended."""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

from dayspring.accounts.retention import DAY_NS, list_retention
from dayspring.compute.status import WorkerStatus
from dayspring.contracts.holdings import Holder
from dayspring.core.errors import DayspringError
from dayspring.server.house import House

__all__ = ["RETAIN_S", "sweep", "sweep_logs"]

log = logging.getLogger(__name__)

RETAIN_S = 3600.0
"""How often it is looked for what is past its time."""


async def sweep(house: House, holders: Sequence[Holder], workers: Sequence[WorkerStatus] = ()) -> int:
    """How many kept things went. A room that fails is logged and tried again the next time; the others go on."""
    now_ns, gone = house.clock.time_ns(), 0
    for project_id, kind, days in await house.db.read(list_retention):
        for holder in holders:
            if holder.kind != kind:
                continue
            try:
                gone += await holder.expire(project_id, now_ns - days * DAY_NS)
            except DayspringError as error:
                log.warning("what is past its time could not be deleted", extra={"kind": kind, "reason": error.message})
            except Exception as error:  # another room's fault must not keep this one's things for ever
                log.error("what is past its time could not be deleted", extra={"kind": kind}, exc_info=error)
    await house.sign_in.sweep()
    if house.settings.log_days:
        before_ns = now_ns - house.settings.log_days * DAY_NS
        in_use = frozenset(worker.log for worker in workers)
        await asyncio.to_thread(sweep_logs, house.settings.home / "logs", before_ns, in_use)
    return gone


def sweep_logs(folder: Path, before_ns: int, in_use: frozenset[str] = frozenset()) -> int:
    """Deletes log files last written before then (Unix ns), but those a running worker writes to. How many."""
    gone = 0
    for path in folder.glob("*.log*"):
        try:
            if path.name not in in_use and path.is_file() and path.stat().st_mtime_ns < before_ns:
                path.unlink()
                gone += 1
        except FileNotFoundError:
            continue
    return gone
