"""`dayspring projects`: make and list projects, open them to people, archive them."""

from typing import Annotated

import typer

from dayspring.accounts.organizations import Project
from dayspring.cli.terminal import AsJson, Home, in_house, print_json, print_table
from dayspring.server.administration.wire import project_role

__all__ = ["app"]

app = typer.Typer(help="Projects: whose keys, files, jobs and answers are kept apart.", no_args_is_help=True)

ProjectId = Annotated[str, typer.Argument(help="The project's id, as 'dayspring projects list' shows it.")]


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="How to call it.")], as_json: AsJson = False, home: Home = None
) -> None:
    """Make a project in the operator's organization."""
    made = in_house(home, lambda house: house.projects.create(None, name), makes=True)
    if as_json:
        print_json(_as_dict(made))
        return
    print(f"{made.id} ({made.name}). Make it a key with: dayspring keys create --project {made.id}")


@app.command("list")
def list_all(
    archived: Annotated[bool, typer.Option("--archived", help="Those that are archived, too.")] = False,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """List the projects of the operator's organization, oldest first."""
    found = in_house(home, lambda house: house.projects.list_projects(None, archived=archived, limit=10_000))
    if as_json:
        print_json([_as_dict(each) for each in found])
        return
    rows = [(each.id, each.name, "archived" if each.archived_at_ns else "") for each in found]
    print_table(("ID", "Name", ""), rows, empty="There is none.")


@app.command("open")
def open_to(
    project: ProjectId,
    email: Annotated[str, typer.Argument(help="Whom to open it to, by what they sign in with.")],
    role: Annotated[str, typer.Option(help="owner, member or viewer.")] = "member",
    home: Home = None,
) -> None:
    """Open a project to a person, or give them another role in it."""
    member = in_house(
        home, lambda house: house.projects.open_to(None, project, project_role(role), email=email), makes=True
    )
    print(f"{email} is {member.role} of {project}.")


@app.command("archive")
def archive(project: ProjectId, home: Home = None) -> None:
    """End a project's keys and sessions. What it kept and spent stays."""
    gone = in_house(home, lambda house: house.projects.archive(None, project), makes=True)
    print(f"{gone.id} ({gone.name}) is archived; its keys and sessions have ended.")


def _as_dict(project: Project) -> dict[str, object]:
    return {
        "id": project.id,
        "name": project.name,
        "organization_id": project.organization_id,
        "created_at": project.created_at_ns // 10**9,
        "archived": project.archived_at_ns is not None,
    }
