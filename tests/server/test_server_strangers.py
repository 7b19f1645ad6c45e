"""A stranger's key against every id of every route: 0 reads, 0 writes, 0 counts.

The owner makes one of everything that has an id. Two strangers, a member of another project and whoever manages
another organization, then try every route with the owner's ids, also mixed with their own.

What holds: the owner's id answers a stranger exactly as an id that never was; what a stranger sees of every list and
count is, byte for byte, what it was before the owner made anything; what the owner sees is what it was before the
strangers tried. A new kind of id that this walk does not make fails it.
"""

import asyncio
import json
import re
import time
from typing import Any

from server_house import CHAT, HELLO, Served

from asgi import Answer
from dayspring.accounts.principals import Scope

START = f"start_time={int(time.time()) // 86_400 * 86_400 - 86_400}"
"""Reports begin with yesterday: what the owner does is on their first page."""
QUERY = {"/v1/hub/plan": "source=nowhere", "/v1/hub/search": "query=x"}
SHARED = {
    "model": "models are the installation's",
    "alias": "aliases are the installation's",
    "role_id": "roles are the same in every organization",
    "rate_limit_id": "the name of a limit is the same for everyone",
    "download_id": "downloads are the installation's, and for its administrators",
}
"""Ids that are nobody's; what a stranger may do with them is tested with their rooms."""
FORM = {"content-type": "multipart/form-data; boundary=cut"}
NEVER = "0000000000000000000000000f"
"""The end of an id that never was."""


def form(**fields: str) -> list[bytes]:
    """A multipart body; the field `file` or `data` is a file."""
    parts = []
    for name, value in fields.items():
        place = f'; filename="{name}.jsonl"' if name in ("file", "data") else ""
        parts.append(f'--cut\r\nContent-Disposition: form-data; name="{name}"{place}\r\n\r\n{value}\r\n')
    return ["".join([*parts, "--cut--\r\n"]).encode()]


