"""`dayspring serve`: the main job."""

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from dayspring import __version__
from dayspring.cli.terminal import Home, settings_for
from dayspring.core.settings import Settings
from dayspring.server.app import create_app
from dayspring.server.house import House
from dayspring.server.logs import configure
from dayspring.server.run import bind, is_loopback
from dayspring.server.run import serve as run_server

__all__ = ["serve"]

log = logging.getLogger(__name__)


def serve(
    host: Annotated[str | None, typer.Option(help="Address to bind, by default 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to bind, by default 8420; 0 takes a free one.")] = None,
    home: Home = None,
) -> None:
    """Start the server: the API, and the workers behind it as they are needed."""
    settings = settings_for(home, host=host, port=port)
    configure(settings)
    for name in Settings.unknown_names(os.environ):
        log.warning("%s is no setting and has no effect; docs/reference/settings.md lists them", name)
    listener = bind(settings)
    with House.open(settings) as house:
        app = create_app(house)
        _announce(settings.home, settings.host, listener.getsockname()[1])
        run_server(app, settings, listener)


def _announce(home: Path, host: str, port: int) -> None:
    shown = f"[{host}]" if ":" in host else host
    lines = [
        f"Dayspring {__version__}",
        f"  API    http://{shown}:{port}/v1   (OpenAI-compatible; docs at http://{shown}:{port}/docs)",
        f"  Key    {home / 'admin.key'}",
        f"  Data   {home}",
    ]
    if not is_loopback(host):
        lines.append("  Note   other machines can reach this address. Keys travel in clear text without TLS before it.")
    print("\n".join(lines), file=sys.stderr, flush=True)
