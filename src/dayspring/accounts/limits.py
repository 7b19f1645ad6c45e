"""Limits on rate: requests a minute, tokens a minute, requests at the same time; of organization, project and key.

They travel on the Principal, so a request reads nothing, and are enforced in memory by each server process. Rates are
token buckets that refill all the time: a fresh one holds a whole minute, so in t seconds at most limit * (1 + t / 60)
are let in. Why this one, and what several servers do: docs/decisions/0013-limits.md.

What holds: a request takes from every limit of its three levels or from none; what it does not need in the end is
given back; whatever ends it, it counts no longer as running. Buckets are whole numbers, so no limit is passed, or
missed, by rounding.
"""

from typing import Final

import msgspec
from sqlalchemy import BigInteger, Column, Connection, SmallInteger, String, Table, delete, select

from dayspring.accounts.budgets import KEY, ORGANIZATION, PROJECT
from dayspring.accounts.principals import Limit, Principal
from dayspring.contracts.clock import Clock
from dayspring.core.errors import Busy, InvalidRequest
from dayspring.store.schema import metadata

__all__ = [
    "NAMES", "Admission", "Limiter", "Meter", "Standing", "limits", "limits_of", "set_limits", "with_limits",
]  # fmt: skip

NAMES: Final = {ORGANIZATION: "organization", PROJECT: "project", KEY: "key"}
MAX_LIMIT: Final = 10**12
_MINUTE_NS: Final = 60 * 10**9
_MAX_KNOWN: Final = 10_000
"""Owners remembered before those without a running request and with full buckets are forgotten."""

limits = Table(
    "limits",
    metadata,
    Column("owner_id", String(64), primary_key=True),
    Column("level", SmallInteger, nullable=False),
    Column("requests_per_minute", BigInteger),
    Column("tokens_per_minute", BigInteger),
    Column("concurrency", BigInteger),
    # NULL: no limit.
)


def limits_of(connection: Connection, *owner_ids: str) -> tuple[Limit, ...]:
    """Those that are set, of the organization first."""
    query = select(limits).where(limits.c.owner_id.in_(owner_ids)).order_by(limits.c.level, limits.c.owner_id)
    return tuple(Limit(*row) for row in connection.execute(query))


def set_limits(connection: Connection, limit: Limit) -> None:
    """Replaces the owner's limits. Raises InvalidRequest for what cannot be one."""
    for value in (limit.requests_per_minute, limit.tokens_per_minute, limit.concurrency):
        if value is not None and not 1 <= value <= MAX_LIMIT:
            raise InvalidRequest(
                "A limit on requests, tokens or concurrency is 1 to 1000000000000; none at all lifts it. Correct it."
            )
    connection.execute(delete(limits).where(limits.c.owner_id == limit.owner_id))
    if not limit.is_empty:
        connection.execute(limits.insert(), msgspec.structs.asdict(limit))


def with_limits(connection: Connection, principal: Principal) -> Principal:
    """The principal with the limits of its organization, project and key."""
    found = limits_of(connection, principal.organization_id, principal.project_id, principal.key_id)
    return msgspec.structs.replace(principal, limits=found) if found else principal


class Meter(msgspec.Struct, frozen=True):
    """One rate as it stands."""

    limit: int
    """A minute."""
    remaining: int
    reset_ns: int
    """Until all of it is there again."""


class Standing(msgspec.Struct, frozen=True):
    """The tightest of the three levels, by what is left; None where no level has such a limit."""

    requests: Meter | None
    tokens: Meter | None


class _Bucket:
    """What is missing from it, in requests or tokens times the nanoseconds of a minute, so that refilling is exact."""

    __slots__ = ("at_ns", "missing", "rate")

    def __init__(self) -> None:
        self.missing = 0
        self.at_ns = 0
        """When that was so."""
        self.rate = 0
        """A minute; what is refilled in a nanosecond, in the unit of `missing`."""

    def refill(self, now_ns: int, rate: int) -> None:
        """Up to now at the rate it had, from now on at this one."""
        self.missing = max(0, self.missing - (now_ns - self.at_ns) * self.rate)
        self.at_ns, self.rate = now_ns, rate

    def is_full(self, now_ns: int) -> bool:
        return self.missing <= (now_ns - self.at_ns) * self.rate


class _Owner:
    """What is known of an organization, project or key."""

    __slots__ = ("requests", "running", "tokens")

    def __init__(self) -> None:
        self.requests = _Bucket()
        self.tokens = _Bucket()
        self.running = 0


class Admission:
    """A request that was let in. Call `leave` when it has ended, however it did."""

    __slots__ = ("_clock", "_taken", "_tokens", "_unit")

    def __init__(self, clock: Clock, taken: list[tuple[Limit, _Owner]], tokens: int, unit: int) -> None:
        self._clock = clock
        self._taken = taken
        self._tokens = tokens
        self._unit = unit

    def leave(self, tokens: int) -> None:
        """Counts it as running no longer, and as having taken so many tokens. The second time nothing happens."""
        taken, self._taken = self._taken, []
        for limit, owner in taken:
            owner.running -= 1
            if limit.tokens_per_minute is not None:
                bucket = owner.tokens
                bucket.refill(self._clock.monotonic_ns(), bucket.rate)
                bucket.missing = max(0, bucket.missing + (max(0, tokens) - self._tokens) * self._unit)


