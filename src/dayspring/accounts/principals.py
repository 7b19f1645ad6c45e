"""Who asks: what a key says about its bearer. A plain value; nothing here reads the database."""

import msgspec

__all__ = ["Principal", "Scope"]


class Scope:
    """What a key may do."""

    INFERENCE = "inference"
    """Call models of the key's project."""
    USAGE = "usage"
    """Read the usage and costs of the key's project."""
    ADMIN = "admin"
    """Everything, in every project."""

    ALL = frozenset({INFERENCE, USAGE, ADMIN})


class Principal(msgspec.Struct, frozen=True):
    organization_id: str
    project_id: str
    key_id: str
    scopes: frozenset[str]
    allowed_models: frozenset[str] | None = None
    """Ids of the models it may use; None: all."""
    sees_cost: bool = False
    """Whether prices may be shown to the bearer. An administrator always sees them."""

    @property
    def is_admin(self) -> bool:
        return Scope.ADMIN in self.scopes

    def may(self, scope: str) -> bool:
        return scope in self.scopes or self.is_admin

    def may_use(self, model_id: str) -> bool:
        return self.allowed_models is None or model_id in self.allowed_models
