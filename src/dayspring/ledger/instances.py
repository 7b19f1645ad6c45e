"""Which servers are alive, so that what a dead one held can be let go.

An instance is dead when a later one of the same home has started (one home is served by one server at a time), and on
PostgreSQL, where several homes share a database, when its heartbeat is older than STALE_S by the database's own clock.
"""

from sqlalchemy import BigInteger, Column, Connection, String, Table, delete, or_, select, text, update

from dayspring.store.schema import metadata

__all__ = ["STALE_S", "beat", "database_time_ns", "dead_instances", "forget_instances", "instances", "register"]

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
    rules = [instances.c.home == home]
    if connection.dialect.name == "postgresql":
        rules.append(instances.c.heartbeat_at_ns < now_ns - STALE_S * 1_000_000_000)
    query = select(instances.c.id).where(instances.c.id != instance_id, or_(*rules)).order_by(instances.c.id)
    return list(connection.execute(query).scalars())


def forget_instances(connection: Connection, ids: list[str]) -> None:
    connection.execute(delete(instances).where(instances.c.id.in_(ids)))
