"""Wounds of peers in who may do what, one test each, against our real server."""

import ast
import asyncio
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, inspect, select, table, text
from wounds_kit import SOURCE, Bomb, Target, calls, least

from asgi import visit
from dayspring.accounts.principals import Scope
from dayspring.core.settings import Settings
from dayspring.server.house import House
from server.server_house import api_routes

INJECTIONS = (
    "' OR 1=1 --", "ds-' OR '1'='1", '" OR ""="', "x'; DROP TABLE keys; --", "ds-%", "%", "_" * 40, "ds-\\", "\x00",
    "ds-' UNION SELECT * FROM api_keys --",
)  # fmt: skip


def routes(target: Target) -> Iterator[tuple[str, str]]:
    """Every route of the app, with an id of nobody's where it takes one."""
    for route in api_routes(target.house.app.routes):
        path = "/".join("x" if part.startswith("{") else part for part in route.path.split("/"))
        yield from ((method, path) for method in sorted(route.methods or ()) if method != "HEAD")


async def test_sql_in_the_key(target: Target) -> None:
    """LiteLLM CVE-2026-42208: the bearer key becomes part of a statement, before anybody is known."""
    for token in INJECTIONS:
        for headers in ({"authorization": f"Bearer {token}"}, {"x-api-key": token}):
            for path in ("/v1/models", "/v1/messages"):
                answer = await visit(target.house.app, "POST" if path.endswith("s/") else "GET", path, headers=headers)
                assert answer.status in (401, 405), (token, path)
    assert (await target.ask("GET", "/v1/models", target.owners_key)).status == 200


def test_no_statement_is_built_from_what_comes_in() -> None:
    """The same, for every statement: a text holds constants of ours, or SQLAlchemy builds it with parameters."""
    executing = ("text", "execute", "executescript", "exec_driver_sql", "executemany")
    built = [
        (path.name, ast.unparse(part))
        for path, name, call in calls()
        if name.rpartition(".")[2] in executing and call.args and not {"testing", "migrations"} & set(path.parts)
        for part in _variable_parts(call.args[0])
    ]
    known = [("engines.py", "synchronous")]  # a setting of two words, that PRAGMA takes as no parameter
    assert [found for found in built if found not in known] == []


def _variable_parts(made: ast.expr) -> list[ast.expr]:
    """What is put into a text and is no constant of the module, nor a number."""
    if isinstance(made, ast.JoinedStr):
        parts = [part.value for part in made.values if isinstance(part, ast.FormattedValue)]
    elif isinstance(made, ast.BinOp) and isinstance(made.op, ast.Add | ast.Mod) and isinstance(made.left, ast.Constant):
        parts = [made.right]
    elif isinstance(made, ast.Call) and isinstance(made.func, ast.Attribute) and made.func.attr == "format":
        parts = [*made.args, *(word.value for word in made.keywords)]
    else:
        return []
    return [
        part for part in parts
        if not (isinstance(part, ast.Name) and part.id.isupper())
        and not (isinstance(part, ast.Call) and ast.unparse(part.func) in ("int", "len"))
    ]  # fmt: skip


async def test_a_wildcard_in_a_search_is_a_letter(target: Target) -> None:
    """New-API CVE-2026-25591: `%` in a search makes the database walk everything, again and again."""
    for path in ("/v1/organization/audit_logs", "/v1/organization/users", "/v1/files", "/v1/organization/requests"):
        for name in ("search", "query", "text", "q", "email", "purpose"):
            for wildcard in ("%25", "%25%25%25%25", "_" * 30, "%25_%25_%25_"):
                answer = await target.house.ask("GET", f"{path}?{name}={wildcard}")
                assert answer.status in (200, 400), (path, name)
    like = [path.name for path in SOURCE if ".like(" in path.read_text() or ".ilike(" in path.read_text()]
    bare = [path.name for path, name, call in calls() if name.endswith(".icontains")
            and not any(word.arg == "autoescape" for word in call.keywords)]  # fmt: skip
    assert like + bare == [], "use icontains(..., autoescape=True)"


