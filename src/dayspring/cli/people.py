"""`dayspring people`: who may sign in, links for passwords, and everything kept of a person: shown or erased."""

import datetime
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from dayspring.accounts.administration.privacy import Privacy
from dayspring.accounts.people.roles import Role
from dayspring.accounts.people.service import Link, NewUser
from dayspring.accounts.people.users import User
from dayspring.cli.terminal import AsJson, Home, in_house, print_json, print_table
from dayspring.contracts.holdings import Subject
from dayspring.core.errors import InvalidRequest, NotFound
from dayspring.server.app import create_app
from dayspring.server.house import House

__all__ = ["app"]

app = typer.Typer(help="People who may sign in.", no_args_is_help=True)

T = TypeVar("T")

Who = Annotated[str, typer.Argument(help="Email or id of a user.")]
Organization = Annotated[str | None, typer.Option(help="Id of an organization; without one the first.")]


@app.command("add")
def add(
    email: Annotated[str, typer.Argument(help="What they sign in with.")],
    name: Annotated[str, typer.Option(help="How to call them.")] = "",
    role: Annotated[Role, typer.Option(help="In the organization.")] = Role.MEMBER,
    operator: Annotated[bool, typer.Option("--operator", help="Administers the whole installation.")] = False,
    project: Annotated[list[str] | None, typer.Option(help="Id of a project to open, in the same role.")] = None,
    organization: Organization = None,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Add a user and print a one-time link secret, with which they set a password within a day."""
    places = None if project is None else tuple((each, role) for each in project)
    new = NewUser(
        email=email, name=name, role=role, is_operator=operator, organization_id=organization, projects=places
    )
    user, link = in_house(home, lambda house: house.people.add(None, new), makes=True)
    _print_link(user, link, as_json=as_json)


@app.command("list")
def list_all(as_json: AsJson = False, home: Home = None) -> None:
    """List everybody who may sign in."""
    found = in_house(home, lambda house: house.people.list_users(None, limit=100_000))
    if as_json:
        print_json([_as_dict(user) for user in found])
        return
    rows = [
        (user.id, user.email, user.name, user.role, "yes" if user.is_operator else "", user.organization_id)
        for user in found
    ]
    columns = ("ID", "Email", "Name", "Role", "Operator", "Organization")
    print_table(columns, rows, empty="Nobody may sign in. Add somebody with 'dayspring people add'.")


@app.command("reset")
def reset(who: Who, as_json: AsJson = False, home: Home = None) -> None:
    """Print a one-time link secret, with which a user sets another password within a day."""

    async def work(house: House) -> tuple[User, Link]:
        user = await _find(house, who)
        return user, await house.people.reset_password(None, user.id)

    _print_link(*in_house(home, work), as_json=as_json)


@app.command("remove")
def remove(who: Who, home: Home = None) -> None:
    """End a user's sessions and keys at once. What is kept of them stays; see 'erase'."""

    async def work(house: House) -> User:
        return await house.people.remove(None, (await _find(house, who)).id)

    user = in_house(home, work)
    print(f"{user.email} ({user.id}) is removed.")


@app.command("export")
def export(
    who: Annotated[str, typer.Argument(help="Email or id of a user, removed ones too; or with --end-user a name.")],
    to: Annotated[Path, typer.Option("--to", help="The zip to write; must not be there yet.")],
    end_user: Annotated[bool, typer.Option("--end-user", help="WHO is what clients sent as 'user'.")] = False,
    organization: Organization = None,
    home: Home = None,
) -> None:
    """Write everything kept of a person into a zip."""

    async def work(house: House, privacy: Privacy) -> int:
        if end_user:
            subject = Subject(await _organization(house, organization), end_user=who)
        else:
            subject = await privacy.user(None, await _id(house, who))
        try:
            with to.open("xb") as out:
                to.chmod(0o600)
                return await privacy.export(None, subject, out)
        except FileExistsError:
            raise InvalidRequest(f"{to} is there already. Name another file.") from None

    print(f"{_with_rooms(home, work)} things are in {to}.", file=sys.stderr)


@app.command("erase")
def erase(
    who: Annotated[str, typer.Argument(help="Email or id of a user, removed ones too; or with --end-user a name.")],
    end_user: Annotated[bool, typer.Option("--end-user", help="WHO is what clients sent as 'user'.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    organization: Organization = None,
    home: Home = None,
) -> None:
    """Erase everything kept of a person. The books stay, and name nobody."""
    if not yes:
        typer.confirm(f"Erase everything kept of {who}? This cannot be undone.", abort=True)

    async def work(house: House, privacy: Privacy) -> int:
        if end_user:
            return await privacy.erase_end_user(None, who, await _organization(house, organization))
        return await privacy.erase_user(None, await _id(house, who))

    print(f"{_with_rooms(home, work)} things were erased.")


def _with_rooms(home: Path | None, work: Callable[[House, Privacy], Awaitable[T]]) -> T:
    """As `in_house`, with every room that keeps things, which only the app puts together."""

    async def inside(house: House) -> T:
        return await work(house, create_app(house).state.privacy)

    return in_house(home, inside)


async def _find(house: House, who: str) -> User:
    """A user who may sign in, by email or id. Raises NotFound."""
    if "@" not in who:
        return await house.people.get(None, who)
    found = await house.people.list_users(None, emails=[who], limit=1)
    if not found:
        raise NotFound("user", who, "'dayspring people list' shows who there is.")
    return found[0]


async def _id(house: House, who: str) -> str:
    """As `_find`, and the id of one who was removed, as it is."""
    return (await _find(house, who)).id if "@" in who else who


async def _organization(house: House, organization: str | None) -> str:
    if organization is None:
        return (await house.projects.list_organizations(None))[0].id
    return (await house.projects.get_organization(None, organization)).id


def _print_link(user: User, link: Link | None, *, as_json: bool) -> None:
    if link is None:
        return
    until = datetime.datetime.fromtimestamp(link.expires_at_ns / 1e9, datetime.UTC)
    if as_json:
        print_json(_as_dict(user) | {"token": link.token, "expires_at": link.expires_at_ns // 10**9})
        return
    print(f"{user.email} ({user.id}) sets a password with this until {until:%Y-%m-%d %H:%M}Z:", file=sys.stderr)
    print(link.token)
    print('Send {"token": ..., "password": ...} to POST /v1/password_resets/use.', file=sys.stderr)


def _as_dict(user: User) -> dict[str, Any]:
    return {
        "id": user.id,
        "email": user.email,
        "name": user.name,
        "role": str(user.role),
        "is_operator": user.is_operator,
        "organization_id": user.organization_id,
        "created_at": user.created_at_ns // 10**9,
    }
