"""`dayspring models`: list, add, search, show, alias and remove. Adding shows the plan first."""

import sys
import time
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
from rich.progress import Progress as Bars

from dayspring.cli.model_aliases import alias
from dayspring.cli.model_search import search
from dayspring.cli.terminal import AsJson, Home, in_house, print_json, print_table, warn
from dayspring.contracts.models import Ability, Model
from dayspring.core.errors import InvalidRequest
from dayspring.hub.adapters.entries import as_stored
from dayspring.hub.licences import commercial_use
from dayspring.hub.plan import Plan, Progress
from dayspring.server.house import House

__all__ = ["ProgressPrinter", "app"]

app = typer.Typer(help="Models: where they come from, and which are here.", no_args_is_help=True)

app.command("search")(search)
app.command("alias")(alias)

_LINE_EVERY_S = 5.0


@app.command("list")
def list_all(as_json: AsJson = False, home: Home = None) -> None:
    """List the models that are here."""
    found = in_house(home, lambda house: house.hub.list())
    if as_json:
        print_json([msgspec.to_builtins(model) for model in found])
        return
    rows = [
        (model.id, ", ".join(model.abilities), model.engine, _size(model.size_bytes), model.licence, model.source)
        for model in found
    ]
    print_table(
        ("Model", "Can", "Engine", ">Size", "Licence", "Source"),
        rows,
        empty="There are no models yet. Add one with 'dayspring models add'; 'dayspring serve' adds the default ones.",
    )


@app.command("add")
def add(
    source: Annotated[str, typer.Argument(help="Its address, its page at a hub, or a name of the catalogue.")],
    model_id: Annotated[str | None, typer.Option("--id", help="The name clients will send.")] = None,
    sha256: Annotated[str, typer.Option(help="The hash an https: file must have.")] = "",
    licence: Annotated[str, typer.Option(help="Your own word on its licence, an SPDX id.")] = "",
    accept_licence: Annotated[str | None, typer.Option(help="Who accepts its licence; recorded.")] = None,
    ability: Annotated[list[Ability] | None, typer.Option(help="What an upstream can do; repeat for more.")] = None,
    option: Annotated[list[str] | None, typer.Option(help="Engine option NAME=JSON; repeat for more.")] = None,
    base: Annotated[str, typer.Option(help="The model here that an adapter (LoRA) changes.")] = "",
    plan_only: Annotated[bool, typer.Option("--plan", help="Show the plan and stop.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Add a model: shows what would be fetched first. A broken download goes on where it stopped."""

    async def work(house: House) -> Model | None:
        plan = await house.hub.plan(
            source,
            model_id,
            sha256=sha256,
            licence=licence,
            abilities=tuple(ability or ()),
            options=_options(option or []),
            base=base,
        )
        if plan_only and as_json:
            print_json(msgspec.to_builtins(plan))
            return None
        if not as_json:
            _show_plan(plan)
        if plan_only:
            return None
        if not yes and not sys.stdin.isatty():
            raise InvalidRequest("Nobody is at a terminal to be asked, so nothing was added. Add --yes.")
        if not yes and not typer.confirm("Add it?", default=True, err=True):
            return None
        with ProgressPrinter() as progress:
            return await house.hub.add(plan, accept_licence, progress.show)

    model = in_house(home, work, makes=True)
    if model is None:
        return
    if as_json:
        print_json(msgspec.to_builtins(as_stored(model)))
    else:
        print(f"{model.id} is here: {', '.join(model.abilities)}, run by {model.engine}.")


@app.command("show")
def show(model_id: str, as_json: AsJson = False, home: Home = None) -> None:
    """Show everything known about a model."""
    found = in_house(home, lambda house: house.hub.get(model_id))
    model = as_stored(found)
    if as_json:
        print_json(msgspec.to_builtins(model))
        return
    facts = msgspec.to_builtins(model)
    facts["adapters"] = ", ".join(adapter.id for adapter in found.adapters)
    facts.update(facts.pop("metadata", {}))
    facts["created_at"] = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(model.created_at))
    facts["abilities"] = ", ".join(model.abilities)
    facts.update({name: _size(facts[name]) for name in ("size_bytes", "memory_bytes") if name in facts})
    print_table(("Fact", "Value"), [(name, value) for name, value in facts.items() if value != ""], empty="")


@app.command("remove")
def remove(model_id: str, home: Home = None) -> None:
    """Take a model and its files off this machine."""

    async def work(house: House) -> list[str]:
        await house.hub.remove(model_id)
        return sorted(alias.name for alias in await house.hub.aliases() if model_id in alias.targets)

    left = in_house(home, work)
    print(f"{model_id} is removed.")
    for name in left:
        warn(f"the alias {name!r} still leads to it; change it with 'dayspring models alias {name} ...'")


class ProgressPrinter:
    """A bar for each file on a terminal; a plain line every few seconds elsewhere."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            console=self._console,
        )
        self._tasks: dict[str, int] = {}
        self._said_at = 0.0

    def __enter__(self) -> "ProgressPrinter":
        if self._console.is_terminal:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._bars.stop()

    def show(self, progress: Progress) -> None:
        """One step of the work."""
        what = f"{progress.model} {progress.phase} {progress.file}".rstrip()
        if self._console.is_terminal:
            if what not in self._tasks:
                self._tasks[what] = self._bars.add_task(what, total=progress.total_bytes or None)
            self._bars.update(self._bars.task_ids[self._tasks[what]], completed=progress.done_bytes)
            return
        now = time.monotonic()
        if now - self._said_at >= _LINE_EVERY_S:
            self._said_at = now
            total = f" of {_size(progress.total_bytes)}" if progress.total_bytes else ""
            print(f"{what}: {_size(progress.done_bytes)}{total}", file=sys.stderr)


def _show_plan(plan: Plan) -> None:
    use = commercial_use(plan.licence)
    rows = [
        ("Model", plan.id),
        ("From", plan.pinned),
        ("Files", ", ".join(f"{file.path} ({_size(file.size_bytes)})" for file in plan.files) or "none"),
        ("Download", _size(plan.download_bytes)),
        ("Disk", f"{_size(plan.disk_bytes)} of {_size(plan.disk_free_bytes)} free"),
        ("Memory", f"{_size(plan.memory_bytes)} of {_size(plan.memory_limit_bytes)}"),
        ("Licence", plan.licence.name or "unknown"),
        ("Commercial use", f"{use.verdict}: {use.reason}"),
        ("Engine", plan.engine or "none can run it"),
        ("Can", ", ".join(plan.abilities)),
        ("Changes", plan.base),
        ("Converted", plan.conversion),
        *(("Warning", warning) for warning in plan.warnings),
        *(("Refused", refusal) for refusal in plan.refusals),
    ]
    if plan.needs_licence_acceptance:
        rows.append(("To do", "the licence needs --accept-licence WHO"))
    print_table(("Plan", ""), [row for row in rows if row[1]], empty="")


def _options(written: list[str]) -> dict[str, object]:
    options: dict[str, object] = {}
    for each in written:
        name, equals, value = each.partition("=")
        if not equals:
            raise InvalidRequest(f"{each!r} is no option. Write it as NAME=VALUE.")
        try:
            options[name] = msgspec.json.decode(value)
        except msgspec.DecodeError:
            options[name] = value
    return options


def _size(number: int) -> str:
    if number < 1 << 20:
        return f"{number} B" if number < 1024 else f"{number >> 10} KiB"
    return f"{number / (1 << 20):.1f} MiB" if number < 1 << 30 else f"{number / (1 << 30):.2f} GiB"