async def test_an_empty_secret_opens_nothing(target: Target) -> None:
    """New-API CVE-2026-41432: a secret that was never set is empty, and an empty one is accepted."""
    app = target.house.app
    for headers in (
        {}, {"authorization": ""}, {"authorization": "Bearer"}, {"authorization": "Bearer "},
        {"authorization": "Bearer None"}, {"authorization": "Bearer null"}, {"x-api-key": ""}, {"cookie": "session="},
        {"authorization": "Basic Og=="}, {"authorization": "Bearer undefined"},
    ):  # fmt: skip
        for method, path in (("GET", "/v1/models"), ("GET", "/v1/organization/users"), ("POST", "/v1/messages")):
            assert (await visit(app, method, path, headers=headers, json={})).status == 401, headers
    for path, body in (
        ("/v1/sessions", {"email": "", "password": ""}), ("/v1/invites/accept", {"token": "", "password": "x" * 20}),
        ("/v1/password_resets/use", {"token": "", "password": "x" * 20}),
    ):  # fmt: skip
        assert (await visit(app, "POST", path, json=body)).status in (400, 401, 404), path
    for query in ("", "?state=&code=", "?state=x&code=x"):
        answer = await visit(app, "GET", f"/v1/sign_in/oidc/callback{query}")
        assert answer.status >= 400


async def test_a_file_of_another_is_not_deleted_or_read(target: Target) -> None:
    """Open WebUI CVE-2026-45671 (delete), Dify CVE-2026-41947 "DifyTap" (read): the id is enough."""
    file_id = await target.file(b"only mine")
    nothing = await target.ask("GET", "/v1/files/file-nothing", target.strangers_key)
    for method, path in (
        ("DELETE", f"/v1/files/{file_id}"), ("GET", f"/v1/files/{file_id}"), ("GET", f"/v1/files/{file_id}/content"),
    ):  # fmt: skip
        answer = await target.ask(method, path, target.strangers_key)
        assert answer.status == nothing.status == 404
        assert answer.error["message"].replace(file_id, "file-nothing") == nothing.error["message"]
    assert (await target.ask("GET", "/v1/files", target.strangers_key)).json["data"] == []
    content = await target.ask("GET", f"/v1/files/{file_id}/content", target.owners_key)
    assert content.body == b"only mine"


async def test_a_conversation_of_another_is_not_read(target: Target) -> None:
    """Dify CVE-2026-41947 "DifyTap": other tenants' chats by their id."""
    made = await target.ask("POST", "/v1/responses", target.owners_key, json={"model": "echo", "input": "a secret"})
    assert made.status == 200, made.body
    response_id = made.json["id"]
    for method, path in (
        ("GET", f"/v1/responses/{response_id}"), ("GET", f"/v1/responses/{response_id}/input_items"),
        ("DELETE", f"/v1/responses/{response_id}"), ("POST", f"/v1/responses/{response_id}/cancel"),
    ):  # fmt: skip
        assert (await target.ask(method, path, target.strangers_key)).status == 404, path
    follow = {"model": "echo", "input": "go on", "previous_response_id": response_id}
    taken = await target.ask("POST", "/v1/responses", target.strangers_key, json=follow)
    assert taken.status in (400, 404)
    assert b"a secret" not in taken.body
    assert (await target.ask("GET", f"/v1/responses/{response_id}", target.owners_key)).status == 200


async def test_a_delete_by_path_reaches_no_file(target: Target, tmp_path: Path) -> None:
    """LocalAI CVE-2024-5182: the name in a DELETE is joined to a folder."""
    victim = tmp_path / "victim.txt"
    victim.write_text("still here")
    home = target.house.house.settings.home
    names = (
        "..%2F..%2Fvictim.txt", "../../victim.txt", "%2e%2e/%2e%2e/victim.txt", str(victim).replace("/", "%2F"),
        "..%5c..%5cvictim.txt", "....//....//victim.txt", "admin.key", "..%2Fadmin.key", "file-..%2f..%2fadmin.key",
    )  # fmt: skip
    for name in names:
        for path in ("/v1/models/", "/v1/files/", "/v1/hub/aliases/", "/v1/responses/", "/v1/uploads/"):
            answer = await target.house.ask("DELETE", path + name)
            assert answer.status in (400, 404, 405), (path, name, answer.body)
            assert (await target.house.ask("GET", path + name)).status in (400, 404, 405), (path, name)
    assert victim.read_text() == "still here"
    assert (home / "admin.key").exists()
    assert (home / "dayspring.db").exists()


