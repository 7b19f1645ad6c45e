"""Who asks: what a key says about its bearer. A plain value; nothing here reads the database."""

import msgspec

__all__ = ["Limit", "Principal", "Scope"]


class Scope:
    """What a key may do."""

    INFERENCE = "inference"
    """Call models of the key's project."""
    USAGE = "usage"
    """Read the usage and costs of the key's project."""
    PROJECT = "project"
    """Manage the own project: its keys, its people, what it keeps for how long."""
    MANAGE = "manage"
    """Manage the own organization: its projects, keys, people, limits, usage; no other organization, no machine."""
    ADMIN = "admin"
    """Everything, in every organization."""

    ALL = frozenset({INFERENCE, USAGE, PROJECT, MANAGE, ADMIN})


class Limit(msgspec.Struct, frozen=True):
    """Limits on rate of an organization, project or key; None: none. See `limits`."""

    owner_id: str
    level: int
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None

    @property
    def is_empty(self) -> bool:
        return self.requests_per_minute is None and self.tokens_per_minute is None and self.concurrency is None


class Principal(msgspec.Struct, frozen=True):
    organization_id: str
    project_id: str
    key_id: str
    scopes: frozenset[str]
    allowed_models: frozenset[str] | None = None
    """Ids of the models it may use; None: all."""
    sees_cost: bool = False
    """Whether prices may be shown to the bearer. An administrator always sees them."""
    user_id: str = ""
    """The user who signed in, or who owns the key; empty for a key of a service. A session's `key_id` is its user's
    id, so that a user has a budget and an account in the ledger like a key."""
    address: str = ""
    """Where the request came from, on the routes that change something, for the audit log; else empty."""
    limits: tuple[Limit, ...] = ()
    """Those that are set, of the organization first."""

    @property
    def is_admin(self) -> bool:
        return Scope.ADMIN in self.scopes

    @property
    def is_session(self) -> bool:
        """Whether a person signed in, rather than a program with a key."""
        return bool(self.user_id) and self.key_id == self.user_id

    def may(self, scope: str) -> bool:
        return scope in self.scopes or self.is_admin

    def may_manage(self, organization_id: str, project_id: str = "") -> bool:
        """Whether it may change what belongs to the project, or without one to the organization as a whole."""
        if self.is_admin:
            return True
        if organization_id != self.organization_id:
            return False
        return Scope.MANAGE in self.scopes or (project_id == self.project_id and Scope.PROJECT in self.scopes)

    def may_use(self, model_id: str) -> bool:
        return self.allowed_models is None or model_id in self.allowed_models
