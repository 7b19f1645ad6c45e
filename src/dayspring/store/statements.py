"""Hot statements, compiled once for each dialect and run on the driver's own cursor.

SQLAlchemy's execution costs some 25 microseconds a statement, SQLite's 3; a metered request runs eight. A Statement is
written in Core like any other, so the schema stays the one source of names, and keeps only its text.

What holds: parameters are passed to the driver, never put into the text. What it does not do: convert. Use it for
integers, text and bytes only; a boolean comes back as SQLite keeps it (0 or 1).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.sql.expression import ClauseElement

__all__ = ["WRITES", "Statement", "insert_if_new", "insert_new"]

WRITES = "dayspring_writes"
"""In `Connection.info` on PostgreSQL: goes up with every statement that wrote. SQLite's driver counts by itself."""


def insert_new(table: Table) -> Insert:
    """An insert that does nothing where a unique value is there already. See also `insert_if_new`.

    Both databases write it `ON CONFLICT DO NOTHING`, and SQLAlchemy's PostgreSQL construct compiles for either.
    """
    return insert(table).on_conflict_do_nothing()


def insert_if_new(connection: Connection, table: Table, row: Mapping[str, Any]) -> bool:
    """Whether the row was inserted; False where one of its unique values was there already."""
    # Not by rowcount: SQLAlchemy does not know it for such an insert.
    statement = insert_new(table).returning(*table.primary_key.columns)
    return connection.execute(statement, row).first() is not None


class Statement:
    """One statement whose parameters are given by position, in the order of `names`."""

    __slots__ = ("_compiled", "_writes", "clause", "names")

    def __init__(self, clause: ClauseElement, *names: str) -> None:
        self.clause = clause
        self.names = names
        self._writes = bool(getattr(clause, "is_dml", False))
        self._compiled: dict[str, tuple[str, tuple[int, ...] | None]] = {}

    def run(self, connection: Connection, *values: Any) -> Any:
        """The driver's cursor after execution: `fetchone`, `fetchall`, `rowcount`."""
        text, order = self._compiled.get(connection.dialect.name) or self._compile(connection)
        driver: Any = connection.connection.driver_connection
        if order is None:
            cursor = driver.execute(text, dict(zip(self.names, values, strict=True)))
            if self._writes and cursor.rowcount:
                connection.info[WRITES] = connection.info.get(WRITES, 0) + 1
            return cursor
        return driver.execute(text, values if order == () else [values[index] for index in order])

    def one(self, connection: Connection, *values: Any) -> tuple[Any, ...] | None:
        """The first row, or None."""
        row: tuple[Any, ...] | None = self.run(connection, *values).fetchone()
        return row

    def all(self, connection: Connection, *values: Any) -> Sequence[tuple[Any, ...]]:
        rows: Sequence[tuple[Any, ...]] = self.run(connection, *values).fetchall()
        return rows

    def _compile(self, connection: Connection) -> tuple[str, tuple[int, ...] | None]:
        """Text, and the order of values for a positional driver: () when as given, None for a driver of names."""
        options: dict[str, Any] = {"dialect": connection.dialect}
        if getattr(self.clause, "is_insert", False):
            options["column_keys"] = list(self.names)
        compiled: Any = self.clause.compile(**options)
        missing = {name for name in compiled.params if name not in self.names}
        text, order = compiled.string, None
        if missing:
            raise ValueError(f"the statement has parameters without a name: {sorted(missing)}")
        if compiled.positional:
            indices = tuple(self.names.index(name) for name in compiled.positiontup)
            order = () if indices == tuple(range(len(self.names))) else indices
        found = self._compiled[connection.dialect.name] = (text, order)
        return found
