"""The administration over HTTP: what the client of OpenAI does not reach, and what a stranger does not see."""

import asyncio
import io
import os
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from server_house import CHAT, HELLO, Served, served

from dayspring.accounts.administration.holding import AccountRecords
from dayspring.accounts.retention import DAY_NS
from dayspring.core.errors import InvalidRequest
from dayspring.server.sweeping import sweep, sweep_logs
from dayspring.store.schema import metadata

PASSWORD = "correct horse battery"


async def sign_in(house: Served, email: str = "ann@example.org", **more: Any) -> tuple[str, str]:
    """A new user's id, and the token of a session."""
    made = await house.ask("POST", "/v1/organization/users", json={"email": email, "password": PASSWORD, **more})
    assert made.status == 200, made.body
    session = await house.ask("POST", "/v1/sessions", key="", json={"email": email, "password": PASSWORD})
    assert session.status == 200, session.body
    return made.json["id"], session.json["token"]


async def test_a_person_signs_in_works_is_metered_and_signs_out(house: Served) -> None:
    user_id, token = await sign_in(house, name="Ann")
    me = await house.ask("GET", "/v1/users/me", key=token)
    assert (me.json["email"], me.json["role"]) == ("ann@example.org", "reader")
    [place] = me.json["projects"]["data"]
    assert place["role"] == "member"
    assert (await house.ask("POST", CHAT, key=token, json=HELLO)).status == 200
    assert (await house.house.accounts.budget(user_id)).spent_nanos > 0
    assert await house.house.ledger.verify() == []
    [session] = (await house.ask("GET", "/v1/sessions", key=token)).json["data"]
    assert session["ip_address"] == "127.0.0.1"
    assert "token" not in session or session["token"] is None
    assert (await house.ask("DELETE", "/v1/sessions/current", key=token)).status == 200
    ended = (await house.ask("POST", CHAT, key=token, json=HELLO)).error
    assert ended["code"] == "invalid_api_key"
    assert ended["message"] == "This session has ended, or never was. Sign in again with POST /v1/sessions."


async def test_a_persons_budget_stops_the_person(house: Served) -> None:
    user_id, token = await sign_in(house)
    await house.house.accounts.set_budget(user_id, 0)
    assert (await house.ask("POST", CHAT, key=token, json=HELLO)).error["code"] == "insufficient_quota"


async def test_a_wrong_sign_in_says_what_to_do_and_then_to_wait(house: Served) -> None:
    await sign_in(house)
    wrong = {"email": "ann@example.org", "password": "wrong wrong wrong"}
    answers = [await house.ask("POST", "/v1/sessions", key="", json=wrong) for _ in range(5)]
    assert [(answer.status, answer.error["code"]) for answer in answers] == [(401, "invalid_credentials")] * 5
    # The waits double from a second: a slow machine takes longer over a password than over the first of them.
    more = (await house.ask("POST", "/v1/sessions", key="", json=wrong) for _ in range(7))
    told = [answer async for answer in more if answer.status == 429]
    assert told
    assert int(told[0].headers["retry-after"]) >= 1


async def test_links_are_used_over_http(house: Served) -> None:
    made = await house.ask("POST", "/v1/organization/users", json={"email": "new@example.org"})
    body = {"token": made.json["password_reset"]["token"], "password": PASSWORD}
    assert (await house.ask("POST", "/v1/password_resets/use", key="", json=body)).status == 200
    assert (await house.ask("POST", "/v1/password_resets/use", key="", json=body)).status == 400
    session = await house.ask("POST", "/v1/sessions", key="", json={"email": "new@example.org", "password": PASSWORD})
    token = session.json["token"]
    change = {"old_password": PASSWORD, "new_password": "another long password"}
    assert (await house.ask("POST", "/v1/users/me/password", key=token, json=change)).status == 200
    assert (await house.ask("GET", "/v1/users/me", key=token)).status == 401
    reset = await house.ask("POST", f"/v1/organization/users/{made.json['id']}/password_reset")
    assert reset.json["token"].startswith("dsr-")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/sessions", {"email": "a@b", "password": 7}),
        ("POST", "/v1/sessions", {"email": "a@b", "password": "x" * 5000}),
        ("POST", "/v1/organization/users", {"email": "no address", "password": PASSWORD}),
        ("POST", "/v1/organization/users", {"email": "a@b.example", "role": "god"}),
        ("POST", "/v1/organization/users", {"email": "a@b.example", "unknown": 1}),
        ("POST", "/v1/organization/projects", {"name": ""}),
        ("POST", "/v1/organization/projects", {"name": "x", "geography": "EU"}),
        ("POST", "/v1/organization/admin_api_keys", {"name": "x", "expires_in_seconds": 0}),
        ("POST", "/v1/organization/invites", {"email": "a@b.example", "role": "owner", "projects": [{"id": "x"}]}),
        ("GET", "/v1/organization/audit_logs?limit=0", None),
        ("GET", "/v1/organization/audit_logs?effective_at[gte]=yesterday", None),
        ("GET", "/v1/organization/audit_logs?after=none", None),
        ("GET", "/v1/organization/audit_logs/export?format=pdf", None),
        ("POST", "/v1/organization/end_users/erase", {"end_user": ""}),
        ("GET", "/v1/sign_in/oidc", None),
        ("GET", "/v1/sign_in/oidc/callback?state=x&code=y", None),
    ],
)  # fmt: skip
async def test_what_cannot_be_done_is_refused_in_the_one_shape(
    house: Served, method: str, path: str, body: dict[str, Any] | None
) -> None:
    answer = await house.ask(method, path, **({} if body is None else {"json": body}))
    assert answer.status in (400, 404), answer.body
    assert answer.error["message"].endswith(".")


