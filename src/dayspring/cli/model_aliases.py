"""`dayspring models alias`: names that stand for models, and what to try when the first is not there."""

from typing import Annotated

import msgspec
import typer

from dayspring.cli.terminal import AsJson, Home, in_house, print_json, print_table
from dayspring.core.errors import InvalidRequest

__all__ = ["alias"]


def alias(
    name: Annotated[str, typer.Argument(help="The name clients will send. Without one, the aliases are listed.")] = "",
    targets: Annotated[list[str] | None, typer.Argument(help="The model it stands for, then fallbacks.")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the alias.")] = False,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """List aliases, or let a name stand for a model: NAME TARGET [FALLBACK...]."""
    if name and targets and not remove:
        made = in_house(home, lambda house: house.hub.set_alias(name, tuple(targets)))
        if as_json:
            print_json(msgspec.to_builtins(made))
        else:
            then = f", then {', '.join(made.targets[1:])}" if len(made.targets) > 1 else ""
            print(f"{made.name} leads to {made.targets[0]}{then}.")
    elif name and remove and not targets:
        in_house(home, lambda house: house.hub.remove_alias(name))
        print(f"{name} is no alias any more.")
    elif name or remove:
        raise InvalidRequest("Say which model it stands for (NAME TARGET), or --remove it.")
    else:
        found = in_house(home, lambda house: house.hub.aliases())
        if as_json:
            print_json([msgspec.to_builtins(each) for each in found])
            return
        rows = [(each.name, each.targets[0], ", ".join(each.targets[1:])) for each in found]
        print_table(
            ("Alias", "Leads to", "Fallbacks"),
            rows,
            empty="There are no aliases. Make one with 'dayspring models alias NAME TARGET'.",
        )
