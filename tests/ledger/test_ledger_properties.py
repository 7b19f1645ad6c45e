"""No interleaving of reserve, settle, release and crash overdraws a budget or unbalances the books."""

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from ledger_books import Books

from dayspring.core.errors import Defect, InsufficientQuota, ReservationLost
from dayspring.core.ids import new_id
from dayspring.ledger.journal import AccountIds, post
from dayspring.ledger.service import Ledger
from dayspring.store.database import Database
from dayspring.testing.clock import FakeClock

LIMIT = 100

_amounts = st.integers(0, 60)


class Machine(RuleBasedStateMachine):
    """Two customers of one project; the model is two dictionaries."""

    def __init__(self, template: Path) -> None:
        super().__init__()
        self._folder = tempfile.mkdtemp()
        path = Path(self._folder) / "test.db"
        shutil.copyfile(template, path)
        self._loop = asyncio.new_event_loop()
        self._books = Books(Database.open(f"sqlite:///{path}"), FakeClock())
        self._run(self._books.open())
        self._customers = [self._run(self._books.customer(LIMIT)) for _ in range(2)]
        self._run(self._books.accounts.set_budget(self._customers[0].project_id, LIMIT * 3 // 2))
        self._held: dict[str, tuple[int, int]] = {}
        """Request: customer and amount."""
        self._spent = [0, 0]

    def _run(self, awaited: Awaitable[object]) -> object:  # type: ignore[misc]
        return self._loop.run_until_complete(awaited)  # type: ignore[arg-type]

    def teardown(self) -> None:
        self._books.db.close()
        self._loop.close()
        shutil.rmtree(self._folder)

    def _left(self, customer: int) -> int:
        of = [sum(amount for who, amount in self._held.values() if who == one) + self._spent[one] for one in (0, 1)]
        return min(LIMIT - of[customer], LIMIT * 3 // 2 - sum(of))

    @rule(customer=st.integers(0, 1), amount=_amounts)
    def reserve(self, customer: int, amount: int) -> None:
        left = self._left(customer)
        reserve = self._books.reserve(self._customers[customer], amount)
        if amount <= left:
            self._held[str(self._run(reserve))] = (customer, amount)
            return
        with pytest.raises(InsufficientQuota) as caught:
            self._run(reserve)
        assert caught.value.left_nanos == left

    @rule(customer=st.integers(0, 1), amounts=st.lists(_amounts, min_size=2, max_size=8), cut=st.integers(0, 8))
    def reserve_many_and_leave_some(self, customer: int, amounts: list[int], cut: int) -> None:
        """Concurrently; the callers from `cut` on are cancelled while they wait."""

        async def many() -> list[object]:
            tasks = [asyncio.create_task(self._books.reserve(self._customers[customer], amount)) for amount in amounts]
            await asyncio.sleep(0)
            for task in tasks[cut:]:
                task.cancel()
            return await asyncio.gather(*tasks, return_exceptions=True)

        for amount, found in zip(amounts, self._run(many()), strict=True):  # type: ignore[call-overload]
            if isinstance(found, str):
                self._held[found] = (customer, amount)
        assert self._left(customer) >= 0

    @precondition(lambda self: self._held)
    @rule(data=st.data(), price=_amounts, cost=st.integers(0, 9), upstream=st.booleans())
    def settle_and_release_at_once(self, data: st.DataObject, price: int, cost: int, upstream: bool) -> None:
        request = data.draw(st.sampled_from(sorted(self._held)))
        customer, amount = self._held.pop(request)
        facts = {"upstream": "u", "upstream_cost_nanos": cost} if upstream else {"compute_cost_nanos": cost}
        ended = self._books.ended(request, price, **facts)
        release_first = data.draw(st.booleans())

        async def both() -> list[object]:
            verbs = [self._books.ledger.settle(ended), self._books.ledger.release(request)]
            return await asyncio.gather(*(verbs[::-1] if release_first else verbs), return_exceptions=True)

        outcomes = self._run(both())
        settled = [one for one in outcomes if not isinstance(one, (bool, ReservationLost))]  # type: ignore[attr-defined]
        if settled:
            assert settled[0].price_nanos == min(price, amount)
            assert self._run(self._books.ledger.settle(ended)) == settled[0]
            self._spent[customer] += min(price, amount)

    @rule()
    def crash(self) -> None:
        """A later server of the same home recovers what the earlier one held."""
        self._books.ledger = Ledger(self._books.db, self._books.clock, "USD")
        assert self._run(self._books.ledger.start("home")) == len(self._held)
        self._held = {}

    @invariant()
    def the_books_agree(self) -> None:
        if not hasattr(self, "_books"):
            return
        assert self._run(self._books.ledger.verify()) == []
        for one, customer in enumerate(self._customers):
            held = sum(amount for who, amount in self._held.values() if who == one)
            assert self._run(self._books.totals(customer.key_id)) == (self._spent[one], held)
            assert self._spent[one] + held <= LIMIT
        balances = self._run(self._books.ledger.balances())
        assert sum(balances.values()) == 0  # type: ignore[attr-defined]


def test_no_interleaving_overdraws_or_unbalances(migrated_sqlite: Path) -> None:
    run_state_machine_as_test(
        lambda: Machine(migrated_sqlite),
        settings=settings(
            max_examples=20, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


@pytest.fixture
def journal(migrated_sqlite: Path, tmp_path: Path) -> Iterator[Database]:
    shutil.copyfile(migrated_sqlite, tmp_path / "test.db")
    db = Database.open(f"sqlite:///{tmp_path / 'test.db'}")
    yield db
    db.close()


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=8))
def test_a_journal_that_does_not_balance_is_never_written(journal: Database, amounts: list[int]) -> None:
    accounts, learned, name = AccountIds(), {}, new_id("test")
    entries = [(f"a:{line}", amount) for line, amount in enumerate(amounts)]

    def write(connection) -> bool:  # type: ignore[no-untyped-def] # noqa: ANN001
        return post(connection, accounts, learned, request_id=name, kind="x", now_ns=0, memo="", entries=entries)

    if sum(amounts):
        with pytest.raises(Defect):
            journal.write_sync(write)
    entries.append(("b:", -sum(amounts)))
    assert journal.write_sync(write)
    assert not journal.write_sync(write)
