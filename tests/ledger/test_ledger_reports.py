"""Usage, costs, margins and single requests: the shapes, the sums, and who sees what."""

import csv
import io

import msgspec
import pytest
from ledger_books import Books

from dayspring.accounts.principals import Principal, Scope
from dayspring.core.errors import Malformed, NotFound, PermissionDenied
from dayspring.core.money import Rate, Unit
from dayspring.ledger.report_values import ReportQuery, RequestQuery
from dayspring.ledger.reports import Reports, to_csv
from dayspring.testing.clock import FakeClock

DAY = 86400
START = 1_700_000_000 // DAY * DAY


@pytest.fixture
def reports(books: Books, fake_clock: FakeClock) -> Reports:
    return Reports(books.db, fake_clock, "USD")


@pytest.fixture
async def customers(books: Books, fake_clock: FakeClock) -> tuple[Principal, Principal]:
    """Two in two projects, with requests on two days."""
    other = await books.accounts.create_project("other")
    one, two = await books.customer(), await books.customer(project_id=other.id)
    for who, model, task, price, cost in (
        (one, "big", "chat", 100, 30), (one, "small", "completion", 10, 3), (two, "big", "chat", 7, 1),
        (two, "vectors", "embedding", 5, 1),
    ):  # fmt: skip
        request = await books.reserve(who, 1000, model=model, task=task)
        await books.ledger.settle(books.ended(request, price, compute_cost_nanos=cost, busy_ns=50))
    fake_clock.advance(DAY)
    request = await books.reserve(one, 50, model="big")
    await books.ledger.settle(
        books.ended(request, 80, "cancelled", upstream="u.example", upstream_cost_nanos=20, device="")
    )
    request = await books.reserve(one, 1000, model="big")
    await books.ledger.release(request, books.ended(request, 9, "failed", compute_cost_nanos=4))
    await books.ledger.book_idle(device="cpu", model="big", idle_ns=11, rate=Rate(1), booking_id="idle_1")
    return one, two


async def test_usage_has_openais_shape(books: Books, reports: Reports, customers: tuple[Principal, ...]) -> None:
    page = await reports.completions(books.admin, ReportQuery(start_time=START))
    assert msgspec.to_builtins(page) == {
        "object": "page", "has_more": False, "next_page": None,
        "data": [
            {"object": "bucket", "start_time": START + n * DAY, "end_time": START + (n + 1) * DAY, "results": [{
                "object": "organization.usage.completions.result", "input_tokens": 5 * count,
                "output_tokens": 7 * count, "input_cached_tokens": 2 * count,
                "input_audio_tokens": 0, "output_audio_tokens": 0, "num_model_requests": count, "project_id": None,
                "user_id": None, "api_key_id": None, "model": None, "batch": None, "service_tier": None,
            }]}
            for n, count in enumerate([3, 1])
        ],
    }  # fmt: skip


async def test_embeddings_are_counted_apart(books: Books, reports: Reports, customers: tuple[Principal, ...]) -> None:
    page = await reports.embeddings(books.admin, ReportQuery(start_time=START, group_by=("model",)))
    (result,) = page.data[0].results
    assert (result.model, result.input_tokens, result.num_model_requests) == ("vectors", 5, 1)
    assert page.data[1].results == []


async def test_groups_and_filters_are_applied(books: Books, reports: Reports, customers: tuple[Principal, ...]) -> None:
    one, two = customers
    query = ReportQuery(start_time=START, end_time=START + DAY, group_by=("project_id", "model"))
    (bucket,) = (await reports.completions(books.admin, query)).data
    counts = {(result.project_id, result.model): result.num_model_requests for result in bucket.results}
    assert counts == {(one.project_id, "big"): 1, (one.project_id, "small"): 1, (two.project_id, "big"): 1}
    only = msgspec.structs.replace(query, api_key_ids=(one.key_id,), models=("big",), group_by=("api_key_id",))
    (bucket,) = (await reports.completions(books.admin, only)).data
    assert [(result.api_key_id, result.num_model_requests) for result in bucket.results] == [(one.key_id, 1)]


