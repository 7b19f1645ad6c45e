"""Limits, budgets, alerts and webhooks at the door: OpenAI's shapes, headers on every answer, the operator's alone."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from openai import OpenAI
from openai.types.admin.organization.organization_spend_limit import OrganizationSpendLimit
from openai.types.admin.organization.projects.project_rate_limit import ProjectRateLimit
from openai.types.admin.organization.projects.project_spend_limit import ProjectSpendLimit
from openai.types.webhooks.webhook_endpoint_with_secret import WebhookEndpointWithSecret
from server_house import CHAT, HELLO, Served, served

from dayspring.accounts.limiting import RateChange
from dayspring.accounts.owners import Ref
from dayspring.accounts.principals import Principal, Scope
from dayspring.cli.main import main
from dayspring.core.money import NANOS
from dayspring.web.rates import duration
from live import echo_model

ORGANIZATION = "/v1/organization"
RATE_HEADERS = {f"x-ratelimit-{name}-{kind}" for name in ("limit", "remaining", "reset") for kind in
                ("requests", "tokens")}  # fmt: skip


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path, echo_model(), echo_model("slow", delay_s=0.02)) as house:
        yield house


async def _limited(house: Served, **rates: int) -> tuple[Principal, str]:
    principal, token = await house.new_key()
    await house.house.limiting.set_rates(None, Ref(principal.key_id), RateChange(**rates))
    return principal, token


@pytest.mark.parametrize(
    ("ns", "text"),
    [(0, "0s"), (1, "1ms"), (20_000_000, "20ms"), (10**9, "1s"), (8_640_000_000, "8.64s"), (360 * 10**9, "6m0s"),
     (90_061_001_000_000, "25h1m1.001s"), (999_999_999, "1s")],
)  # fmt: skip
def test_durations_are_written_as_openai_writes_them(ns: int, text: str) -> None:
    assert duration(ns) == text


async def test_the_headers_tell_where_a_limited_key_stands_on_every_answer(house: Served) -> None:
    _, token = await _limited(house, requests_per_minute=3, tokens_per_minute=1000)
    first = await house.ask("POST", CHAT, key=token, json=HELLO)
    assert first.status == 200
    assert set(first.headers) >= RATE_HEADERS
    assert first.headers["x-ratelimit-limit-requests"] == "3"
    assert first.headers["x-ratelimit-remaining-requests"] == "2"
    assert first.headers["x-ratelimit-limit-tokens"] == "1000"
    streamed = await house.ask("POST", CHAT, key=token, json=HELLO | {"stream": True})
    assert streamed.status == 200
    assert streamed.headers["x-ratelimit-remaining-requests"] == "1"
    wrong = await house.ask("POST", CHAT, key=token, json=HELLO | {"model": "none"})
    assert wrong.status == 404
    assert wrong.headers["x-ratelimit-remaining-requests"] == "1", "what was never run is not counted"
    await house.ask("POST", CHAT, key=token, json=HELLO)
    refused = await house.ask("POST", CHAT, key=token, json=HELLO)
    assert refused.status == 429
    assert refused.error["code"] == "rate_limit_exceeded"
    assert "3 requests a minute" in refused.error["message"]
    assert 1 <= int(refused.headers["retry-after"]) <= 20
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert set(refused.headers) >= RATE_HEADERS


async def test_a_key_without_limits_has_no_such_header(house: Served) -> None:
    answer = await house.ask("POST", CHAT, json=HELLO)
    assert answer.status == 200
    assert not RATE_HEADERS & set(answer.headers)


async def test_tokens_are_counted_as_used_when_the_answer_has_ended(house: Served) -> None:
    _, token = await _limited(house, tokens_per_minute=100_000)
    body = HELLO | {"max_completion_tokens": 50}
    answer = await house.ask("POST", CHAT, key=token, json=body)
    used = answer.json["usage"]["total_tokens"]
    after = await house.ask("GET", "/v1/models", key=token)
    left = int(after.headers["x-ratelimit-remaining-tokens"])
    assert 100_000 - used <= left <= 100_000


async def test_concurrency_is_limited_and_freed_however_a_request_ends(house: Served) -> None:
    _, token = await _limited(house, concurrency=1)
    words = " ".join(["word"] * 200)
    slow = {"model": "slow", "messages": [{"role": "user", "content": words}], "stream": True}
    visit = house.visiting(CHAT, orjson.dumps(slow))
    visit._scope["headers"] = [(b"authorization", f"Bearer {token}".encode())]
    running = asyncio.create_task(visit.run())
    await visit.sent.wait()
    refused = await house.ask("POST", CHAT, key=token, json=HELLO)
    assert (refused.status, refused.error["code"]) == (429, "rate_limit_exceeded")
    assert "at the same time" in refused.error["message"]
    visit.leave()
    await running
    for _ in range(3):
        assert (await house.ask("POST", CHAT, key=token, json=HELLO)).status == 200
    wrong = HELLO | {"model": "none"}
    assert (await house.ask("POST", CHAT, key=token, json=wrong)).status == 404
    assert (await house.ask("POST", CHAT, key=token, json=HELLO)).status == 200


async def test_a_request_over_the_whole_token_limit_is_told_so(house: Served) -> None:
    _, token = await _limited(house, tokens_per_minute=100)
    body = HELLO | {"max_completion_tokens": 500}
    answer = await house.ask("POST", CHAT, key=token, json=body)
    assert (answer.status, answer.error["code"]) == (400, "invalid_request")
    assert "never fit" in answer.error["message"]


async def test_rate_limits_are_set_in_openais_shape_at_each_level(house: Served) -> None:
    principal, token = await house.new_key()
    project = f"{ORGANIZATION}/projects/{principal.project_id}"
    places = {ORGANIZATION: principal.organization_id, project: principal.project_id,
              f"{project}/api_keys/{principal.key_id}": principal.key_id}  # fmt: skip
    for path, owner in places.items():
        page = (await house.ask("GET", f"{path}/rate_limits")).json
        assert page["object"] == "list"
        (found,) = page["data"]
        assert found["max_requests_per_1_minute"] is None
        body = {"max_requests_per_1_minute": 7, "max_tokens_per_1_minute": 5000}
        answer = await house.ask("POST", f"{path}/rate_limits/rl_{owner}", json=body)
        assert answer.status == 200
        if path == project:
            ProjectRateLimit.model_validate(answer.json, strict=True)
        assert (answer.json["max_requests_per_1_minute"], answer.json["max_concurrent_requests"]) == (7, None)
        body = {"max_tokens_per_1_minute": None, "max_concurrent_requests": 4}
        answer = await house.ask("POST", f"{path}/rate_limits/rl_{owner}", json=body)
        assert (answer.json["max_requests_per_1_minute"], answer.json["max_tokens_per_1_minute"]) == (7, None)
        assert (await house.ask("POST", f"{path}/rate_limits/rl_other", json=body)).status == 404
        wrong = {"max_requests_per_1_minute": 0}
        assert (await house.ask("POST", f"{path}/rate_limits/rl_{owner}", json=wrong)).status == 400
    answer = await house.ask("POST", CHAT, key=token, json=HELLO)
    assert answer.headers["x-ratelimit-limit-requests"] == "7", "held at once, without a new sign-in"


async def test_spend_limits_are_set_in_openais_shape_and_hold(house: Served) -> None:
    principal, token = await house.new_key()
    project = f"{ORGANIZATION}/projects/{principal.project_id}"
    assert (await house.ask("GET", f"{project}/spend_limit")).status == 404
    body: dict[str, Any] = {"currency": "USD", "interval": "month", "threshold_amount": 250}
    answer = await house.ask("POST", f"{project}/spend_limit", json=body)
    ProjectSpendLimit.model_validate(answer.json, strict=True)
    assert answer.json["threshold_nanos"] == 250 * NANOS // 100
    assert (answer.json["enforcement"]["status"], answer.json["interval"]) == ("inactive", "month")
    assert answer.json["resets_at"] is not None
    answer = await house.ask("POST", f"{ORGANIZATION}/spend_limit", json=body)
    OrganizationSpendLimit.model_validate(answer.json, strict=True)
    key = f"{project}/api_keys/{principal.key_id}"
    body |= {"threshold_amount": 0, "soft_threshold_nanos": 5}
    answer = await house.ask("POST", f"{key}/spend_limit", json=body)
    assert (answer.json["enforcement"]["status"], answer.json["soft_threshold_nanos"]) == ("enforcing", 5)
    refused = await house.ask("POST", CHAT, key=token, json=HELLO)
    assert (refused.status, refused.error["code"]) == (429, "insufficient_quota")
    assert (await house.ask("DELETE", f"{key}/spend_limit")).json["deleted"] is True
    assert (await house.ask("POST", CHAT, key=token, json=HELLO)).status == 200
    assert (await house.ask("GET", f"{key}/spend_limit")).status == 404


@pytest.mark.parametrize(
    "body",
    [{"currency": "EUR", "interval": "month", "threshold_amount": 1},
     {"currency": "USD", "interval": "year", "threshold_amount": 1},
     {"currency": "USD", "interval": "month"},
     {"currency": "USD", "interval": "month", "threshold_amount": -1},
     {"currency": "USD", "interval": "month", "threshold_amount": 1, "threshold_nanos": 1},
     {"currency": "USD", "interval": "month", "threshold_amount": 2**62},
     {"currency": "USD", "interval": "month", "threshold_amount": 1, "unknown": 1}],
)  # fmt: skip
async def test_a_spend_limit_without_sense_is_refused(house: Served, body: dict[str, Any]) -> None:
    answer = await house.ask("POST", f"{ORGANIZATION}/spend_limit", json=body)
    assert answer.status == 400
    assert answer.error["type"] == "invalid_request_error"


async def test_an_alert_is_set_raised_and_listed(house: Served) -> None:
    principal, token = await house.new_key()
    path = f"{ORGANIZATION}/projects/{principal.project_id}/api_keys/{principal.key_id}/spend_alerts"
    body: dict[str, Any] = {"currency": "USD", "interval": "month", "threshold_nanos": 1}
    made = (await house.ask("POST", path, json=body)).json
    assert (made["object"], made["interval"], made["threshold_nanos"]) == ("project.api_key.spend_alert", "month", 1)
    mail = body | {"notification_channel": {"type": "email", "recipients": ["a@example.org"]}}
    refused = await house.ask("POST", path, json=mail)
    assert refused.error["code"] == "unsupported_parameter"
    share = {"currency": "USD", "interval": "month", "threshold_percent": 80}
    other = (await house.ask("POST", path, json=share)).json
    assert other["threshold_amount"] is None
    page = (await house.ask("GET", f"{path}?limit=1")).json
    assert (page["data"], page["has_more"]) == ([made], True)
    assert (await house.ask("GET", f"{path}?after={made['id']}")).json["data"] == [other]
    changed = await house.ask("POST", f"{path}/{other['id']}", json=body | {"threshold_nanos": 2})
    assert changed.json["threshold_nanos"] == 2
    assert (await house.ask("POST", CHAT, key=token, json=HELLO)).status == 200
    events = (await house.ask("GET", f"{ORGANIZATION}/spend_alert_events")).json
    assert {event["alert_id"] for event in events["data"]} == {made["id"], other["id"]}
    assert {event["owner_id"] for event in events["data"]} == {principal.key_id}
    metrics = (await house.ask("GET", "/metrics")).body.decode()
    assert 'dayspring_spend_alerts_total{kind="threshold",level="key"} 2.0' in metrics
    assert (await house.ask("DELETE", f"{path}/{made['id']}")).json["deleted"] is True
    assert (await house.ask("GET", f"{path}/{made['id']}")).status == 404


async def test_a_webhook_endpoint_shows_its_secret_once(house: Served) -> None:
    body = {"name": "alerts", "url": "https://example.org/hook", "event_types": ["spend_alert.raised"]}
    made = await house.ask("POST", "/v1/webhook_endpoints", json=body)
    assert made.status == 200
    WebhookEndpointWithSecret.model_validate(made.json)
    secret, path = made.json["signing_secret"], f"/v1/webhook_endpoints/{made.json['id']}"
    for answer in (
        await house.ask("GET", path),
        await house.ask("GET", "/v1/webhook_endpoints"),
        await house.ask("POST", path, json={"name": "renamed"}),
        await house.ask("GET", f"{ORGANIZATION}/audit_logs"),
    ):
        assert secret.encode() not in answer.body
    rotated = await house.ask("POST", f"{path}/rotate_secret")
    assert rotated.json["signing_secret"] != secret
    assert (await house.ask("DELETE", path)).json == {
        "id": made.json["id"], "object": "webhook_endpoint.deleted", "deleted": True,
    }  # fmt: skip
    assert (await house.ask("GET", path)).status == 404
    for wrong in ({"signing_secret": ""}, {"url": "ftp://example.org"}, {"event_types": []}, {"event_types": ["x"]}):
        answer = await house.ask("POST", "/v1/webhook_endpoints", json=body | wrong)
        assert answer.status == 400, wrong


async def test_who_manages_nothing_reaches_none_of_it(house: Served) -> None:
    principal, token = await house.new_key()
    stranger, _ = await house.new_key()
    _, manager = await house.new_key(scopes=frozenset({Scope.MANAGE}))
    project = f"{ORGANIZATION}/projects/{principal.project_id}"
    places = (ORGANIZATION, project, f"{project}/api_keys/{stranger.key_id}", f"{project}/api_keys/{principal.key_id}")
    limit = {"currency": "USD", "interval": "none", "threshold_amount": 10**6}
    for place in places:
        for method, path, body in (
            ("GET", "rate_limits", None), ("POST", "rate_limits/rl_x", {}), ("GET", "spend_limit", None),
            ("POST", "spend_limit", limit), ("DELETE", "spend_limit", None), ("GET", "spend_alerts", None),
            ("GET", "spend_alerts/alert_x", None), ("DELETE", "spend_alerts/alert_x", None),
        ):  # fmt: skip
            answer = await house.ask(method, f"{place}/{path}", key=token, json=body)
            assert (answer.status, answer.error["code"]) == (403, "permission_denied"), (method, place, path)
    for path in (f"{ORGANIZATION}/spend_alert_events", "/v1/webhook_endpoints", "/v1/webhook_endpoints/whe_x"):
        assert (await house.ask("GET", path, key=token)).status == 403
    assert (await house.ask("POST", f"{ORGANIZATION}/spend_limit", key=manager, json=limit)).status == 403
    assert (await house.ask("POST", f"{project}/spend_limit", key=manager, json=limit)).status == 200
    assert (await house.ask("GET", f"{ORGANIZATION}/projects/proj_none/spend_limit", key=manager)).status == 404


async def test_a_raised_alert_reaches_the_webhook_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr("dayspring.server.rooms.DELIVER_S", 0.02)
    got: asyncio.Queue[tuple[dict[str, str], bytes]] = asyncio.Queue()

    async def receive(request: web.Request) -> web.Response:
        got.put_nowait(({name.lower(): value for name, value in request.headers.items()}, await request.read()))
        return web.Response()

    receiver = web.Application()
    receiver.router.add_post("/hook", receive)
    async with TestServer(receiver, host="127.0.0.1") as server, served(tmp_path) as house:
        url = str(server.make_url("/hook"))
        endpoint = {"name": "e", "url": url, "event_types": ["spend_alert.raised"], "scope": "organization"}
        made = (await house.ask("POST", "/v1/webhook_endpoints", json=endpoint)).json
        path = f"/v1/webhook_endpoints/{made['id']}/test"
        tested = await house.ask("POST", path, json={"event_type": "spend_alert.raised"})
        assert (tested.json["status_code"], tested.json["success"]) == (200, True)
        await got.get()
        alert = {"currency": "USD", "interval": "day", "threshold_nanos": 1}
        assert (await house.ask("POST", f"{ORGANIZATION}/spend_alerts", json=alert)).status == 200
        assert (await house.ask("POST", CHAT, json=HELLO)).status == 200
        headers, body = await asyncio.wait_for(got.get(), 10)
    event = OpenAI(api_key="none").webhooks.unwrap(body, headers, secret=made["signing_secret"])
    assert event.type == "spend_alert.raised"
    assert orjson.loads(body)["data"]["threshold_nanos"] == 1


class Terminal:
    """The command line, run in this process."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._home = home
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def run(self, *words: str) -> tuple[int, str, str]:
        """Exit status, standard output and standard error."""
        self._monkeypatch.setattr(sys, "argv", ["dayspring", *words, "--home", str(self._home)])
        status = 0
        try:
            main()
        except SystemExit as ended:
            status = int(ended.code or 0)
        said = self._capsys.readouterr()
        return status, said.out, said.err

    def out(self, *words: str) -> str:
        status, out, err = self.run(*words)
        assert status == 0, err
        return out


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(tmp_path, monkeypatch, capsys)


