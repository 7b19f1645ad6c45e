"""The immutable double-entry journal.

    customer:<project>/<key>             what customers were charged (+)
    revenue:<model>                      its other side, gross of what could not be charged (-)
    compute-cost:<device>/<model>        measured device time of requests (+)
    idle-cost:<device>/<model>           measured idle device time (+)
    device:<device>                      contra of both (-)
    upstream-cost:<target>/<model>       what other services take (+)
    upstream:<target>                    its contra (-)
    upstream-excess                      priced beyond a reservation and not charged: the operator's loss (+)

What holds: the postings of a journal sum to zero; a journal and its postings are inserted together, once for each
request and kind, and triggers of both databases refuse to change or delete them. Balances are sums of postings.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    String,
    Table,
    UniqueConstraint,
    bindparam,
    func,
    select,
    text,
)
from sqlalchemy.sql.dml import Insert

from dayspring.core.errors import Defect
from dayspring.store.schema import metadata
from dayspring.store.statements import Statement, insert_new

__all__ = ["AccountIds", "balances", "journals", "ledger_accounts", "post", "postings"]

_BIG = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows by itself only for a column declared INTEGER; it is 64 bits wide there too."""

ledger_accounts = Table(
    "ledger_accounts",
    metadata,
    Column("id", _BIG, primary_key=True),
    Column("name", String(400), nullable=False, unique=True),
    Column("kind", String(32), nullable=False),
    # The name's first part.
    Column("owner_id", String(64)),
    # The key whose charges a customer account holds.
)

journals = Table(
    "journals",
    metadata,
    Column("id", _BIG, primary_key=True),
    Column("request_id", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("created_at_ns", BigInteger, nullable=False),
    Column("memo", String(200), nullable=False),
    UniqueConstraint("request_id", "kind"),
    Index(
        "ix_journals_idle", "created_at_ns", sqlite_where=text("kind = 'idle'"), postgresql_where=text("kind = 'idle'")
    ),
)

postings = Table(
    "postings",
    metadata,
    Column("journal_id", ForeignKey("journals.id"), primary_key=True),
    Column("line", SmallInteger, primary_key=True, autoincrement=False),
    Column("account_id", ForeignKey("ledger_accounts.id"), nullable=False),
    Column("amount_nanos", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

_insert_journal = Statement(
    insert_new(journals).returning(journals.c.id), "request_id", "kind", "created_at_ns", "memo"
)
_find_account = Statement(select(ledger_accounts.c.id).where(ledger_accounts.c.name == bindparam("name")), "name")
_insert_account = Statement(insert_new(ledger_accounts).returning(ledger_accounts.c.id), "name", "kind", "owner_id")
_COLUMNS = ("journal_id", "line", "account_id", "amount_nanos")
_insert_postings: dict[int, Statement] = {}
"""By the number of lines; bounded by the kinds of journals there are."""

_MAX_KNOWN = 50_000


class AccountIds:
    """Ids of accounts by name, remembered once the transaction that found them is committed."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def find(self, connection: Connection, name: str, learned: dict[str, int]) -> int:
        """The account's id, made when missing. What is new goes to `learned`, for `remember` after the commit."""
        known = self._known.get(name) or learned.get(name)
        if known is not None:
            return known
        row = _find_account.one(connection, name)
        if row is None:
            kind, _, rest = name.partition(":")
            owner = rest.rpartition("/")[2] if kind == "customer" else None
            # Another server may insert it between the two statements; then its row is there once this one returns.
            row = _insert_account.one(connection, name, kind, owner) or _find_account.one(connection, name)
        if row is None:
            raise Defect
        learned[name] = int(row[0])
        return int(row[0])

    def remember(self, learned: Mapping[str, int]) -> None:
        if len(self._known) > _MAX_KNOWN:
            self._known.clear()
        self._known.update(learned)


def post(
    connection: Connection,
    accounts: AccountIds,
    learned: dict[str, int],
    *,
    request_id: str,
    kind: str,
    now_ns: int,
    memo: str,
    entries: Sequence[tuple[str, int]],
) -> bool:
    """Inserts one journal; False where the request has one of this kind already, and nothing is changed.

    `entries` are account names and signed nano-units that sum to zero, else Defect.
    """
    if sum(amount for _, amount in entries) != 0:
        raise Defect(request_id)
    row = _insert_journal.one(connection, request_id, kind, now_ns, memo)
    if row is None:
        return False
    values: list[int] = []
    for line, (name, amount) in enumerate(entries):
        values += (row[0], line, accounts.find(connection, name, learned), amount)
    _postings_statement(len(entries)).run(connection, *values)
    return True


def _postings_statement(lines: int) -> Statement:
    found = _insert_postings.get(lines)
    if found is None:
        rows: list[dict[str, BindParameter[Any]]] = [
            {name: bindparam(f"{name}_{line}") for name in _COLUMNS} for line in range(lines)
        ]
        names = [f"{name}_{line}" for line in range(lines) for name in _COLUMNS]
        clause: Insert = postings.insert().values(rows)
        found = _insert_postings[lines] = Statement(clause, *names)
    return found


def balances(connection: Connection) -> dict[str, int]:
    """Every account's balance in nano-units, summed from its postings."""
    query = (
        select(ledger_accounts.c.name, func.sum(postings.c.amount_nanos))
        .join(postings, postings.c.account_id == ledger_accounts.c.id)
        .group_by(ledger_accounts.c.name)
    )
    return {name: int(amount) for name, amount in connection.execute(query)}
