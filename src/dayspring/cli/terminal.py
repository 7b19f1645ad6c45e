"""How the commands speak: tables for people, JSON for programs, progress bars only where there is a terminal."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from dayspring.core.errors import NotFound
from dayspring.core.settings import Settings
from dayspring.server.house import House

__all__ = ["AsJson", "Home", "in_house", "print_json", "print_table", "settings_for", "warn"]

T = TypeVar("T")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Home = Annotated[
    Path | None, typer.Option("--home", help="The data folder, by default DAYSPRING_HOME or ~/.dayspring.")
]


def settings_for(home: Path | None, **overrides: Any) -> Settings:
    """The settings, with what the command line says on top. None means not said."""
    said = {name: value for name, value in overrides.items() if value is not None}
    if home is not None:
        said["home"] = home.expanduser().absolute()
    return Settings(**said)


def in_house(home: Path | None, work: Callable[[House], Awaitable[T]], *, makes: bool = False) -> T:
    """Opens the data folder, does the work, closes. `makes`: a folder without an installation gets one.

    Raises NotFound where there is none: a mistyped --home is not an empty installation.
    """
    settings = settings_for(home)
    if not (makes or settings.database_url or (settings.home / "dayspring.db").exists()):
        remedy = "'dayspring serve' makes one; --home or DAYSPRING_HOME names another."
        raise NotFound("installation in", str(settings.home), remedy)
    with House.open(settings) as house:

        async def run() -> T:
            try:
                await house.first_start()
                return await work(house)
            finally:
                await house.hub.close()

        return asyncio.run(run())


def print_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False, default=str)
    sys.stdout.write("\n")


def warn(text: str) -> None:
    """A sentence on standard error about what is done all the same."""
    print(f"dayspring: warning: {text}", file=sys.stderr)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """A table, or the sentence `empty` when there is nothing in it. Columns that begin with `>` are right-aligned."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(
            column.removeprefix(">"), justify="right" if column.startswith(">") else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    console = Console(width=None if sys.stdout.isatty() else 240)
    console.print(table if table.row_count else empty)