async def test_costs_are_what_was_charged(books: Books, reports: Reports, customers: tuple[Principal, ...]) -> None:
    page = await reports.costs(books.admin, ReportQuery(start_time=START, group_by=("line_item",)))
    found = [{r.line_item: r.amount_nanos for r in bucket.results} for bucket in page.data]
    assert found == [{"big": 107, "small": 10, "vectors": 5}, {"big": 50}]
    assert msgspec.to_builtins(page.data[1].results[0]) == {
        "object": "organization.costs.result", "amount": {"value": 5e-08, "currency": "usd"}, "amount_nanos": 50,
        "line_item": "big", "project_id": None, "api_key_id": None, "organization_id": None,
    }  # fmt: skip
    total = sum(sum(day.values()) for day in found)
    balances = await books.ledger.balances()
    assert total == sum(amount for name, amount in balances.items() if name.startswith("customer:"))


async def test_margins_agree_with_the_ledger_and_show_idle_time_apart(
    books: Books, reports: Reports, customers: tuple[Principal, ...]
) -> None:
    page = await reports.margins(books.admin, ReportQuery(start_time=START))
    first, (requests, idle) = page.data[0].results, page.data[1].results
    assert [line.margin_nanos for line in first] == [122 - 35]
    assert (requests.price_nanos, requests.charged_nanos, requests.excess_nanos) == (80, 50, 30)
    assert (requests.compute_cost_nanos, requests.upstream_cost_nanos, requests.margin_nanos) == (4, 20, 80 - 30 - 24)
    assert requests.num_model_requests == 2
    assert (idle.line_item, idle.idle_cost_nanos, idle.margin_nanos) == ("idle", 11, -11)
    balances = await books.ledger.balances()
    contra = ("customer", "device", "upstream")
    earned = -sum(amount for name, amount in balances.items() if name.partition(":")[0] not in contra)
    assert earned == sum(line.margin_nanos for bucket in page.data for line in bucket.results)


async def test_margins_go_by_device_and_model(books: Books, reports: Reports, customers: tuple[Principal, ...]) -> None:
    query = ReportQuery(start_time=START + DAY, group_by=("device", "model"))
    (bucket,) = (await reports.margins(books.admin, query)).data
    found = [(line.line_item, line.device, line.model, line.margin_nanos) for line in bucket.results]
    assert found == [("requests", "", "big", 30), ("requests", "cpu", "big", -4), ("idle", "cpu", "big", -11)]
    narrowed = msgspec.structs.replace(query, project_ids=(customers[0].project_id,))
    (bucket,) = (await reports.margins(books.admin, narrowed)).data
    assert [line.line_item for line in bucket.results] == ["requests", "requests"]


async def test_a_stranger_sees_the_own_project_only(reports: Reports, customers: tuple[Principal, ...]) -> None:
    one, two = customers
    page = await reports.completions(two, ReportQuery(start_time=START, group_by=("project_id",)))
    assert {result.project_id for bucket in page.data for result in bucket.results} == {two.project_id}
    asked = ReportQuery(start_time=START, project_ids=(one.project_id,))
    assert not any(bucket.results for bucket in (await reports.costs(two, asked)).data)
    mine = await reports.list_requests(two, RequestQuery())
    assert {row.project_id for row in mine.data} == {two.project_id}
    assert (await reports.list_requests(two, RequestQuery(project_id=one.project_id))).data == []
    theirs = (await reports.list_requests(one, RequestQuery())).data[0].id
    with pytest.raises(NotFound):
        await reports.get_request(two, theirs)
    with pytest.raises(PermissionDenied):
        await reports.margins(two, ReportQuery(start_time=START))


async def test_a_manager_sees_the_own_organization_and_no_other(
    reports: Reports, customers: tuple[Principal, ...]
) -> None:
    manager = msgspec.structs.replace(customers[1], scopes=frozenset({Scope.USAGE, Scope.MANAGE}))
    rows = (await reports.list_requests(manager, RequestQuery())).data
    assert {row.project_id for row in rows} == {each.project_id for each in customers}
    stranger = msgspec.structs.replace(manager, organization_id="org_other")
    assert (await reports.list_requests(stranger, RequestQuery())).data == []
    with pytest.raises(NotFound):
        await reports.get_request(stranger, rows[0].id)
    page = await reports.costs(stranger, ReportQuery(start_time=START))
    assert not any(bucket.results for bucket in page.data)


