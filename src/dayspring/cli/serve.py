"""`dayspring serve`: the main job."""

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from dayspring import __version__
from dayspring.cli.terminal import Home, settings_for
from dayspring.contracts.clock import SystemClock
from dayspring.core.settings import Settings
from dayspring.server.app import create_app
from dayspring.server.exposure import check_exposure, notes
from dayspring.server.house import House, lock_home
from dayspring.server.logs import configure
from dayspring.server.run import bind
from dayspring.server.run import serve as run_server
from dayspring.server.tls import Certificate

__all__ = ["serve"]

log = logging.getLogger(__name__)


def serve(
    host: Annotated[str | None, typer.Option(help="Address to bind, by default 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to bind, by default 8420; 0 takes a free one.")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate to serve TLS with, in PEM form.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="The certificate's private key, in PEM form.")] = None,
    root_path: Annotated[str | None, typer.Option(help="Path under which a reverse proxy offers this server.")] = None,
    home: Home = None,
) -> None:
    """Start the server: the API, and the workers behind it as they are needed."""
    settings = settings_for(home, host=host, port=port, tls_cert=tls_cert, tls_key=tls_key, root_path=root_path)
    check_exposure(settings)
    configure(settings)
    for name in Settings.unknown_names(os.environ):
        log.warning("%s is no setting and has no effect; docs/reference/settings.md lists them", name)
    certificate = None
    if settings.tls_cert is not None and settings.tls_key is not None:
        certificate = Certificate(settings.tls_cert, settings.tls_key, SystemClock())
    listener = bind(settings)
    with House.open(settings) as house:
        lock_home(settings.home).close()  # says that another server runs here, before anything is announced
        app = create_app(house)
        _announce(settings, listener.getsockname()[1])
        run_server(app, settings, listener, certificate)


def _announce(settings: Settings, port: int) -> None:
    shown = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"{'https' if settings.tls_cert else 'http'}://{shown}:{port}{settings.root_path}"
    lines = [
        f"Dayspring {__version__}",
        f"  API    {url}/v1   (OpenAI-compatible; docs at {url}/docs)",
        f"  Key    {settings.home / 'admin.key'}",
        f"  Data   {settings.home}",
        *(f"  Note   {note}" for note in notes(settings)),
    ]
    print("\n".join(lines), file=sys.stderr, flush=True)