class Owner:
    """Makes one of everything, and knows the ids by the names they have in paths."""

    def __init__(self, house: Served, key: str) -> None:
        self.house = house
        self.key = key
        self.ids: dict[str, str] = {}

    async def made(self, path: str, *, admin: bool = True, **more: Any) -> dict[str, Any]:
        answer = await self.house.ask("POST", path, key=None if admin else self.key, **more)
        assert answer.status in (200, 201), (path, answer.status, answer.body[:500])
        return dict(answer.json)

    async def everything(self) -> None:
        ids, project = self.ids, await self.house.house.accounts.list_projects()
        ids["project_id"] = project[0].id
        place = f"/v1/organization/projects/{project[0].id}"
        ids["api_key_id"] = ids["key_id"] = (await self.made(f"{place}/api_keys", json={"name": "k"}))["id"]
        ids["admin_key_id"] = (await self.made("/v1/organization/admin_api_keys", json={"name": "a"}))["id"]
        ids["account_id"] = (await self.made(f"{place}/service_accounts", json={"name": "robot"}))["id"]
        person = {"email": "owner@example.org", "password": "correct horse battery", "role": "owner"}
        ids["user_id"] = (await self.made("/v1/organization/users", json=person))["id"]
        session = await self.made("/v1/sessions", json={key: person[key] for key in ("email", "password")})
        ids["session_id"] = session["id"]
        invite = {"email": "guest@example.org", "role": "reader"}
        ids["invite_id"] = (await self.made("/v1/organization/invites", json=invite))["id"]
        alert = {"threshold_nanos": 1, "currency": "USD", "interval": "month"}
        ids["alert_id"] = (await self.made(f"{place}/spend_alerts", json=alert))["id"]
        await self.made(CHAT, admin=False, json=HELLO)  # raises it, while there is nobody to post that to
        raised = await self.house.ask("GET", "/v1/organization/spend_alert_events")
        assert [event["alert_id"] for event in raised.json["data"]] == [ids["alert_id"]]
        hook = {"name": "h", "url": "https://hooks.example.org/x", "event_types": ["spend_alert.raised"]}
        ids["webhook_endpoint_id"] = (await self.made("/v1/webhook_endpoints", json=hook))["id"]
        await self._of_the_project()

    async def _of_the_project(self) -> None:
        ids = self.ids
        lines = [
            json.dumps({"custom_id": f"c{n}", "method": "POST", "url": "/v1/embeddings",
                        "body": {"model": "echo", "input": "private-line"}})
            for n in range(3)
        ]  # fmt: skip
        sent = form(purpose="batch", file="\n".join(lines) + "\n")
        ids["file_id"] = (await self.made("/v1/files", admin=False, body=sent, headers=FORM))["id"]
        upload = {"bytes": 3, "filename": "u.jsonl", "mime_type": "application/jsonl", "purpose": "batch"}
        ids["upload_id"] = (await self.made("/v1/uploads", admin=False, json=upload))["id"]
        await self.made(f"/v1/uploads/{ids['upload_id']}/parts", admin=False, body=form(data="{}\n"), headers=FORM)
        said = await self.house.ask(
            "POST", "/v1/responses", key=self.key, json={"model": "echo", "input": "private-note", "user": "private-me"}
        )
        assert said.status == 200, said.body
        ids["response_id"], ids["request_id"] = said.json["id"], said.headers["x-request-id"]
        ids["item_id"] = said.json["output"][0]["id"]
        kept = HELLO | {"store": True, "metadata": {"note": "private-note"}}
        ids["completion_id"] = (await self.made("/v1/chat/completions", admin=False, json=kept))["id"]
        order = {"input_file_id": ids["file_id"], "endpoint": "/v1/embeddings", "completion_window": "24h"}
        ids["batch_id"] = (await self.made("/v1/batches", admin=False, json=order))["id"]
        async with asyncio.timeout(60):
            while True:
                batch = (await self.house.ask("GET", f"/v1/batches/{ids['batch_id']}", key=self.key)).json
                if batch["status"] == "completed":
                    break
                assert batch["status"] != "failed", batch
        async with asyncio.timeout(60):
            while True:  # it ends a moment after its batch
                (job,) = (await self.house.ask("GET", "/v1/jobs", key=self.key)).json["data"]
                if job["status"] == "completed":
                    break
        ids["job_id"] = job["id"]


