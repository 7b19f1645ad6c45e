"""Everything that can be recomputed, recomputed: used by tests and by `dayspring doctor`.

Sums are made by the database from postings and reservations alone, then held against each projection. It reads every
posting: seconds for millions, in a reader's snapshot, so it disturbs nobody.
"""

from collections.abc import Iterator

from sqlalchemy import Connection, Select, case, exists, func, select

from dayspring.accounts.budgets import budgets
from dayspring.ledger.journal import journals, ledger_accounts, postings
from dayspring.ledger.requests import requests
from dayspring.ledger.reservations import reservations
from dayspring.ledger.values import Difference

__all__ = ["find_differences"]


def find_differences(connection: Connection) -> list[Difference]:
    """Every place where the books do not agree with themselves; empty for sound books."""
    checks = (_unbalanced, _wrong_totals, _wrong_periods, _wrong_requests, _ended_twice)
    return [difference for check in checks for difference in check(connection)]


def _unbalanced(connection: Connection) -> Iterator[Difference]:
    amount = func.coalesce(func.sum(postings.c.amount_nanos), 0)
    query = (
        select(journals.c.id, amount, func.count(postings.c.line))
        .outerjoin(postings, postings.c.journal_id == journals.c.id)
        .group_by(journals.c.id)
        .having((amount != 0) | (func.count(postings.c.line) == 0))
    )
    for journal_id, found, lines in connection.execute(query):
        what = "journal's sum" if lines else "journal without postings"
        yield Difference(what, str(journal_id), 0, int(found))


def _wrong_totals(connection: Connection) -> Iterator[Difference]:
    spent: dict[str, int] = {}
    held: dict[str, int] = {}
    charges: Select[str, str, str, int] = (
        select(requests.c.organization_id, requests.c.project_id, requests.c.key_id, func.sum(postings.c.amount_nanos))
        .join(journals, (journals.c.request_id == requests.c.request_id) & (journals.c.kind == "request"))
        .join(postings, postings.c.journal_id == journals.c.id)
        .join(ledger_accounts, ledger_accounts.c.id == postings.c.account_id)
        .where(ledger_accounts.c.kind == "customer")
        .group_by(requests.c.organization_id, requests.c.project_id, requests.c.key_id)
    )
    holds: Select[str, str, str, int] = select(
        reservations.c.organization_id,
        reservations.c.project_id,
        reservations.c.key_id,
        func.sum(reservations.c.amount_nanos),
    ).group_by(reservations.c.organization_id, reservations.c.project_id, reservations.c.key_id)
    for query, sums in ((charges, spent), (holds, held)):
        for organization, project, key, amount in connection.execute(query):
            for owner in (organization, project, key):
                sums[owner] = sums.get(owner, 0) + int(amount)
    totals = {row.owner_id: row for row in connection.execute(select(budgets))}
    for owner in totals.keys() | spent.keys() | held.keys():
        total = totals.get(owner)
        for what, sums, found in (
            ("spent", spent, total.spent_nanos if total else 0),
            ("held", held, total.held_nanos if total else 0),
        ):
            if sums.get(owner, 0) != found:
                yield Difference(what, owner, sums.get(owner, 0), found)


def _wrong_periods(connection: Connection) -> Iterator[Difference]:
    """What was spent before each budget's period, from the customers' postings before its begin."""
    for level, column in enumerate((requests.c.organization_id, requests.c.project_id, requests.c.key_id)):
        charged = (
            select(column.label("owner_id"), journals.c.created_at_ns, postings.c.amount_nanos)
            .join(journals, (journals.c.request_id == requests.c.request_id) & (journals.c.kind == "request"))
            .join(postings, postings.c.journal_id == journals.c.id)
            .join(ledger_accounts, ledger_accounts.c.id == postings.c.account_id)
            .where(ledger_accounts.c.kind == "customer")
            .subquery()
        )
        query = (
            select(budgets.c.owner_id, func.coalesce(func.sum(charged.c.amount_nanos), 0), budgets.c.base_nanos)
            .outerjoin(
                charged,
                (charged.c.owner_id == budgets.c.owner_id) & (charged.c.created_at_ns < budgets.c.period_start_ns),
            )
            .where(budgets.c.level == level)
            .group_by(budgets.c.owner_id, budgets.c.base_nanos)
        )
        for owner_id, expected, found in connection.execute(query):
            if int(expected) != found:
                yield Difference("spent before the period", owner_id, int(expected), found)


def _wrong_requests(connection: Connection) -> Iterator[Difference]:
    """Usage rows against the postings of their journal, account kind by account kind."""
    columns = {
        "customer": requests.c.price_nanos,
        "compute-cost": requests.c.compute_cost_nanos,
        "upstream-cost": requests.c.upstream_cost_nanos,
        "upstream-excess": requests.c.excess_nanos,
    }
    sums = [
        func.coalesce(func.sum(case((ledger_accounts.c.kind == kind, postings.c.amount_nanos), else_=0)), 0)
        for kind in columns
    ]
    posted = (
        select(journals.c.request_id, *(total.label(f"sum_{index}") for index, total in enumerate(sums)))
        .outerjoin(postings, postings.c.journal_id == journals.c.id)
        .outerjoin(ledger_accounts, ledger_accounts.c.id == postings.c.account_id)
        .where(journals.c.kind == "request")
        .group_by(journals.c.request_id)
        .subquery()
    )
    for index, (kind, column) in enumerate(columns.items()):
        expected = func.coalesce(posted.c[f"sum_{index}"], 0)
        query = (
            select(requests.c.request_id, expected, column)
            .outerjoin(posted, posted.c.request_id == requests.c.request_id)
            .where(expected != column)
        )
        for request_id, amount, found in connection.execute(query):
            yield Difference(f"request's {kind}", request_id, int(amount), int(found))
    orphans = select(journals.c.request_id).where(
        journals.c.kind == "request", ~exists().where(requests.c.request_id == journals.c.request_id)
    )
    for request_id in connection.execute(orphans).scalars():
        yield Difference("journal without a usage row", request_id, 1, 0)


def _ended_twice(connection: Connection) -> Iterator[Difference]:
    query = select(reservations.c.request_id, reservations.c.amount_nanos).where(
        exists().where(requests.c.request_id == reservations.c.request_id)
    )
    for request_id, amount in connection.execute(query):
        yield Difference("held after it ended", request_id, 0, amount)