class _Refusal(msgspec.Struct, frozen=True):
    wait_ns: int
    reason: str


class Limiter:
    """One server's. Not thread-safe: it is called from the event loop and never waits."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._owners: dict[str, _Owner] = {}
        self._sweep_at = _MAX_KNOWN
        self._servers = 1
        self._unit = _MINUTE_NS
        """What one request or token is in a bucket: with n servers, each fills its own with an nth of the rate."""
        self._free = Admission(clock, [], 0, 0)

    def share(self, servers: int) -> None:
        """How many servers enforce the same limits: each enforces its part of them."""
        self._servers = max(1, servers)
        self._unit = _MINUTE_NS * self._servers

    def enter(self, principal: Principal, tokens: int) -> Admission:
        """Takes one request and so many tokens, the most it may come to, from each limit of its levels, or nothing.

        Raises Busy with the time after which every limit has room, InvalidRequest for what no waiting makes fit.
        """
        if not principal.limits:
            return self._free
        now_ns = self._clock.monotonic_ns()
        if len(self._owners) >= self._sweep_at:
            self._forget_idle(now_ns)
        taking = [(limit, self._owners.setdefault(limit.owner_id, _Owner())) for limit in principal.limits]
        worst: _Refusal | None = None
        for limit, owner in taking:
            for refusal in self._refusals(limit, owner, tokens, now_ns):
                if worst is None or refusal.wait_ns > worst.wait_ns:
                    worst = refusal
        if worst is not None:
            raise Busy(worst.reason, retry_after_s=max(1, -(-worst.wait_ns // 10**8)) / 10)
        for limit, owner in taking:
            owner.running += 1
            if limit.requests_per_minute is not None:
                owner.requests.missing += self._unit
            if limit.tokens_per_minute is not None:
                owner.tokens.missing += tokens * self._unit
        return Admission(self._clock, taking, tokens, self._unit)

    def standing(self, principal: Principal) -> Standing | None:
        """What the tightest levels have left now; None where no rate is limited."""
        if not principal.limits:
            return None
        now_ns = self._clock.monotonic_ns()
        requests, tokens = [], []
        for limit in principal.limits:
            owner = self._owners.get(limit.owner_id) or _Owner()
            if limit.requests_per_minute is not None:
                requests.append(self._meter(limit.requests_per_minute, owner.requests, now_ns))
            if limit.tokens_per_minute is not None:
                tokens.append(self._meter(limit.tokens_per_minute, owner.tokens, now_ns))
        if not requests and not tokens:
            return None
        return Standing(min(requests, key=_tightness, default=None), min(tokens, key=_tightness, default=None))

    def _meter(self, limit: int, bucket: _Bucket, now_ns: int) -> Meter:
        bucket.refill(now_ns, limit)
        left = max(0, limit * _MINUTE_NS - bucket.missing) // self._unit
        return Meter(limit, left, -(-bucket.missing // limit))

    def _refusals(self, limit: Limit, owner: _Owner, tokens: int, now_ns: int) -> list[_Refusal]:
        """Why this level has no room. Raises InvalidRequest where it never will."""
        found = []
        whose = f"of the {NAMES[limit.level]} {limit.owner_id}"
        if limit.concurrency is not None and owner.running >= max(1, limit.concurrency // self._servers):
            reason = f"The limit {whose} is {limit.concurrency} requests at the same time, and it is reached"
            found.append(_Refusal(10**9, reason))
        rates = (
            (limit.requests_per_minute, 1, owner.requests, "requests"),
            (limit.tokens_per_minute, tokens, owner.tokens, "tokens"),
        )
        for rate, count, bucket, name in rates:
            if rate is None:
                continue
            if count > rate:
                raise InvalidRequest(
                    f"The request may come to {count} {name} and the limit {whose} is {rate} {name} a minute, "
                    "so it can never fit. Ask for less, or have the limit raised."
                )
            # A request over this server's part of the limit passes when the part is whole, and is paid off afterwards.
            bucket.refill(now_ns, rate)
            over = bucket.missing - max(0, rate * _MINUTE_NS - count * self._unit)
            if over > 0:
                wait_ns = -(-over // rate)
                found.append(_Refusal(wait_ns, f"The limit {whose} is {rate} {name} a minute, and it is reached"))
        return found

    def _forget_idle(self, now_ns: int) -> None:
        """Those that a fresh entry would be equal to."""
        self._owners = {
            owner_id: owner
            for owner_id, owner in self._owners.items()
            if owner.running or not (owner.requests.is_full(now_ns) and owner.tokens.is_full(now_ns))
        }
        self._sweep_at = max(_MAX_KNOWN, 2 * len(self._owners))


def _tightness(meter: Meter) -> int:
    return meter.remaining