async def test_an_operator_acts_in_another_organization_and_nobody_else_does(house: Served) -> None:
    made = (await house.ask("POST", "/v1/organizations", json={"name": "acme"})).json
    there = {"openai-organization": made["id"]}
    listed = await house.ask("GET", "/v1/organization/projects", headers=there)
    assert [project["id"] for project in listed.json["data"]] == [made["default_project_id"]]
    key = (await house.ask("POST", "/v1/organization/admin_api_keys", headers=there, json={"name": "acme"})).json
    home = {"openai-organization": (await house.ask("GET", "/v1/organization")).json["id"]}
    seen = await house.ask("GET", "/v1/organization", key=key["value"], headers=home)
    assert seen.json["id"] == made["id"]
    limit, place = {"currency": "USD", "interval": "none", "threshold_amount": 10**6}, "/v1/organization/spend_limit"
    assert (await house.ask("POST", place, headers=there, json=limit)).status == 200
    assert [(await house.ask("GET", place, headers=each)).status for each in (there, {})] == [200, 404]
    (entry,) = (
        await house.ask("GET", "/v1/organization/audit_logs?event_types=spend_limit.updated", headers=there)
    ).json["data"]
    assert entry["actor"]["api_key"]["ip_address"] == "127.0.0.1"
    nowhere = await house.ask("GET", "/v1/organization", headers={"openai-organization": "org_none"})
    assert nowhere.error["code"] == "not_found"


async def test_an_operator_without_a_project_is_told_to_name_one(house: Served) -> None:
    person = {"email": "op@example.org", "password": "correct horse battery"}
    await house.ask("POST", "/v1/organization/users", json=person | {"role": "owner", "is_operator": True})
    token = (await house.ask("POST", "/v1/sessions", json=person)).json["token"]
    (project,) = (await house.ask("GET", "/v1/organization/projects", key=token)).json["data"]
    archived = await house.ask("POST", f"/v1/organization/projects/{project['id']}/archive", key=token)
    assert archived.status == 200
    for path, body in (
        ("/v1/chat/completions", HELLO), ("/v1/responses", {"model": "echo", "input": "a"}),
        ("/v1/messages/count_tokens", {"model": "echo", "messages": [{"role": "user", "content": "a"}]}),
    ):  # fmt: skip
        answer = await house.ask("POST", path, key=token, json=body)
        assert (answer.status, answer.error["code"]) == (403, "permission_denied"), answer.body


async def test_the_log_is_exported_as_lines_and_as_a_table(house: Served) -> None:
    await sign_in(house)
    lines = await house.ask("GET", "/v1/organization/audit_logs/export")
    events = [msgspec.json.decode(line)["type"] for line in lines.body.splitlines()]
    assert events[:2] == ["login.succeeded", "user.added"]
    table = await house.ask("GET", "/v1/organization/audit_logs/export?format=csv&event_types[]=user.added")
    assert table.headers["content-type"].startswith("text/csv")
    assert len(table.body.decode().strip().splitlines()) == 2
    _, token = await sign_in(house, "bob@example.org")
    assert (await house.ask("GET", "/v1/organization/audit_logs/export", key=token)).status == 403


