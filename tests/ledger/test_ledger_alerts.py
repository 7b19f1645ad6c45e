"""Spend alerts: raised once in each period, by the charge that reaches them, with the webhook in one transaction."""

import asyncio

import msgspec
import pytest
from ledger_books import Books
from sqlalchemy import select

from dayspring.accounts.budgets import ORGANIZATION, PROJECT
from dayspring.accounts.limiting import BudgetChange, Limiting
from dayspring.accounts.owners import Ref
from dayspring.accounts.periods import Period
from dayspring.accounts.principals import Principal, Scope
from dayspring.accounts.service import KeyRequest
from dayspring.accounts.webhooks.service import EndpointRequest, Webhooks
from dayspring.accounts.webhooks.tables import webhook_deliveries
from dayspring.core.errors import Conflict, Defect, InvalidRequest, NotFound, PermissionDenied
from dayspring.core.ids import new_id
from dayspring.ledger.service import Ledger
from dayspring.ledger.spending.service import AlertRequest, Alerts, RaisedQuery
from dayspring.ledger.values import ReserveRequest
from dayspring.store.database import Database
from dayspring.testing.clock import FakeClock

EVENTS = ("spend_alert.raised",)


class Desk:
    def __init__(self, books: Books) -> None:
        self.books = books
        self.alerts = Alerts(books.db, books.clock)
        self.limiting = Limiting(books.db, books.clock, books.accounts.authentication.forget)
        self.webhooks = Webhooks(books.db, books.clock)

    async def budget(self, owner_id: str, **change: object) -> None:
        await self.limiting.set_budget(None, Ref(owner_id), BudgetChange(**change))  # type: ignore[arg-type]

    async def alert(self, owner_id: str, **request: object) -> str:
        made = await self.alerts.create(None, Ref(owner_id), AlertRequest(**request))  # type: ignore[arg-type]
        return made.alert.id

    async def spend(self, who: Principal, amount: int) -> None:
        await self.books.ledger.settle(self.books.ended(await self.books.reserve(who, amount), amount))

    async def raised(self, owner_id: str | None = None) -> list[tuple[str, int, int]]:
        """Owner, amount of the alert and what was spent, in the order of that."""
        found = await self.alerts.raised(None, RaisedQuery(owner_id=owner_id, limit=100, newest_first=False))
        rows = [(raised.owner_id, raised.threshold_nanos, raised.spent_nanos) for raised in found]
        return sorted(rows, key=lambda row: (row[2], row[1]))


@pytest.fixture
def desk(books: Books) -> Desk:
    return Desk(books)


async def test_each_threshold_is_raised_once_by_the_charge_that_reaches_it(desk: Desk, books: Books) -> None:
    who = await books.customer(100)
    for percent in (50, 80, 100):
        await desk.alert(who.key_id, threshold_percent=percent)
    await desk.alert(who.key_id, threshold_nanos=30)
    await desk.spend(who, 29)
    assert await desk.raised() == []
    await desk.spend(who, 1)
    assert await desk.raised() == [(who.key_id, 30, 30)]
    await desk.spend(who, 60)
    assert await desk.raised() == [(who.key_id, 30, 30), (who.key_id, 50, 90), (who.key_id, 80, 90)]
    await desk.spend(who, 9)
    assert len(await desk.raised()) == 3
    await desk.spend(who, 1)
    assert (await desk.raised())[3:] == [(who.key_id, 100, 100)]


async def test_a_soft_limit_alerts_and_refuses_nothing(desk: Desk, books: Books) -> None:
    who = await books.customer()
    await desk.budget(who.key_id, soft_limit_nanos=10)
    await desk.spend(who, 9)
    await desk.spend(who, 5)
    await desk.spend(who, 500)
    assert await desk.raised() == [(who.key_id, 10, 14)]


async def test_every_level_has_its_own(desk: Desk, books: Books) -> None:
    one, other = await books.customer(), await books.customer()
    for owner in (one.key_id, one.project_id, one.organization_id):
        await desk.alert(owner, threshold_nanos=10)
    await desk.spend(one, 6)
    await desk.spend(other, 4)
    assert {owner for owner, *_ in await desk.raised()} == {one.project_id, one.organization_id}
    await desk.spend(one, 4)
    assert {owner for owner, *_ in await desk.raised()} == {one.key_id, one.project_id, one.organization_id}
    assert len(await desk.raised()) == 3


async def test_a_new_period_raises_them_again(desk: Desk, books: Books, fake_clock: FakeClock) -> None:
    who = await books.customer(100)
    await desk.budget(who.key_id, period=Period.DAY)
    await desk.alert(who.key_id, threshold_percent=50, period=Period.DAY)
    for _ in range(3):
        await desk.spend(who, 60)
        await desk.spend(who, 20)
        fake_clock.advance(86_400)
    assert await desk.raised() == [(who.key_id, 50, 60)] * 3


