"""Which stored files anything refers to: the one question asked before a file is let go of, or put into a backup.

What holds: the database's own columns are asked, not this process's list of rooms, so that no room can be forgotten: a
column whose name ends with `sha256` refers to stored files, in whatever table, unless it is named in `NOT_STORED`.
What it does not do: look inside text or JSON. A room that keeps a stored file gives its digest such a column.
"""

from collections.abc import Collection

from sqlalchemy import Connection, String, column, inspect, select, table

from dayspring.store.parts import in_parts

__all__ = ["NOT_STORED", "blobs_by_column", "referenced_blobs", "references", "still_referenced"]

_SUFFIX = "sha256"

NOT_STORED = frozenset({("models", "sha256"), ("model_licence_acceptances", "text_sha256")})
"""Digests of something else: of a model's list of files, of a licence's text."""


def references(connection: Connection) -> list[tuple[str, str]]:
    """Every (table, column) of this database that refers to stored files."""
    found = inspect(connection)
    return sorted(
        (name, each["name"])
        for name in found.get_table_names()
        for each in found.get_columns(name)
        if each["name"].endswith(_SUFFIX) and (name, each["name"]) not in NOT_STORED
    )


def blobs_by_column(connection: Connection) -> dict[tuple[str, str], set[str]]:
    """The digests in each of those columns."""
    found: dict[tuple[str, str], set[str]] = {}
    for name, reference in references(connection):
        query = select(column(reference, String)).select_from(table(name)).distinct()
        found[name, reference] = {str(digest) for digest in connection.execute(query).scalars() if digest}
    return found


def referenced_blobs(connection: Connection) -> set[str]:
    """The digest of every stored file that a row refers to."""
    return set().union(*blobs_by_column(connection).values())


def still_referenced(connection: Connection, digests: Collection[str]) -> set[str]:
    """Those of the digests that a row refers to. As quick with a million files as with one."""
    asked, found = sorted(digests), set[str]()
    for name, reference in references(connection):
        place = column(reference, String)
        for part in in_parts(asked):
            query = select(place).select_from(table(name)).where(place.in_(part))
            found.update(str(digest) for digest in connection.execute(query).scalars())
    return found