async def test_a_delete_needs_a_key(target: Target) -> None:
    """Ray CVE-2026-27482: DELETE is left out of the check."""
    deletes = [path for method, path in routes(target) if method == "DELETE"]
    assert len(deletes) > 5
    for path in deletes:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"x-http-method-override": "GET"}):
            answer = await visit(target.house.app, "DELETE", path, headers=headers)
            assert (answer.status, answer.error["code"]) == (401, "invalid_api_key"), path


def _body(document: dict[str, Any], method: str, path: str) -> Any:
    """The least body that the route takes, by its description."""
    for template, operations in document["paths"].items():
        parts = ("x" if part.startswith("{") else part for part in template.split("/"))
        if "/".join(parts) == path and method.lower() in operations:
            content = operations[method.lower()].get("requestBody", {}).get("content", {})
            body = least(document, content["application/json"]["schema"]) if "application/json" in content else {}
            return body | {"currency": "USD", "threshold_amount": 100} if "currency" in body else body
    return {}


async def _everything(target: Target) -> dict[str, list[str]]:
    """Every row of every table."""

    def rows(connection: Connection) -> dict[str, list[str]]:
        names = inspect(connection).get_table_names()
        found = {name: connection.execute(select(text("*")).select_from(table(name))) for name in names}
        return {name: sorted(map(repr, result.fetchall())) for name, result in found.items()}

    return await target.house.house.db.read(rows)


async def test_the_management_plane_is_closed(target: Target) -> None:
    """Open WebUI CVE-2026-45350 (an administrator's things by id), vLLM's routes outside /v1: closed by default.

    A key that calls models opens nothing of the machine's and nothing of the organisation's.
    """
    _, caller = await target.house.new_key(scopes=frozenset({Scope.INFERENCE}))
    managed = [
        (method, path) for method, path in routes(target)
        if path.startswith(("/v1/organization", "/v1/hub", "/v1/webhook")) and not path.endswith("/search")
    ]  # fmt: skip
    assert len(managed) > 60
    document = target.house.app.openapi()
    before, closed = await _everything(target), 0
    own = {"/v1/organization", "/v1/organization/projects", "/v1/organization/roles"}  # what the key itself is in
    for method, path in managed:
        answer = await target.ask(method, f"{path}?start_time=1", caller, json=_body(document, method, path))
        if method == "GET" and path in own:
            assert len(answer.json.get("data", [])) <= 10
        else:
            assert answer.status in (400, 403, 404), (method, path, answer.status, answer.body)
            assert answer.error["message"]
            closed += answer.status != 400
    assert closed > len(managed) * 0.9  # the others named a fault of the body first
    assert await _everything(target) == before
    open_to_all = {"/", "/docs", "/openapi.json", "/healthz", "/readyz", "/metrics"}
    assert {path for _, path in routes(target) if not path.startswith("/v1/")} <= open_to_all


async def test_the_first_visitor_does_not_become_administrator(tmp_path: Path) -> None:
    """Xinference's /v1/admin/setup: whoever comes first, the operator or not, owns the installation."""
    settings = Settings(home=tmp_path / "home", default_pack=False)
    with House.open(settings) as one, House.open(settings) as two:
        made = [key for key in await asyncio.gather(one.first_start(), two.first_start()) if key is not None]
        assert len(made) == 1
        token = (settings.home / "admin.key").read_text().strip()
        assert (settings.home / "admin.key").stat().st_mode & 0o077 == 0
        assert (await one.accounts.authenticate(token)).is_admin
        admins = [key for key in await one.accounts.list_keys() if Scope.ADMIN in key.scopes]
        assert len(admins) == 1