async def test_a_limit_that_moves_moves_the_share_and_it_is_raised_again(desk: Desk, books: Books) -> None:
    who = await books.customer(100)
    await desk.alert(who.key_id, threshold_percent=50)
    await desk.spend(who, 50)
    await desk.budget(who.key_id, limit_nanos=200)
    await desk.spend(who, 40)
    assert await desk.raised() == [(who.key_id, 50, 50)]
    await desk.spend(who, 10)
    assert await desk.raised() == [(who.key_id, 50, 50), (who.key_id, 100, 100)]


async def test_an_alert_below_what_is_spent_is_raised_with_the_next_charge(desk: Desk, books: Books) -> None:
    who = await books.customer()
    await desk.spend(who, 50)
    await desk.alert(who.key_id, threshold_nanos=10)
    assert await desk.raised() == []
    await desk.spend(who, 1)
    assert await desk.raised() == [(who.key_id, 10, 51)]


async def test_an_alert_that_was_changed_or_removed_is_not_raised_as_it_was(desk: Desk, books: Books) -> None:
    who = await books.customer()
    changed, removed = [await desk.alert(who.key_id, threshold_nanos=10) for _ in range(2)]
    await desk.alerts.change(None, Ref(who.key_id), changed, AlertRequest(threshold_nanos=20))
    await desk.alerts.delete(None, Ref(who.key_id), removed)
    await desk.spend(who, 15)
    assert await desk.raised() == []
    await desk.spend(who, 5)
    assert await desk.raised() == [(who.key_id, 20, 20)]
    with pytest.raises(NotFound):
        await desk.alerts.delete(None, Ref(who.key_id), removed)


@pytest.mark.timeout(120)
async def test_three_hundred_charges_at_once_raise_each_alert_exactly_once(desk: Desk, books: Books) -> None:
    one, other = await books.customer(), await books.customer()
    for owner in (one.key_id, one.project_id, one.organization_id):
        for amount in (50, 100, 150, 1000):
            await desk.alert(owner, threshold_nanos=amount)
    await desk.webhooks.create(
        books.admin, EndpointRequest(name="all", url="https://example.org/", event_types=EVENTS, project_id="")
    )
    requests = [await books.reserve(who, 1) for who in (one, other) for _ in range(150)]
    told: list[str] = []
    books.ledger.raised = lambda raised: told.append(raised.id)
    await asyncio.gather(*(books.ledger.settle(books.ended(request, 1)) for request in requests))
    found = await desk.raised()
    expected = [(one.key_id, amount, amount) for amount in (50, 100, 150)]
    for owner in (one.project_id, one.organization_id):
        expected += [(owner, amount, amount) for amount in (50, 100, 150)]
    assert sorted(found) == sorted(expected)
    assert len(told) == len(set(told)) == 9
    assert len(await _outbox(books)) == 9


async def _outbox(books: Books) -> list[dict[str, object]]:
    query = select(webhook_deliveries.c.body).order_by(webhook_deliveries.c.id)
    bodies = await books.db.read(lambda connection: connection.execute(query).scalars().all())
    return [msgspec.json.decode(body) for body in bodies]


