"""Webhooks: signed as OpenAI's client verifies, sent at least once, kept over a restart, never without a secret."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import msgspec
import pytest
from aiohttp import web
from openai import InvalidWebhookSignatureError, OpenAI
from sqlalchemy import select, update

from dayspring.accounts.principals import Principal, Scope
from dayspring.accounts.service import Accounts
from dayspring.accounts.webhooks.delivery import LEASE_S, PAUSES_S, Deliveries
from dayspring.accounts.webhooks.outbox import put
from dayspring.accounts.webhooks.service import EndpointChange, EndpointRequest, Webhooks
from dayspring.accounts.webhooks.signing import headers_for, new_secret
from dayspring.accounts.webhooks.tables import Endpoint, webhook_deliveries, webhook_endpoints
from dayspring.core.errors import InvalidRequest, NotFound, PermissionDenied, Refused
from dayspring.net.fetcher import Fetcher
from dayspring.store.database import Database
from dayspring.testing.clock import FakeClock
from loopback import Serve

EVENT = "spend_alert.raised"


class Receiver:
    """A real one on loopback. `answers` are its next statuses; the last is repeated."""

    def __init__(self) -> None:
        self.answers: list[int] = [200]
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.while_answering: Callable[[], Any] | None = None

    async def answer(self, request: web.Request) -> web.Response:
        self.got.append(({name.lower(): value for name, value in request.headers.items()}, await request.read()))
        if self.while_answering is not None:
            await self.while_answering()
        status = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if status == 302:
            return web.Response(status=302, headers={"Location": "http://169.254.169.254/latest"})
        return web.Response(status=status)

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.got]


class Post:
    """The rooms under test, and a receiver."""

    def __init__(self, db: Database, clock: FakeClock, fetcher: Fetcher, receiver: Receiver, url: str) -> None:
        self.db, self.clock, self.receiver, self.url = db, clock, receiver, url
        self.webhooks = Webhooks(db, clock)
        self.deliveries = Deliveries(db, clock, fetcher)
        self.admin: Principal

    async def endpoint(self, **more: Any) -> Endpoint:
        request = {"name": "e", "url": self.url, "event_types": (EVENT,)} | more
        return await self.webhooks.create(self.admin, EndpointRequest(**request))

    async def happens(self, project_id: str | None = None, **data: Any) -> None:
        project_id = self.admin.project_id if project_id is None else project_id
        now_ns = self.clock.time_ns()
        await self.db.write(
            lambda connection: put(connection, self.admin.organization_id, project_id, EVENT, data, now_ns)
        )

    async def statuses(self) -> list[tuple[str, int, int | None]]:
        table = webhook_deliveries
        query = select(table.c.status, table.c.attempts, table.c.status_code).order_by(table.c.created_at_ns)
        return await self.db.read(lambda connection: [tuple(row) for row in connection.execute(query)])


@pytest.fixture
async def post(database: Database, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Post]:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    receiver, fetcher, clock = Receiver(), Fetcher(stall_s=2), FakeClock()
    application = web.Application()
    application.router.add_post("/hook", receiver.answer)
    made = Post(database, clock, fetcher, receiver, f"{await serve(application)}/hook")
    key = await Accounts(database, clock).bootstrap("USD")
    assert key is not None
    made.admin = key.key.principal
    yield made
    await fetcher.close()


def _unwrapped(headers: dict[str, str], body: bytes, secret: str, monkeypatch: pytest.MonkeyPatch, at_s: int) -> Any:
    monkeypatch.setattr("openai.lib._webhooks.time.time", lambda: at_s)
    return OpenAI(api_key="none").webhooks.unwrap(body, headers, secret=secret)


async def test_openais_client_verifies_and_reads_the_event(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = await post.endpoint()
    await post.happens(spent_nanos=5, note="ümlaut")
    assert await post.deliveries.send_due() == 1
    ((headers, body),) = post.receiver.got
    at_s = post.clock.time_ns() // 10**9
    with monkeypatch.context() as patch:
        event = _unwrapped(headers, body, endpoint.secret, patch, at_s)
        assert (event.type, event.object, event.created_at) == (EVENT, "event", at_s)
        with pytest.raises(InvalidWebhookSignatureError):
            _unwrapped(headers, body, new_secret(), patch, at_s)
        with pytest.raises(InvalidWebhookSignatureError):
            _unwrapped(headers, body + b" ", endpoint.secret, patch, at_s)
    assert msgspec.json.decode(body)["data"] == {"spent_nanos": 5, "note": "ümlaut"}
    assert await post.statuses() == [("delivered", 1, 200)]
    assert await post.deliveries.send_due() == 0, "what was taken is not sent again"


async def test_a_failed_delivery_is_tried_again_with_growing_pauses_under_the_same_id(post: Post) -> None:
    await post.endpoint()
    await post.happens()
    post.receiver.answers = [500, 503, 302, 404, 200]
    for pause in PAUSES_S[:4]:
        assert await post.deliveries.send_due() == 0
        post.clock.advance(pause - 0.001)
        assert await post.deliveries.send_due() == 0, "too early"
        post.clock.advance(0.001)
    assert await post.deliveries.send_due() == 1
    assert len(post.receiver.got) == 5
    assert len(set(post.receiver.ids)) == 1
    stamps = [headers["webhook-timestamp"] for headers, _ in post.receiver.got]
    assert len(set(stamps)) == 5, "each attempt is signed anew, else it would be too old to be taken"


async def test_it_is_given_up_after_the_last_attempt_and_at_once_when_the_receiver_is_gone(post: Post) -> None:
    await post.endpoint()
    await post.happens()
    post.receiver.answers = [500]
    for pause in (*PAUSES_S, 1):
        await post.deliveries.send_due()
        post.clock.advance(pause)
    assert await post.statuses() == [("failed", len(PAUSES_S) + 1, 500)]
    post.receiver.answers = [410]
    await post.happens()
    await post.deliveries.send_due()
    assert ("failed", 1, 410) in await post.statuses()
    post.clock.advance(31 * 86_400)
    await post.deliveries.forget_old()
    assert await post.statuses() == []


async def test_what_is_in_the_outbox_survives_a_restart_in_the_middle_of_an_attempt(post: Post) -> None:
    await post.endpoint()
    await post.happens()
    never = asyncio.Event()
    post.receiver.while_answering = never.wait
    attempt = asyncio.create_task(post.deliveries.send_due())
    while not post.receiver.got:  # noqa: ASYNC110 - the receiver tells nobody
        await asyncio.sleep(0.005)
    attempt.cancel()
    await asyncio.gather(attempt, return_exceptions=True)
    post.receiver.while_answering = None
    never.set()
    fetcher = Fetcher(stall_s=2)
    later = Deliveries(post.db, post.clock, fetcher)
    assert await later.send_due() == 0, "another server may still be at it"
    post.clock.advance(LEASE_S)
    assert await later.send_due() == 1
    await fetcher.close()
    assert len(post.receiver.got) == 2
    assert len(set(post.receiver.ids)) == 1


async def test_of_several_servers_one_sends(post: Post) -> None:
    await post.endpoint()
    for _ in range(5):
        await post.happens()
    sent = await asyncio.gather(*(post.deliveries.send_due() for _ in range(4)))
    while sum(sent) < 5:
        sent.append(await post.deliveries.send_due())
    assert sorted(set(post.receiver.ids)) == sorted(post.receiver.ids)
    assert len(post.receiver.ids) == 5


async def test_a_dead_receiver_holds_up_nobody_else(post: Post) -> None:
    dead = await post.endpoint(url="http://127.0.0.1:9/hook")
    for _ in range(150):
        await post.happens()
    await post.endpoint()
    await post.happens()
    await post.deliveries.send_due()
    post.clock.advance(1)
    await post.deliveries.send_due()
    assert len(post.receiver.got) == 1
    await post.webhooks.delete(post.admin, dead.id)
    assert await post.statuses() == [("delivered", 1, 200)], "what was for it goes with it"


async def test_a_rotated_secret_signs_beside_the_old_one_for_a_day(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    old = await post.endpoint()
    rotated = await post.webhooks.rotate_secret(post.admin, old.id, keep_old=True)
    assert rotated.secret != old.secret
    for hours, secrets in ((23, (rotated.secret, old.secret)), (2, (rotated.secret,))):
        post.clock.advance(hours * 3600)
        await post.happens()
        await post.deliveries.send_due()
        headers, body = post.receiver.got[-1]
        at_s = post.clock.time_ns() // 10**9
        with monkeypatch.context() as patch:
            for secret in secrets:
                _unwrapped(headers, body, secret, patch, at_s)
        assert len(headers["webhook-signature"].split()) == len(secrets)
    rotated = await post.webhooks.rotate_secret(post.admin, old.id)
    assert rotated.old_secret == ""


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_AAAA", "secret", "whsec_!!!"])
async def test_wound_unset_webhook_secret_nothing_is_ever_sent_without_one(post: Post, secret: str) -> None:
    """A peer signed with an empty key where none was set, so anyone could forge. Here the message stays."""
    endpoint = await post.endpoint()
    await post.db.write(
        lambda connection: (
            connection.execute(
                update(webhook_endpoints).where(webhook_endpoints.c.id == endpoint.id).values(secret=secret)
            ).rowcount
        )
    )
    await post.happens()
    assert await post.deliveries.send_due() == 0
    assert post.receiver.got == []
    assert await post.statuses() == [("pending", 1, None)]
    with pytest.raises(Refused, match="no signing secret"):
        headers_for("msg", 1, "{}", [secret])
    with pytest.raises(Refused):
        headers_for("msg", 1, "{}", [])


def _managing(principal: Principal, *scopes: str, **more: str) -> Principal:
    return msgspec.structs.replace(principal, scopes=frozenset(scopes), **more)


@pytest.mark.parametrize(
    "url", ["http://example.org/", "https://10.0.0.1/", "https://localhost/", "https://user:pw@example.org/", "file:///x",
            "https://169.254.169.254/", "https://[::1]/", "https://2130706433/", ""],
)  # fmt: skip
async def test_a_managers_endpoint_is_never_inside_the_network(post: Post, url: str) -> None:
    manager = _managing(post.admin, Scope.MANAGE)
    with pytest.raises(Refused):
        await post.webhooks.create(manager, EndpointRequest(name="e", url=url, event_types=(EVENT,)))
    endpoint = await post.webhooks.create(
        manager, EndpointRequest(name="e", url="https://example.org/x", event_types=(EVENT,))
    )
    with pytest.raises(Refused):
        await post.webhooks.change(manager, endpoint.id, EndpointChange(url=url))


async def test_a_managers_change_of_an_operators_endpoint_takes_its_way_inside(post: Post) -> None:
    manager = _managing(post.admin, Scope.MANAGE)
    endpoint = await post.endpoint()
    with pytest.raises(Refused):
        await post.webhooks.change(manager, endpoint.id, EndpointChange(url=post.url + "2"))
    changed = await post.webhooks.change(manager, endpoint.id, EndpointChange(name="renamed"))
    assert (changed.url, changed.name) == (post.url, "renamed")


@pytest.mark.parametrize("wanted", [("unknown",), (), (EVENT, "batch.nothing")])
async def test_events_that_are_never_sent_cannot_be_asked_for(post: Post, wanted: Iterable[str]) -> None:
    with pytest.raises(InvalidRequest, match=EVENT):
        await post.endpoint(event_types=tuple(wanted))


async def test_another_projects_endpoint_is_not_found_and_gets_nothing(post: Post) -> None:
    mine = await post.endpoint()
    other = await Accounts(post.db, post.clock).create_project("other")
    elsewhere = _managing(post.admin, Scope.PROJECT, project_id=other.id)
    stranger = _managing(post.admin, Scope.MANAGE, organization_id="org_other", project_id="proj_other")
    theirs = await post.webhooks.create(
        elsewhere, EndpointRequest(name="t", url="https://example.org/", event_types=(EVENT,))
    )
    for principal in (elsewhere, stranger):
        for verb in (
            post.webhooks.get(principal, mine.id),
            post.webhooks.delete(principal, mine.id),
            post.webhooks.rotate_secret(principal, mine.id),
            post.webhooks.change(principal, mine.id, EndpointChange(name="x")),
        ):
            with pytest.raises(NotFound):
                await verb
    assert await post.webhooks.list(stranger) == []
    assert [endpoint.id for endpoint in await post.webhooks.list(elsewhere)] == [theirs.id]
    with pytest.raises(PermissionDenied):
        await post.webhooks.list(_managing(post.admin, Scope.INFERENCE))
    with pytest.raises(PermissionDenied):
        await post.webhooks.create(
            elsewhere,
            EndpointRequest(name="t", url="https://example.org/", event_types=(EVENT,), project_id=""),
        )
    for nowhere in ("proj_none", other.id):
        with pytest.raises(NotFound):
            await post.webhooks.create(
                msgspec.structs.replace(post.admin, organization_id="org_other"),
                EndpointRequest(name="t", url="https://example.org/", event_types=(EVENT,), project_id=nowhere),
            )
    await post.happens()
    await post.deliveries.send_due()
    assert len(await post.statuses()) == 1
