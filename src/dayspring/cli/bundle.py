"""`dayspring bundle`: one file that installs Dayspring and models where there is no network."""

import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from dayspring.cli.models import ProgressPrinter
from dayspring.cli.terminal import AsJson, Home, in_house, print_json, print_table
from dayspring.core.errors import InvalidRequest, NotFound, Refused
from dayspring.hub.bundle.making import Content, Made, make_bundle
from dayspring.hub.bundle.packages import Target
from dayspring.server.house import House

__all__ = ["bundle"]


def bundle(
    file: Annotated[Path, typer.Argument(help="The file to write, e.g. dayspring.tar.")],
    model: Annotated[
        list[str] | None, typer.Option(help="A model that is here, or a source to add first; repeat for more.")
    ] = None,
    no_models: Annotated[bool, typer.Option("--no-models", help="Only the packages.")] = False,
    extra: Annotated[list[str] | None, typer.Option(help="An extra of Dayspring, e.g. postgres; repeat.")] = None,
    python: Annotated[str, typer.Option(help="For another Python than this one, e.g. 3.12.")] = "",
    platform: Annotated[
        list[str] | None, typer.Option(help="For another machine, as pip names it: manylinux_2_28_aarch64; repeat.")
    ] = None,
    newest: Annotated[bool, typer.Option("--newest", help="Newest packages, not the versions installed here.")] = False,
    accept_licence: Annotated[str | None, typer.Option(help="Who accepts the licence of what is added first.")] = None,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Make one file with packages, models and an installer. Without --model it carries the default models."""
    if no_models and model:
        raise InvalidRequest("--no-models and --model exclude each other. Leave one out.")
    target = Target(python, tuple(platform or ()), tuple(extra or ()), newest)
    place = file.expanduser().absolute()
    if place.is_dir() or not place.parent.is_dir():
        raise InvalidRequest(f"{str(place)!r} cannot be written. Name a file in a folder that is there.")

    async def work(house: House) -> Made:
        with ProgressPrinter() as progress:
            wanted = [] if no_models else model or list(house.hub.default_pack())
            contents: dict[str, Content] = {}
            for each in wanted:
                found = await _carried(house, each, accept_licence, progress)
                base = found[0].base
                if base and base not in contents:  # an adapter is nothing without the model it changes
                    contents[base] = await house.hub.contents(base)
                contents[found[0].id] = found
            scratch = house.settings.home / "scratch"
            return await make_bundle(place, list(contents.values()), target, scratch, house.clock, progress.show)

    made = in_house(home, work, makes=True)
    if as_json:
        print_json(msgspec.to_builtins(made))
        return
    rows = [
        ("File", made.file),
        ("Size", f"{made.size_bytes / (1 << 20):.1f} MiB"),
        ("SHA-256", made.sha256),
        ("For", f"Python {made.python}, {made.platform}"),
        ("Packages", made.packages),
        ("Models", ", ".join(made.models) or "none"),
    ]
    print_table(("Bundle", ""), rows, empty="")
    print("On the other machine: tar xf FILE && sh dayspring-bundle/install.sh. Compare the SHA-256 there first.")


async def _carried(house: House, wanted: str, accept_licence: str | None, progress: ProgressPrinter) -> Content:
    """The model of this id, or of this source once it was added."""
    try:
        return await house.hub.contents(wanted)
    except NotFound:
        plan = await house.hub.plan(wanted)
    if not plan.files:
        raise Refused(file=wanted, rule="it is a service's model and has no files to carry", remedy="Leave it out.")
    for each in await house.hub.list():
        if each.source in (plan.pinned, plan.source):
            return await house.hub.contents(each.id)
    print(f"{plan.id} is not here yet: it is added first.", file=sys.stderr)
    added = await house.hub.add(plan, accept_licence, progress.show)
    return await house.hub.contents(added.id)