async def test_a_charge_that_fails_raises_nothing_and_sends_nothing(
    desk: Desk, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = await books.customer()
    await desk.alert(who.key_id, threshold_nanos=1)
    await desk.webhooks.create(books.admin, EndpointRequest(name="e", url="https://example.org/", event_types=EVENTS))
    request = await books.reserve(who, 5)

    def broken(*_: object, **__: object) -> bool:
        return False

    with monkeypatch.context() as patch:
        patch.setattr("dayspring.ledger.service.post", broken)
        with pytest.raises(Defect):
            await books.ledger.settle(books.ended(request, 5))
    assert await desk.raised() == []
    assert await _outbox(books) == []
    await books.ledger.settle(books.ended(request, 5))
    assert len(await desk.raised()) == len(await _outbox(books)) == 1


async def test_the_webhook_goes_to_the_project_and_to_the_organization_and_to_no_other_project(
    desk: Desk, books: Books
) -> None:
    other_project = await books.accounts.create_project("other")
    stranger = (await books.accounts.create_key(KeyRequest(name="s", project_id=other_project.id))).key.principal
    for project_id in ("", books.admin.project_id, stranger.project_id):
        await desk.webhooks.create(
            books.admin,
            EndpointRequest(name="e", url="https://example.org/", event_types=EVENTS, project_id=project_id),
        )
    who = await books.customer()
    await desk.alert(who.key_id, threshold_nanos=1)
    await desk.spend(who, 1)
    events = await _outbox(books)
    assert len(events) == 2
    assert {event["type"] for event in events} == {"spend_alert.raised"}
    await desk.alert(who.organization_id, threshold_nanos=2)
    await desk.spend(who, 1)
    assert len(await _outbox(books)) == 3, "the organization's own goes to its own endpoint alone"


async def test_alerts_have_the_budgets_period(desk: Desk, books: Books) -> None:
    free, limited = await books.customer(), await books.customer(100)
    await desk.alert(free.key_id, threshold_nanos=1, period=Period.MONTH)
    assert (await books.accounts.budget(free.key_id)).period is Period.MONTH
    with pytest.raises(Conflict):
        await desk.alert(free.key_id, threshold_nanos=1, period=Period.DAY)
    with pytest.raises(Conflict):
        await desk.alert(limited.key_id, threshold_nanos=1, period=Period.MONTH)


@pytest.mark.parametrize(
    "request_", [{}, {"threshold_nanos": 1, "threshold_percent": 1}, {"threshold_nanos": 0}, {"threshold_percent": 101},
                 {"threshold_percent": 0}, {"threshold_nanos": 2**63}],
)  # fmt: skip
async def test_an_alert_without_sense_is_refused(desk: Desk, books: Books, request_: dict[str, int]) -> None:
    with pytest.raises(InvalidRequest):
        await desk.alert(books.admin.key_id, **request_)


async def test_no_more_than_twenty_alerts_hang_on_one_budget(desk: Desk, books: Books) -> None:
    for amount in range(20):
        await desk.alert(books.admin.key_id, threshold_nanos=1 + amount)
    with pytest.raises(Conflict):
        await desk.alert(books.admin.key_id, threshold_nanos=50)


def _with(principal: Principal, *scopes: str, **changed: str) -> Principal:
    return msgspec.structs.replace(principal, scopes=frozenset(scopes), **changed)


async def test_nobody_lifts_what_was_set_above_them_or_sees_what_is_anothers(desk: Desk, books: Books) -> None:
    who = await books.customer(100)
    other = await books.accounts.create_project("other")
    alert_id = await desk.alert(who.key_id, threshold_nanos=1)
    change = BudgetChange(limit_nanos=None)
    plain, of_project = _with(who, Scope.INFERENCE, Scope.USAGE), _with(who, Scope.PROJECT)
    manager, stranger = _with(who, Scope.MANAGE), _with(who, Scope.MANAGE, organization_id="org_other")
    for owner in (who.key_id, who.project_id, who.organization_id, "key_none"):
        with pytest.raises(PermissionDenied):
            await desk.limiting.set_budget(plain, Ref(owner), change)
        with pytest.raises(PermissionDenied):
            await desk.alerts.list(plain, Ref(owner))
        for verb in (desk.limiting.get(stranger, Ref(owner)), desk.alerts.get(stranger, Ref(owner), alert_id)):
            with pytest.raises(NotFound):
                await verb
    with pytest.raises(NotFound):
        await desk.limiting.get(of_project, Ref(other.id))
    with pytest.raises(PermissionDenied):
        await desk.limiting.set_budget(of_project, Ref(who.project_id), change)
    with pytest.raises(PermissionDenied):
        await desk.limiting.set_budget(manager, Ref(), change)
    with pytest.raises(PermissionDenied):  # the key in hand
        await desk.limiting.set_budget(of_project, Ref(who.key_id), change)
    await desk.limiting.set_budget(msgspec.structs.replace(of_project, key_id="key_x"), Ref(who.key_id), change)
    await desk.limiting.set_budget(manager, Ref(other.id, PROJECT), change)
    assert (await desk.limiting.get(manager, Ref(level=ORGANIZATION))).owner.id == who.organization_id
    with pytest.raises(NotFound):
        await desk.limiting.get(manager, Ref(who.key_id, PROJECT))
    with pytest.raises(NotFound):
        await desk.limiting.get(manager, Ref(who.key_id, project_id=other.id))
    assert await desk.alerts.raised(stranger, RaisedQuery()) == []
    with pytest.raises(PermissionDenied):
        await desk.alerts.raised(plain, RaisedQuery())


@pytest.mark.timeout(120)
async def test_two_servers_that_charge_at_once_over_midnight_raise_each_alert_once_a_day(
    desk: Desk, books: Books, database_url: str, fake_clock: FakeClock
) -> None:
    """Each with a connection of its own; on PostgreSQL they wait for each other's rows, and never in a circle."""
    other_db = Database.open(database_url)
    second = Ledger(other_db, fake_clock, "USD")
    await second.start("another home")
    one, two = await books.customer(), await books.customer()
    for owner in (one.key_id, two.key_id, one.project_id, one.organization_id):
        await desk.budget(owner, limit_nanos=1000, period=Period.DAY)
        for percent in (2, 5):
            await desk.alert(owner, threshold_percent=percent, period=Period.DAY)

    async def pay(ledger: Ledger, who: Principal) -> None:
        request = new_id("req")
        await ledger.reserve(ReserveRequest(request, who, "m", "chat", 1))
        await ledger.settle(books.ended(request, 1))

    for _ in range(2):
        jobs = [pay(ledger, who) for ledger in (books.ledger, second) for who in (one, two) for _ in range(30)]
        await asyncio.gather(*jobs)
        fake_clock.advance(86_400)
    found = await desk.raised()
    assert len(found) == 4 * 2 * 2
    assert {amount for _, amount, _ in found} == {20, 50}
    assert all(spent == amount for _, amount, spent in found)
    assert await books.ledger.verify() == []
    await second.stop()
    other_db.close()