class Walk:
    """Every operation of the OpenAPI document, with ids put in."""

    def __init__(self, house: Served) -> None:
        self.house = house
        self.document = house.app.openapi()
        self.operations = [
            (method.upper(), path, operation)
            for path, methods in self.document["paths"].items()
            if path.startswith("/v1/")
            for method, operation in methods.items()
        ]

    def names(self, path: str) -> list[str]:
        return [name.split(":")[0] for name in re.findall(r"{([^}]*)}", path)]

    def smallest(self, schema: dict[str, Any]) -> Any:
        """A small value that fits the schema."""
        if "$ref" in schema:
            return self.smallest(self.document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]])
        for way in ("anyOf", "oneOf", "allOf"):
            if way in schema:
                return self.smallest(schema[way][0])
        if "const" in schema or "enum" in schema:
            return schema.get("const", schema.get("enum", [None])[0])
        match schema.get("type"):
            case "object":
                fields = schema.get("properties", {})
                return {name: self.smallest(fields[name]) for name in schema.get("required", [])}
            case "array":
                return [self.smallest(schema["items"])] if schema.get("minItems") else []
            case "integer" | "number":
                return max(schema.get("minimum", 0), schema.get("exclusiveMinimum", -1) + 1)
            case "boolean":
                return False
        return "x" * max(1, schema.get("minLength", 1))

    def body(self, operation: dict[str, Any]) -> dict[str, Any]:
        """What `ask` sends: the smallest body that fits."""
        content = operation.get("requestBody", {}).get("content", {})
        if "application/json" in content:
            return {"json": self.smallest(content["application/json"]["schema"])}
        if "multipart/form-data" in content:
            return {"body": form(purpose="batch", file="{}\n", data="{}\n"), "headers": FORM}
        return {}

    async def ask(self, method: str, path: str, operation: dict[str, Any], ids: dict[str, str], key: str) -> Answer:
        filled = path
        for name in self.names(path):
            known = "admin_key_id" if path.startswith("/v1/organization/admin_api_keys") else name
            filled = re.sub(r"{" + name + r"(:path)?}", ids[known], filled)
        query = QUERY.get(path, START)
        return await self.house.ask(method, f"{filled}?{query}", key=key, **self.body(operation))

    async def lists(self, key: str) -> dict[str, bytes]:
        """Every answer to a GET that needs no id."""
        seen = {}
        for method, path, operation in self.operations:
            moves = path.startswith("/v1/hub") or "export" in path or path.endswith("/margins")  # with idle time
            if method == "GET" and not self.names(path) and not moves:
                answer = await self.ask(method, path, operation, {}, key)
                seen[path] = str(answer.status).encode() + re.sub(rb"req_\w+", b"req", answer.body)
        return seen

    async def reads(self, ids: dict[str, str], key: str) -> dict[str, bytes]:
        """Every answer to a GET, with ids or without; what tells the time or only ends with its job apart."""
        seen = await self.lists(key)
        for method, path, operation in self.operations:
            names = self.names(path)
            if path.endswith(("/events", "/export")):  # a stream; and what the audit log notes when it is read
                continue
            if method == "GET" and names and not set(names) & set(SHARED):
                answer = await self.ask(method, path, operation, ids, key)
                seen[path] = str(answer.status).encode() + re.sub(rb"req_\w+", b"req", answer.body)
        return seen


def naming(ids: dict[str, str], own: dict[str, str]) -> list[tuple[str, str, dict[str, Any] | None]]:
    """Requests that name ids elsewhere than in their path: method, path and body."""
    place = f"/v1/organization/projects/{own['project_id']}"
    user, project = ids["user_id"], ids["project_id"]
    batch = {"input_file_id": ids["file_id"], "endpoint": "/v1/embeddings", "completion_window": "24h"}
    asked: list[tuple[str, str, dict[str, Any] | None]] = [
        ("POST", "/v1/responses", {"model": "echo", "input": "x", "previous_response_id": ids["response_id"]}),
        ("POST", "/v1/responses/input_tokens", {"model": "echo", "previous_response_id": ids["response_id"]}),
        ("POST", "/v1/responses", {"model": "echo", "input": [{"type": "item_reference", "id": ids["item_id"]}]}),
        ("POST", "/v1/batches", batch),
        ("POST", f"{place}/users", {"user_id": user, "role": "owner"}),
        ("POST", f"{place}/api_keys", {"name": "x", "user_id": user}),
        ("POST", "/v1/organization/invites", {"email": "a@b.c", "role": "reader", "projects": [{"id": project}]}),
        ("POST", "/v1/organization/users", {"email": "a@b.c", "role": "reader", "projects": [{"id": project}]}),
    ]
    filters = {
        "/v1/files": ("after",), "/v1/batches": ("after",), "/v1/jobs": ("after",), "/v1/chat/completions": ("after",),
        "/v1/organization/requests": ("project_id", "api_key_id"),
        "/v1/organization/costs": ("project_ids", "api_key_ids"),
        "/v1/organization/usage/completions": ("project_ids", "api_key_ids"),
        "/v1/organization/audit_logs": ("project_ids", "resource_ids", "actor_ids"),
        "/v1/organization/spend_alert_events": ("owner_id",),
    }  # fmt: skip
    cursors = {"/v1/files": "file_id", "/v1/batches": "batch_id", "/v1/jobs": "job_id"}
    for path, names in filters.items():
        for name in names:
            kind = cursors.get(path, "completion_id") if name == "after" else (
                "key_id" if "key" in name or "actor" in name else "project_id"
            )  # fmt: skip
            asked.append(("GET", f"{path}?{START}&{name}={ids[kind]}", None))
    return asked


