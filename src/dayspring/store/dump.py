"""Tables as lines of JSON and back, between any two databases: what a backup holds, and how one moves to PostgreSQL.

The database itself is asked which tables and columns it has, so that nothing a room keeps is forgotten. The first line
of a table is the list of its columns; each other one is a row. Bytes are base64.
What holds: what is read belongs to the caller's one snapshot; a value arrives as it left, whichever two databases; a
column of a type that is not known here stops the dump, rather than being guessed.
"""

import base64
import binascii
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import msgspec
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    Text,
    cast,
    delete,
    insert,
    inspect,
    select,
    text,
)

from dayspring.core.errors import Refused

__all__ = ["LINE_BYTES", "continue_counting", "dump_table", "load_table", "tables_of"]

LINE_BYTES = 256 << 20
"""Longest line that is read back."""
_FETCH = 1000
_LOAD = 500

Value = Any
"""What JSON can hold."""


def tables_of(connection: Connection, schema: str | None = None, without: frozenset[str] = frozenset()) -> list[Table]:
    """Every table of the database, or of one schema, in an order in which they can be filled."""
    found = MetaData()
    names = [name for name in inspect(connection).get_table_names(schema=schema) if name not in without]
    found.reflect(connection, schema=schema, only=names, resolve_fks=False)
    return [table for table in found.sorted_tables if table.name in names]


def dump_table(connection: Connection, table: Table) -> Iterator[bytes]:
    """The table's lines, with their ends; rows by primary key."""
    columns = list(table.columns)
    out = [_outward(column) for column in columns]
    yield msgspec.json.encode([str(column.name) for column in columns]) + b"\n"
    wanted = [cast(column, Text) if isinstance(column.type, JSON) else column for column in columns]
    query = select(*wanted).order_by(*table.primary_key.columns).execution_options(yield_per=_FETCH)
    with connection.execute(query) as rows:
        for row in rows:
            values = [None if value is None else convert(value) for convert, value in zip(out, row, strict=True)]
            yield msgspec.json.encode(values) + b"\n"


def load_table(connection: Connection, table: Table, lines: Iterator[bytes]) -> int:
    """Fills an empty table; how many rows. Raises Refused for lines that are not its rows.

    A column that the lines have not takes its default; one that the table has not must be empty in every row. Rows that
    a migration put there are replaced.
    """
    names: list[str] = msgspec.json.decode(next(lines, b""), type=list[str])
    known = [(index, table.c[name], _inward(table.c[name])) for index, name in enumerate(names) if name in table.c]
    unknown = [index for index, name in enumerate(names) if name not in table.c]
    for _, column, _ in known:
        if isinstance(column.type, JSON):
            column.type.none_as_null = True
    if connection.execute(select(text("1")).select_from(table).limit(1)).first():
        connection.execute(delete(table))
    statement = insert(table)
    count = 0
    batch: list[dict[str, Value]] = []
    for line in lines:
        values = msgspec.json.decode(line, type=list[Any])
        if len(values) != len(names) or any(values[index] is not None for index in unknown):
            raise _refused(table.name, "a row does not fit the table")
        batch.append(
            {column.name: None if values[index] is None else convert(values[index]) for index, column, convert in known}
        )
        if len(batch) >= _LOAD:
            count += _insert(connection, statement, batch)
    return count + _insert(connection, statement, batch)


def _insert(connection: Connection, statement: Any, batch: list[dict[str, Value]]) -> int:
    count = len(batch)
    if batch:
        connection.execute(statement, batch)
        batch.clear()
    return count


def continue_counting(connection: Connection, table: Table) -> None:
    """On PostgreSQL: the next number that the database gives is above every one that was loaded."""
    if connection.dialect.name != "postgresql":
        return
    for column in table.primary_key.columns:
        if not isinstance(column.type, Integer):
            continue
        place = f'"{table.schema}"."{table.name}"' if table.schema else f'"{table.name}"'
        counter = connection.execute(
            text("SELECT pg_get_serial_sequence(:place, :column)"), {"place": place, "column": column.name}
        ).scalar_one()
        if counter is not None:
            highest = connection.execute(select(column).order_by(column.desc()).limit(1)).scalar_one_or_none()
            if highest is not None:
                connection.execute(text("SELECT setval(:counter, :highest)"), {"counter": counter, "highest": highest})


def _outward(column: Column[Any]) -> Callable[[Value], Value]:
    kind = column.type
    if isinstance(kind, LargeBinary):
        return lambda value: base64.b64encode(bytes(value)).decode("ascii")
    if isinstance(kind, JSON | Boolean | Integer | Float | String):  # JSON is asked for as text
        return lambda value: value
    if isinstance(kind, Numeric):
        return lambda value: str(int(value)) if value == int(value) else str(value)
    raise _refused(column.table.name, f"column {column.name} has a type that no backup can hold")


def _inward(column: Column[Any]) -> Callable[[Value], Value]:
    kind = column.type
    if isinstance(kind, LargeBinary):
        return _decoded
    if isinstance(kind, JSON):
        return _json
    if isinstance(kind, Boolean):
        return bool
    if isinstance(kind, String):
        return _text
    if isinstance(kind, Integer):
        return int
    if isinstance(kind, Numeric) and not isinstance(kind, Float):
        kind.asdecimal = False  # SQLite has no decimals; what we hold in such a column are whole numbers
        return lambda value: int(value) if str(value).lstrip("-").isdigit() else Decimal(value)
    return lambda value: value


def _decoded(value: Value) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise _refused("table", "its bytes are not base64") from None


def _json(value: Value) -> Value:
    found = msgspec.json.decode(value)
    return JSON.NULL if found is None else found


def _refused(table: str, rule: str) -> Refused:
    return Refused(file=table, rule=rule, remedy="Use another backup.")


def _text(value: Value) -> str:
    """PostgreSQL's text has no NUL, which SQLite's may have."""
    return value.replace("\0", "\ufffd") if isinstance(value, str) else str(value)
