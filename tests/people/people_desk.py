"""The accounts' verbs over one database, and people to try them with."""

import msgspec

from dayspring.accounts.administration.audit_search import AuditLog, AuditQuery, Entry
from dayspring.accounts.administration.keys import Keys
from dayspring.accounts.administration.projects import Projects
from dayspring.accounts.organizations import Organization, Project
from dayspring.accounts.people.passwords import Passwords
from dayspring.accounts.people.roles import Role
from dayspring.accounts.people.service import NewUser, People
from dayspring.accounts.people.sign_in import Lasting, SignIn, Visitor
from dayspring.accounts.people.users import User
from dayspring.accounts.principals import Principal
from dayspring.accounts.service import Accounts, KeyRequest
from dayspring.contracts.clock import Clock
from dayspring.store.database import Database

__all__ = ["HERE", "PASSWORD", "PeopleDesk"]

PASSWORD = "correct horse battery"
HERE = Visitor("192.0.2.7", "test")


class PeopleDesk:
    def __init__(self, database: Database, clock: Clock) -> None:
        self.db = database
        self.clock = clock
        self.accounts = Accounts(database, clock)
        self.passwords = Passwords()
        admission = (database, clock, self.accounts.authentication)
        self.people = People(*admission, self.passwords)
        self.sign_in = SignIn(*admission, self.passwords, Lasting(3600, 86_400))
        self.projects = Projects(*admission)
        self.keys = Keys(*admission)
        self.audit = AuditLog(database)
        self.admin: Principal
        self.token: str
        self.organization: Organization
        self.project: Project

    async def start(self) -> None:
        made = await self.accounts.bootstrap("EUR")
        assert made is not None
        self.token = made.token
        self.admin = await self.accounts.authenticate(made.token)
        self.organization, self.project = await self.projects.create_organization(self.admin, "acme")

    @property
    def in_acme(self) -> Principal:
        """The operator, acting in acme."""
        return msgspec.structs.replace(self.admin, organization_id=self.organization.id)

    async def add(self, email: str, role: Role = Role.MEMBER, in_project: Role | None = None, **more: bool) -> User:
        """A user of acme with the usual password."""
        places = ((self.project.id, in_project or role),)
        new = NewUser(
            email=email, role=role, password=PASSWORD, organization_id=self.organization.id, projects=places, **more
        )
        return (await self.people.add(None, new))[0]

    async def token_of(self, email: str, password: str = PASSWORD, project_id: str | None = None) -> str:
        return (await self.sign_in.with_password(email, password, HERE, project_id)).token

    async def signed_in(self, email: str) -> Principal:
        return await self.accounts.authenticate(await self.token_of(email))

    async def person(self, name: str, role: Role = Role.MEMBER, in_project: Role | None = None) -> Principal:
        """A new user of acme who signed in."""
        await self.add(f"{name}@acme.example", role, in_project)
        return await self.signed_in(f"{name}@acme.example")

    async def key(self, **request: object) -> tuple[str, str]:
        """Id and secret of a new key of acme's project."""
        fields = {"name": "test", **request}
        made = await self.keys.create(None, self.project.id, KeyRequest(**fields))  # type: ignore[arg-type]
        return made.key.id, made.token

    async def noted(self) -> None:
        """Until what was written without waiting is there."""
        await self.db.write(lambda connection: None)

    async def log(self, **query: object) -> list[Entry]:
        entries, _ = await self.audit.list_entries(None, AuditQuery(**{"limit": 100, **query}))  # type: ignore[arg-type]
        return entries
