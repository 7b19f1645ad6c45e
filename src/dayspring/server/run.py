"""Runs the app under uvicorn in this process, and stops it so that every stream is settled.

On SIGTERM or SIGINT no new connection is taken, answers under way get `shutdown_grace_s`; what still runs then is
cancelled, which settles it for what was produced. The bind happens before anything is announced, so a taken port is one
plain sentence.
"""

import asyncio
import gc
import ipaddress
import logging
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
import uvloop
from fastapi import FastAPI

from dayspring.core.errors import Unavailable
from dayspring.core.settings import Settings

__all__ = ["bind", "is_loopback", "serve"]

log = logging.getLogger(__name__)

_BACKLOG = 2048
_SWITCH_S = 0.0005


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bind(settings: Settings) -> socket.socket:
    """The listening socket. Raises Unavailable when the port is taken or the address is not this machine's."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise Unavailable(
            f"{settings.host} port {settings.port} cannot be bound ({error.strerror})",
            "Stop what uses it, or choose another with --port.",
        ) from None
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener


class _Server(uvicorn.Server):
    """Ends with status 0 when asked to stop: uvicorn's own would die of the signal it had handled."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:
            log.warning(
                "stopping: answers under way have %g s to finish; a second signal cuts them",
                self.config.timeout_graceful_shutdown or 0,
            )
        super().handle_exit(sig, frame)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def serve(app: FastAPI, settings: Settings, listener: socket.socket) -> None:
    """Blocks until the server has stopped."""
    config = uvicorn.Config(
        app,
        loop="none",
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=max(1, int(settings.shutdown_grace_s)),
        timeout_keep_alive=75,
    )
    # The writer of the database is a thread: with Python's 5 ms it would wait that long for its turn under load.
    sys.setswitchinterval(_SWITCH_S)
    # What was imported lives as long as the process: the collector need not walk it, and pauses stay short.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    uvloop.run(_live(app, _Server(config), listener))


async def _live(app: FastAPI, server: _Server, listener: socket.socket) -> None:
    """The app's life around the server's, so that what stops a start is raised here, and the database closes last."""
    with server.capture_signals():
        async with app.router.lifespan_context(app):
            await server.serve(sockets=[listener])
            answering = set(server.server_state.tasks)  # cancelled for want of time, or left by a second signal
            for task in answering:
                task.cancel()
            if answering:
                await asyncio.wait(answering)
