"""A ledger with one administrator, on each database."""

from dayspring.accounts.principals import Principal
from dayspring.accounts.service import Accounts, KeyRequest
from dayspring.contracts.clock import SystemClock
from dayspring.core.ids import new_id
from dayspring.core.money import Unit
from dayspring.ledger.service import Ledger
from dayspring.ledger.values import ReserveRequest, Settlement, Status
from dayspring.store.database import Database
from dayspring.testing.clock import FakeClock


class Books:
    """The rooms under test, and the shortest way to say a request."""

    def __init__(self, db: Database, clock: FakeClock | SystemClock) -> None:
        self.db = db
        self.clock = clock
        self.accounts = Accounts(db, clock)
        self.ledger = Ledger(db, clock, "USD")
        self.admin: Principal

    async def open(self) -> None:
        made = await self.accounts.bootstrap("USD")
        assert made is not None
        self.admin = made.key.principal
        await self.ledger.start("home")

    async def customer(self, budget_nanos: int | None = None, project_id: str | None = None) -> Principal:
        request = KeyRequest(name="customer", budget_nanos=budget_nanos, project_id=project_id, sees_cost=True)
        return (await self.accounts.create_key(request)).key.principal

    async def reserve(self, who: Principal, amount_nanos: int, *, model: str = "m", task: str = "chat") -> str:
        request_id = new_id("req")
        await self.ledger.reserve(ReserveRequest(request_id, who, model, task, amount_nanos))
        return request_id

    def ended(self, request_id: str, price_nanos: int, status: Status = "completed", **facts: object) -> Settlement:
        now_ns = self.clock.time_ns()
        given = {
            "started_at_ns": now_ns, "finished_at_ns": now_ns, "engine": "echo", "device": "cpu",
            "quantities": {Unit.INPUT_TOKEN: 3, Unit.CACHED_TOKEN: 2, Unit.OUTPUT_TOKEN: 7},
        } | facts  # fmt: skip
        return Settlement(request_id=request_id, status=status, price_nanos=price_nanos, **given)  # type: ignore[arg-type]

    async def totals(self, owner_id: str) -> tuple[int, int]:
        """Spent and held."""
        budget = await self.accounts.budget(owner_id)
        return budget.spent_nanos, budget.held_nanos
