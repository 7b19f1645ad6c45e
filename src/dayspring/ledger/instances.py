"""Which servers are alive, so that what a dead one held can be let go.

An instance is dead when a later one of the same home has started (one home is served by one server at a time), and when
its heartbeat is older than STALE_S, by the clock of PostgreSQL, where several homes share a database, or of the one
machine of a SQLite file, whose data folder may have been moved.
"""

from sqlalchemy import BigInteger, Column, Connection, String, Table, delete, func, or_, select, text, update

from dayspring.store.schema import metadata

__all__ = [
    "STALE_S", "beat", "database_time_ns", "dead_instances", "forget_instances", "instances", "living", "register",
]  # fmt: skip

STALE_S = 60

instances = Table(
    "server_instances",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("home", String(1000), nullable=False),
    Column("started_at_ns", BigInteger, nullable=False),
    Column("heartbeat_at_ns", BigInteger, nullable=False),
)


def database_time_ns(connection: Connection, fallback_ns: int) -> int:
    """PostgreSQL's clock, which all its servers share; for SQLite, one machine's file, the caller's own."""
    if connection.dialect.name != "postgresql":
        return fallback_ns
    query = text("SELECT (extract(epoch FROM clock_timestamp()) * 1000000000)::bigint")
    return int(connection.execute(query).scalar_one())


def register(connection: Connection, instance_id: str, home: str, now_ns: int) -> None:
    """Makes the instance's row. `now_ns` is by `database_time_ns`."""
    connection.execute(
        instances.insert(), {"id": instance_id, "home": home, "started_at_ns": now_ns, "heartbeat_at_ns": now_ns}
    )


def beat(connection: Connection, instance_id: str, now_ns: int) -> bool:
    """Whether the row was still there: False when another server has taken this one for dead."""
    statement = update(instances).where(instances.c.id == instance_id).values(heartbeat_at_ns=now_ns)
    return bool(connection.execute(statement).rowcount)


def dead_instances(connection: Connection, instance_id: str, home: str, now_ns: int) -> list[str]:
    """Ids of all but this one whose server cannot be alive."""
    dead = or_(instances.c.home == home, instances.c.heartbeat_at_ns < now_ns - STALE_S * 1_000_000_000)
    query = select(instances.c.id).where(instances.c.id != instance_id, dead).order_by(instances.c.id)
    return list(connection.execute(query).scalars())


def living(connection: Connection, own_ns: int) -> int:
    """How many have a heartbeat; at least one. On SQLite one server alone uses the file."""
    if connection.dialect.name != "postgresql":
        return 1
    since_ns = database_time_ns(connection, own_ns) - STALE_S * 1_000_000_000
    query = select(func.count()).select_from(instances).where(instances.c.heartbeat_at_ns >= since_ns)
    return max(1, connection.execute(query).scalar_one())


def forget_instances(connection: Connection, ids: list[str]) -> None:
    connection.execute(delete(instances).where(instances.c.id.in_(ids)))