async def test_a_persons_data_is_exported_and_erased(house: Served) -> None:
    user_id, token = await sign_in(house, name="Ann")
    await house.ask("POST", CHAT, key=token, json=HELLO | {"user": "patient-7"})
    own = await house.ask("GET", f"/v1/organization/users/{user_id}/export", key=token)
    with zipfile.ZipFile(io.BytesIO(own.body)) as archive:
        assert b"patient-7" in archive.read("requests/000001.jsonl")
    named = await house.ask("POST", "/v1/organization/end_users/export", json={"end_user": "patient-7"})
    with zipfile.ZipFile(io.BytesIO(named.body)) as archive:
        assert len(archive.read("requests/000001.jsonl").splitlines()) == 1
    erased = await house.ask("POST", "/v1/organization/end_users/erase", json={"end_user": "patient-7"})
    assert erased.json["erased"] == 1
    assert (await house.ask("DELETE", f"/v1/organization/users/{user_id}?erase=true", key=token)).status == 403
    gone = await house.ask("DELETE", f"/v1/organization/users/{user_id}?erase=true")
    assert gone.json["deleted"]
    assert (await house.ask("GET", f"/v1/organization/users/{user_id}/export")).status == 404
    assert (await house.ask("GET", "/v1/users/me", key=token)).status == 401
    assert await house.house.ledger.verify() == []
    assert not list(house.house.settings.home.glob("tmp*")), "an export leaves nothing on disk"


async def test_what_is_past_its_time_goes_and_a_broken_room_keeps_no_other_from_it(house: Served) -> None:
    [project] = (await house.ask("GET", "/v1/organization/projects")).json["data"]
    place = f"/v1/organization/projects/{project['id']}/data_retention"
    await house.ask("POST", place, json={"days": {"logs": 1, "files": 2}})
    calls: list[tuple[str, str, int]] = []

    class Room(AccountRecords):
        def __init__(self, kind: str, *, broken: bool = False) -> None:
            self.kind = kind
            self.broken = broken

        async def expire(self, project_id: str, before_ns: int) -> int:
            if self.broken:
                raise OSError
            calls.append((self.kind, project_id, house.house.clock.time_ns() - before_ns))
            return 3

    rooms = [Room("logs", broken=True), Room("logs"), Room("files"), Room("responses")]
    assert await sweep(house.house, rooms) == 6
    assert [(kind, project_id, age_ns // DAY_NS) for kind, project_id, age_ns in calls] == [
        ("files", project["id"], 2), ("logs", project["id"], 1),
    ]  # fmt: skip
    await house.ask("POST", place, json={"retention_type": "none"})
    assert await sweep(house.house, rooms) == 0


def test_old_log_files_go_but_those_in_use(tmp_path: Path) -> None:
    for name, age_s in (("old.log", 100), ("old.log.1", 100), ("used.log", 100), ("new.log", 1), ("other.txt", 100)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, ns=(0, (1000 - age_s) * 10**9))
    assert sweep_logs(tmp_path, 950 * 10**9, frozenset({"used.log"})) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"used.log", "new.log", "other.txt"}


def test_half_a_provider_is_refused_at_the_start(tmp_path: Path) -> None:
    async def start() -> None:
        async with served(tmp_path, oidc_issuer="https://id.example"):
            pass

    with pytest.raises(InvalidRequest, match="Set all three"):
        asyncio.run(start())


_HELD = {
    "keys": "logs", "project_members": "logs", "sessions": "logs", "audit_log": "logs", "requests": "logs",
    "request_notes": "logs", "files": "files", "uploads": "files", "upload_parts": "files", "responses": "responses",
    "batches": "batches",
}  # fmt: skip
"""Which holder shows, erases or expires a table's rows of a person or project."""

_NOBODYS = {
    "jobs": "what was asked of the machine; a person by an id only",
    "reservations": "money under way; gone when its request ends",
    "service_accounts": "names of programs",
    "retention": "settings of a project",
    "quotas": "settings of a project",
    "oidc_sign_ins": "gone after ten minutes",
    "spend_alerts": "settings of a project",
    "spend_alerts_raised": "sums of a project",
    "webhook_endpoints": "settings of a project",
}


async def test_every_table_with_a_project_has_a_holder_or_a_reason(house: Served) -> None:
    kinds = {holder.kind for holder in house.app.state.holders}
    of_projects = {table.name for table in metadata.sorted_tables if "project_id" in table.c}
    missing = of_projects - _HELD.keys() - _NOBODYS.keys()
    assert not missing, f"name the holder of these, or why they need none: {sorted(missing)}"
    assert set(_HELD.values()) <= kinds
