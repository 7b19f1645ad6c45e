"""The `dayspring` command: one module for each noun, assembled here.

What holds: every command that prints a table has `--json`; an error of the tree is one sentence on standard error and
exit status 1; no trace reaches a person for what is not a defect. A command imports only what it needs.
"""

import importlib
import sys
from typing import Annotated

import typer
from pydantic import ValidationError

from dayspring import __version__
from dayspring.core.errors import DayspringError

__all__ = ["build", "main"]

_COMMANDS = {
    "serve": "serve",
    "backup": "backup",
    "restore": "restore",
    "usage": "usage",
    "audit": "audit",
    "doctor": "doctor",
    "bench": "bench",
    "bundle": "bundle",
    "version": "version",
}
_NOUNS = ("models", "keys", "prices", "jobs", "limits", "alerts", "people", "organizations", "projects")


def build(word: str = "") -> typer.Typer:
    """The command line; with `word`, only that command or noun, when there is one."""
    app = typer.Typer(
        name="dayspring",
        help="An open, self-hosted generative-AI platform.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_root)
    everything = word not in (*_COMMANDS, *_NOUNS, "--version")
    for name, function in _COMMANDS.items():
        if everything or name == word:
            app.command(name)(getattr(importlib.import_module(f"dayspring.cli.{name}"), function))
    for name in _NOUNS:
        if everything or name == word:
            app.add_typer(importlib.import_module(f"dayspring.cli.{name}").app, name=name)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


def _root(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """An open, self-hosted generative-AI platform."""


def main() -> None:
    """Runs the command line; the entry point of the package."""
    try:
        build(sys.argv[1] if len(sys.argv) > 1 else "")()
    except DayspringError as error:
        print(f"dayspring: {error.message}", file=sys.stderr)
        sys.exit(1)
    except ValidationError as error:
        for fault in error.errors():
            name = f"DAYSPRING_{fault['loc'][0]}: ".upper() if fault["loc"] else ""
            said = fault["msg"].removeprefix("Value error, ").rstrip(".")
            print(f"dayspring: {name}{said}. See docs/reference/settings.md.", file=sys.stderr)
        sys.exit(1)