def test_the_command_line_sets_lists_and_alerts(terminal: Terminal) -> None:
    key = json.loads(terminal.out("keys", "create", "--json"))["id"]
    done = terminal.out(
        "limits", "set", key, "--requests", "60", "--tokens", "9000", "--concurrency", "4", "--budget", "5.00",
        "--soft", "4", "--period", "month",
    )  # fmt: skip
    assert "requests a minute 60, tokens a minute 9000, at the same time 4" in done
    assert "Budget 5.00 a period (month, refilled " in done
    terminal.out("limits", "set", key, "--tokens", "none")
    found = {each["id"]: each for each in json.loads(terminal.out("limits", "list", "--json"))}
    assert found[key]["requests_per_minute"] == 60
    assert found[key]["tokens_per_minute"] is None
    assert (found[key]["soft_limit_nanos"], found[key]["period"]) == (4 * NANOS, "month")
    assert {each["level"] for each in found.values()} == {"organization", "project", "key"}
    assert "raised once in each period (month) at 80% (4.00)" in terminal.out("alerts", "add", key, "80%")
    assert "80% (4.00)" in terminal.out("alerts", "list", key)
    assert "No alert was raised yet" in terminal.out("alerts", "raised")


def test_the_command_line_makes_lists_and_removes_webhooks(terminal: Terminal) -> None:
    terminal.out("keys", "create")
    made = json.loads(terminal.out("alerts", "webhooks", "add", "http://127.0.0.1:9/hook", "--json"))
    assert made["signing_secret"].startswith("whsec_")
    listed = terminal.out("alerts", "webhooks", "list")
    assert made["id"] in listed
    assert made["signing_secret"] not in listed
    terminal.out("alerts", "webhooks", "remove", made["id"])
    assert made["id"] not in terminal.out("alerts", "webhooks", "list")


def test_the_command_line_says_what_is_wrong_in_one_sentence(terminal: Terminal) -> None:
    key = json.loads(terminal.out("keys", "create", "--json"))["id"]
    for words in (
        ("limits", "set", key),
        ("limits", "set", key, "--requests", "0"),
        ("limits", "set", key, "--tokens", "many"),
        ("limits", "set", "key_none", "--requests", "1"),
        ("alerts", "add", key, "200%"),
        ("alerts", "remove", key, "alert_none"),
        ("alerts", "webhooks", "add", "ftp://x"),
    ):
        status, _, error = terminal.run(*words)
        assert status == 1, words
        assert error.startswith("dayspring: ")
        assert len(error.splitlines()) == 1
