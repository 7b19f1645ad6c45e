"""The price book: what customers pay for a model, and what an upstream takes, in versions that never change.

What holds: a new version begins now or later and leaves every older one as it was, so a settled request can always be
priced again by its version. A model without a price of its own takes that of '*'; where that has none either, version
0, which is free and says so.
What it does not do: arithmetic (`pricing`).
"""

from typing import Literal

import msgspec
from sqlalchemy import BigInteger, Column, Connection, Index, Integer, RowMapping, String, Table, Text, select

from dayspring.contracts.clock import Clock
from dayspring.core.errors import InvalidRequest
from dayspring.core.money import Rate, Unit
from dayspring.store.database import Database
from dayspring.store.schema import metadata

__all__ = ["ANY_MODEL", "FREE", "Kind", "PriceBook", "PriceRequest", "PriceVersion", "prices"]

ANY_MODEL = "*"
TTL_S = 1.0
"""For how long the book believes what it has read; a version set by this process is seen at once."""

Kind = Literal["price", "upstream", "batch"]
"""`batch`: what work pays that yields to live traffic; a model without one takes its `price`."""

prices = Table(
    "prices",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("model_id", String(200), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("target", String(200), nullable=False),
    Column("rates", Text, nullable=False),
    # JSON: {unit: {"amount_nanos": ..., "per": ...}}.
    Column("effective_from_ns", BigInteger, nullable=False),
    Column("created_at_ns", BigInteger, nullable=False),
    Column("created_by", String(64), nullable=False),
    Index(None, "model_id", "kind", "target", "effective_from_ns"),
)


class PriceRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A new version. Rates of a unit that is not named are zero."""

    model_id: str
    """A model's id, or '*' for every model without a price of its own."""
    rates: dict[Unit, Rate]
    kind: Kind = "price"
    target: str = ""
    """Which upstream, for kind `upstream`."""
    effective_from_ns: int | None = None
    """None: now. Never earlier."""
    created_by: str = ""
    """The key that set it."""


class PriceVersion(msgspec.Struct, frozen=True):
    id: int
    model_id: str
    kind: Kind
    target: str
    rates: dict[Unit, Rate]
    effective_from_ns: int
    created_at_ns: int
    created_by: str

    @property
    def is_default(self) -> bool:
        """Whether nobody ever set a price: the model is free."""
        return self.id == 0


FREE = PriceVersion(0, ANY_MODEL, "price", "", {}, 0, 0, "default: no price is set, so it is free")

_Line = tuple[str, Kind, str]
_decoder = msgspec.json.Decoder(dict[Unit, Rate])


class PriceBook:
    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._lines: dict[_Line, list[PriceVersion]] = {}
        """Every version, latest start first (the later made first where two start together)."""
        self._believed_until_ns = -1
        self._generation = 0

    async def current(
        self, model_id: str, at_ns: int | None = None, *, kind: Kind = "price", target: str = "", base: str = ""
    ) -> PriceVersion:
        """The version in force at a time, now by default. An adapter without its own has its `base` model's."""
        if self._clock.monotonic_ns() >= self._believed_until_ns:
            await self._load()
        at_ns = self._clock.time_ns() if at_ns is None else at_ns
        for name in (model_id, base, ANY_MODEL) if base else (model_id, ANY_MODEL):
            for version in self._lines.get((name, kind, target), ()):
                if version.effective_from_ns <= at_ns:
                    return version
        return FREE

    async def charged(self, model_id: str, *, batch: bool = False, base: str = "") -> PriceVersion:
        """What a customer pays now. For batch work a model's own price comes before a batch price of every model."""
        if not batch:
            return await self.current(model_id, base=base)
        found = [await self.current(model_id, kind=kind, base=base) for kind in ("batch", "price")]
        own = [version for version in found if version.model_id == model_id]
        own = own or [version for version in found if base and version.model_id == base]
        named = [version for version in found if not version.is_default]
        return next(iter(own or named), FREE)

    async def set(self, request: PriceRequest) -> PriceVersion:
        """Adds a version. Raises InvalidRequest for one that would begin in the past, or that has no sense."""
        now_ns = self._clock.time_ns()
        start_ns = now_ns if request.effective_from_ns is None else request.effective_from_ns
        if start_ns < now_ns:
            raise InvalidRequest("A price cannot begin in the past: what was settled stays. Give a later time.")
        if not request.model_id or (request.kind == "upstream") != bool(request.target):
            raise InvalidRequest("A price is for a model; an upstream's price also names its target. Correct it.")
        row = {
            "model_id": request.model_id,
            "kind": request.kind,
            "target": request.target,
            "rates": msgspec.json.encode(request.rates, order="sorted").decode(),
            "effective_from_ns": start_ns,
            "created_at_ns": now_ns,
            "created_by": request.created_by,
        }

        def add(connection: Connection) -> PriceVersion:
            return _version(connection.execute(prices.insert().returning(prices), row).mappings().one())

        try:
            return await self._db.write(add)
        finally:
            self._generation += 1
            self._believed_until_ns = -1

    async def versions(self, model_id: str | None = None) -> list[PriceVersion]:
        """Every version of a model, or of all, oldest first."""
        query = select(prices).order_by(prices.c.id)
        if model_id is not None:
            query = query.where(prices.c.model_id == model_id)
        return await self._db.read(lambda connection: [_version(row) for row in connection.execute(query).mappings()])

    async def get(self, version: int) -> PriceVersion:
        """The version of this id; FREE for 0 and for an id there is not."""
        query = select(prices).where(prices.c.id == version)
        row = await self._db.read(lambda connection: connection.execute(query).mappings().one_or_none())
        return FREE if row is None else _version(row)

    async def _load(self) -> None:
        generation, asked_at_ns = self._generation, self._clock.monotonic_ns()
        lines: dict[_Line, list[PriceVersion]] = {}
        for version in await self.versions():
            lines.setdefault((version.model_id, version.kind, version.target), []).append(version)
        for versions in lines.values():
            versions.sort(key=lambda version: (version.effective_from_ns, version.id), reverse=True)
        self._lines = lines
        if generation == self._generation:
            self._believed_until_ns = asked_at_ns + int(TTL_S * 1e9)


def _version(row: RowMapping) -> PriceVersion:
    return PriceVersion(**(dict(row) | {"rates": _decoder.decode(row["rates"])}))