async def test_money_is_shown_to_those_who_may_see_it(
    books: Books, reports: Reports, customers: tuple[Principal, ...]
) -> None:
    blind = msgspec.structs.replace(customers[0], sees_cost=False)
    (row, *_) = (await reports.list_requests(blind, RequestQuery(order="asc"))).data
    assert row.charged_nanos is None
    with pytest.raises(PermissionDenied):
        await reports.costs(blind, ReportQuery(start_time=START))
    row = await reports.get_request(customers[0], row.id)
    assert (row.charged_nanos, row.compute_cost_nanos, row.device) == (100, None, None)
    row = await reports.get_request(books.admin, row.id)
    assert (row.charged_nanos, row.compute_cost_nanos, row.margin_nanos, row.device) == (100, 30, 70, "cpu")
    mute = msgspec.structs.replace(blind, scopes=frozenset({"inference"}))
    for refused in (
        reports.completions(mute, ReportQuery(start_time=START)), reports.list_requests(mute, RequestQuery()),
    ):  # fmt: skip
        with pytest.raises(PermissionDenied):
            await refused


@pytest.mark.parametrize(("width", "width_s"), [("1m", 60), ("1h", 3600), ("1d", DAY)])
async def test_pages_follow_one_another_without_a_gap(
    books: Books, reports: Reports, customers: tuple[Principal, ...], width: str, width_s: int
) -> None:
    now = books.clock.time_ns() // 10**9
    query = ReportQuery(start_time=now - 3 * width_s, end_time=now + 1, bucket_width=width, limit=1)  # type: ignore[arg-type]
    starts: list[int] = []
    while True:
        page = await reports.completions(books.admin, query)
        starts += [bucket.start_time for bucket in page.data]
        if not page.has_more:
            break
        query = msgspec.structs.replace(query, page=page.next_page)
    first = (now - 3 * width_s) // width_s * width_s
    assert starts == [first + n * width_s for n in range(4)]
    assert [result.num_model_requests for result in page.data[0].results] == [1]


@pytest.mark.parametrize(
    "query",
    [
        ReportQuery(start_time=-1),
        ReportQuery(start_time=START, end_time=START),
        ReportQuery(start_time=START, limit=0),
        ReportQuery(start_time=START, limit=32),
        ReportQuery(start_time=START, page="next"),
        ReportQuery(start_time=10**12),
    ],
)
async def test_a_query_without_sense_is_refused(books: Books, reports: Reports, query: ReportQuery) -> None:
    with pytest.raises(Malformed):
        await reports.completions(books.admin, query)


async def test_requests_are_listed_page_by_page(
    books: Books, reports: Reports, customers: tuple[Principal, ...]
) -> None:
    everything = (await reports.list_requests(books.admin, RequestQuery(limit=100))).data
    ids = [row.id for row in everything]
    assert len(ids) == 6
    assert ids == sorted(ids, reverse=True)
    found: list[str] = []
    query = RequestQuery(limit=4)
    while True:
        page = await reports.list_requests(books.admin, query)
        found += [row.id for row in page.data]
        if not page.has_more:
            break
        query = RequestQuery(limit=4, after=page.last_id)
    assert found == ids
    failed = await reports.list_requests(books.admin, RequestQuery(status="failed"))
    assert [(row.charged_nanos, row.margin_nanos) for row in failed.data] == [(0, -4)]
    for limit in (0, 1001):
        with pytest.raises(Malformed):
            await reports.list_requests(books.admin, RequestQuery(limit=limit))


async def test_other_units_and_metadata_come_back_as_they_went_in(books: Books, reports: Reports) -> None:
    who = await books.customer()
    request = await books.reserve(who, 10)
    facts = {"quantities": {Unit.IMAGE: 2}, "metadata": {"ticket": "七"}, "first_token_ns": 5}
    await books.ledger.settle(books.ended(request, 1, **facts))
    row = await reports.get_request(who, request)
    assert (row.other_units, row.metadata, row.first_token_ns) == ({"image": 2}, {"ticket": "七"}, 5)
    assert (row.input_tokens, row.output_tokens) == (0, 0)


async def test_a_table_has_a_header_and_runs_no_formula(books: Books, reports: Reports) -> None:
    who = await books.customer()
    request = await books.reserve(who, 10, model='=cmd|"x"')
    await books.ledger.settle(books.ended(request, 1, compute_cost_nanos=3, metadata={"a": "b,c"}))
    text = to_csv((await reports.list_requests(books.admin, RequestQuery())).data)
    (row,) = csv.DictReader(io.StringIO(text))
    assert row["model"] == '\'=cmd|"x"'
    assert row["margin_nanos"] == "-2"
    assert row["metadata"] == '{"a":"b,c"}'
    assert to_csv([]) == ""
