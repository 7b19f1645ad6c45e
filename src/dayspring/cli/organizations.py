"""`dayspring organizations`: several of them in one installation."""

from typing import Annotated

import typer

from dayspring.cli.terminal import AsJson, Home, in_house, print_json, print_table

__all__ = ["app"]

app = typer.Typer(help="Organizations of this installation.", no_args_is_help=True)


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="How to call it.")], as_json: AsJson = False, home: Home = None
) -> None:
    """Make an organization with its first project."""
    made, project = in_house(home, lambda house: house.projects.create_organization(None, name), makes=True)
    if as_json:
        print_json({"id": made.id, "name": made.name, "default_project_id": project.id})
        return
    print(f"{made.id} ({made.name}), with project {project.id}.")


@app.command("list")
def list_all(as_json: AsJson = False, home: Home = None) -> None:
    """List all organizations, oldest first: the first is the operator's."""
    found = in_house(home, lambda house: house.projects.list_organizations(None))
    if as_json:
        print_json([{"id": each.id, "name": each.name, "created_at": each.created_at_ns // 10**9} for each in found])
        return
    print_table(("ID", "Name"), [(each.id, each.name) for each in found], empty="There is none.")