async def test_nobody_makes_an_administrator_over_http_without_being_one(target: Target) -> None:
    """The same, later: no route gives more than its caller has."""
    _, manager = await target.house.new_key(scopes=frozenset({Scope.MANAGE, Scope.INFERENCE, Scope.USAGE}))
    for key in (target.strangers_key, manager, ""):
        for path, body in (
            ("/v1/organization/admin_api_keys", {"name": "mine"}),
            (f"/v1/organization/projects/{target.owner.project_id}/api_keys", {"name": "m", "scopes": ["admin"]}),
            ("/v1/organizations", {"name": "mine"}),
            ("/v1/admin/setup", {"username": "a", "password": "b"}),
            ("/v1/setup", {}),
        ):  # fmt: skip
            before = {each.id for each in await target.house.house.accounts.list_keys()}
            answer = await target.ask("POST", path, key, json=body)
            after = [each for each in await target.house.house.accounts.list_keys() if each.id not in before]
            assert not [each for each in after if Scope.ADMIN in each.scopes], (path, body)
            if "admin" in str(body) or "admin_api" in path:
                assert answer.status in (400, 401, 403, 404) or key == manager, (path, answer.body)


async def test_the_job_api_is_not_open(target: Target) -> None:
    """Ray CVE-2023-48022 (ShadowRay): whoever reaches the port runs a job."""
    jobs = [(method, path) for method, path in routes(target) if path.startswith(("/v1/jobs", "/v1/batches"))]
    assert len(jobs) > 5
    for method, path in jobs:
        assert (await visit(target.house.app, method, path, json={})).status == 401, path
    file_id = await target.file(b'{"custom_id":"1","method":"POST","url":"/v1/embeddings","body":{}}\n', "a.jsonl")
    body = {"input_file_id": file_id, "endpoint": "/v1/embeddings", "completion_window": "24h"}
    taken = await target.ask("POST", "/v1/batches", target.strangers_key, json=body)
    assert taken.status in (400, 404)
    for endpoint in ("/v1/organization/users", "http://127.0.0.1/", "../../etc/passwd", "/v1/hub/models"):
        answer = await target.ask("POST", "/v1/batches", target.owners_key, json=body | {"endpoint": endpoint})
        assert answer.status == 400, endpoint


async def test_a_pickle_in_a_body_is_bytes(target: Target, tmp_path: Path) -> None:
    """BentoML CVE-2025-27520 and CVE-2025-32375: a content type makes the server unpickle the body, without a key."""
    marker = tmp_path / "ran"
    bomb = pickle.dumps(Bomb(marker))
    kinds = ("application/vnd.bentoml+pickle", "application/octet-stream", "application/x-pickle", "application/json")
    for method, path in routes(target):
        if method not in ("POST", "PUT", "PATCH"):
            continue
        for kind in kinds[: 1 if path.startswith("/v1/organization") else 4]:
            headers = {"content-type": kind, "payload-container": "pickle", "args-number": "1"}
            await visit(target.house.app, method, path, body=[bomb], headers=headers)
            answer = await target.house.ask(method, path, body=[bomb], headers=headers)
            assert answer.status < 500, (path, kind, answer.body)
    assert not marker.exists()


def test_the_bomb_would_go_off(tmp_path: Path) -> None:
    """A test that cannot fail is a defect."""
    pickle.loads(pickle.dumps(Bomb(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("count", [40])
async def test_check_then_deduct_lets_nobody_overdraw(target: Target, count: int) -> None:
    """New-API issue 6609, LiteLLM issues 26672 and 23714: many requests at once, each sees the budget untouched."""
    body = {"model": "echo", "messages": [{"role": "user", "content": "word " * 20}], "max_tokens": 50}
    alone, key = await target.house.new_key(budget_nanos=10_000_000_000)
    assert (await target.ask("POST", "/v1/chat/completions", key, json=body)).status == 200
    cost = (await target.house.house.accounts.budget(alone.key_id)).spent_nanos
    assert cost > 0
    poor, poor_key = await target.house.new_key(budget_nanos=4 * cost + cost // 2)
    answers = await asyncio.gather(
        *(target.ask("POST", "/v1/chat/completions", poor_key, json=body) for _ in range(count))
    )
    budget = await target.house.house.accounts.budget(poor.key_id)
    assert {answer.status for answer in answers} <= {200, 429}
    served = sum(answer.status == 200 for answer in answers)
    assert 1 <= served <= 4
    assert budget.spent_nanos == served * cost <= 4 * cost + cost // 2
    assert budget.held_nanos == 0