def unlike(answer: Answer) -> tuple[int, str]:
    """The answer without the ids in it."""
    return answer.status, re.sub(r"([a-z]+[-_])[0-9a-z]{26}", r"\1", answer.body.decode(errors="replace"))


async def strangers(house: Served) -> dict[str, tuple[str, dict[str, str]]]:
    """By name: a key, and what ids it has itself."""
    project = await house.house.accounts.create_project("stranger")
    everything = frozenset({Scope.INFERENCE, Scope.USAGE})
    principal, member = await house.new_key(project_id=project.id, sees_cost=True, scopes=everything)
    answer = await house.ask("POST", "/v1/organizations", json={"name": "other"})
    assert answer.status == 200, answer.body
    other = [each for each in await house.house.accounts.list_projects() if each.organization_id == answer.json["id"]]
    if not other:
        made = await house.house.accounts.create_project("theirs", organization_id=answer.json["id"])
        other = [made]
    theirs, manager = await house.new_key(
        project_id=other[0].id, sees_cost=True, scopes=everything | {Scope.MANAGE}
    )  # fmt: skip
    return {
        "member of another project": (member, {"project_id": project.id, "key_id": principal.key_id}),
        "manager of another organization": (manager, {"project_id": other[0].id, "key_id": theirs.key_id}),
    }


async def test_a_stranger_reads_writes_and_counts_nothing(house: Served) -> None:
    walk, known = Walk(house), await strangers(house)
    _, key = await house.new_key(sees_cost=True)
    before = {name: await walk.lists(each[0]) for name, each in known.items()}
    owner = Owner(house, key)
    await owner.everything()
    owned = {"administrator": await walk.reads(owner.ids, house.key), "owner": await walk.reads(owner.ids, key)}
    never = {name: value[: -len(NEVER)] + NEVER for name, value in owner.ids.items()}
    wrong, tried = [], 0
    for who, (token, own) in known.items():
        for method, path, operation in walk.operations:
            names = [name for name in walk.names(path) if name not in SHARED]
            if not names:
                continue
            assert set(names) <= set(owner.ids), f"{path}: make a thing with this id in Owner.everything"
            shared = dict.fromkeys(SHARED, "x")
            mixes = [({}, {})] + ([(own, own)] if set(names) & set(own) and set(names) - set(own) else [])
            for mixed, _ in mixes:
                asked = owner.ids | shared | mixed
                fake = never | shared | mixed
                real, nothing = [await walk.ask(method, path, operation, ids, token) for ids in (asked, fake)]
                tried += 1
                if real.status < 400 or unlike(real) != unlike(nothing):
                    wrong.append((who, method, path, bool(mixed), unlike(real), unlike(nothing)))
        for named, nowhere in zip(naming(owner.ids, own), naming(never, own), strict=True):
            method, path, body = named
            real = await house.ask(method, path, key=token, json=body)
            nothing = await house.ask(method, nowhere[1], key=token, json=nowhere[2])
            tried += 1
            if unlike(real) != unlike(nothing) or (method == "POST" and real.status < 400):
                wrong.append((who, method, path, False, unlike(real), unlike(nothing)))
        place = f"/v1/organization/projects/{own['project_id']}/users"
        for email in ("owner@example.org", "nobody@example.org"):
            found = await house.ask("POST", place, key=token, json={"email": email, "role": "owner"})
            assert found.status in (403, 404), (who, email)
    assert wrong == []
    assert tried > 150
    for name, each in known.items():
        after = await walk.lists(each[0])
        assert {path: body for path, body in after.items() if body != before[name][path]} == {}, name
    seen = {"administrator": await walk.reads(owner.ids, house.key), "owner": await walk.reads(owner.ids, key)}
    for name, reads in seen.items():
        assert {path: body for path, body in reads.items() if body != owned[name][path]} == {}, name
