"""Runs the app under uvicorn in this process, and stops it so that every stream is settled.

On SIGTERM or SIGINT no new connection is taken, answers under way get `shutdown_grace_s`; what still runs then is
cancelled, which settles it for what was produced. The bind happens before anything is announced, so a taken port is one
plain sentence.
"""

import asyncio
import gc
import logging
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn
import uvloop
from fastapi import FastAPI

from dayspring.core.errors import Unavailable
from dayspring.core.settings import Settings
from dayspring.server.connections import Patrol
from dayspring.server.tls import Certificate

__all__ = ["bind", "serve"]

log = logging.getLogger(__name__)

_BACKLOG = 2048
_SWITCH_S = 0.0005
_HANDSHAKE_S = 10.0
_RENEW_S = 10.0
"""How often the certificate's files are looked at."""


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
    """Ends with status 0 when asked to stop: uvicorn's own would die of the signal it had handled.

    A hang-up reads the certificate again; from a terminal that closes it is a stop.
    """

    def __init__(self, config: uvicorn.Config, certificate: Certificate | None) -> None:
        super().__init__(config)
        self._certificate = certificate

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, for one socket, with a limit on the handshake: until it is over nobody counts it."""
        await self.lifespan.startup()
        context = self._certificate.context if self._certificate else None
        for listener in sockets or ():
            made = await asyncio.get_running_loop().create_server(
                self._connection,
                sock=listener,
                ssl=context,
                backlog=_BACKLOG,
                ssl_handshake_timeout=_HANDSHAKE_S if context else None,
            )
            self.servers = [made]
        self.started = True

    def _connection(self) -> asyncio.Protocol:
        kind: Any = self.config.http_protocol_class
        made: asyncio.Protocol = kind(config=self.config, server_state=self.server_state, app_state={})
        return made

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:
            log.warning(
                "stopping: answers under way have %g s to finish; a second signal cuts them",
                self.config.timeout_graceful_shutdown or 0,
            )
        super().handle_exit(sig, frame)

    def _hang_up(self, sig: int, frame: FrameType | None) -> None:
        if sys.stdin is not None and sys.stdin.isatty():
            self.handle_exit(sig, frame)
        elif self._certificate is not None:
            self._certificate.renew(asked=True)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._hang_up)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def serve(app: FastAPI, settings: Settings, listener: socket.socket, certificate: Certificate | None = None) -> None:
    """Blocks until the server has stopped."""
    patrol = Patrol(max_connections=settings.max_connections, client_timeout_s=settings.client_timeout_s)
    config = uvicorn.Config(
        app,
        loop="none",
        http=patrol.protocol(),
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
    uvloop.run(_live(app, _Server(config, certificate), listener, patrol, certificate))


async def _live(
    app: FastAPI, server: _Server, listener: socket.socket, patrol: Patrol, certificate: Certificate | None
) -> None:
    """The app's life around the server's, so that what stops a start is raised here, and the database closes last."""
    with server.capture_signals():
        async with app.router.lifespan_context(app):
            beside = [asyncio.ensure_future(patrol.run(server.server_state))]
            if certificate is not None:
                beside.append(asyncio.ensure_future(_renewing(certificate)))
            try:
                await server.serve(sockets=[listener])
            finally:
                for task in beside:
                    task.cancel()
            answering = set(server.server_state.tasks)  # cancelled for want of time, or left by a second signal
            for task in answering:
                task.cancel()
            if answering:
                await asyncio.wait(answering)


async def _renewing(certificate: Certificate) -> None:
    while True:
        await asyncio.sleep(_RENEW_S)
        certificate.renew()
