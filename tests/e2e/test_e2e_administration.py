"""The official client's administration resources against a live server, and what each change does at once."""

from typing import Any

import httpx2 as httpx
import openai
import pytest

from live import Started

MESSAGES: Any = [{"role": "user", "content": "one two three"}]


def user_of(echo_server: Started, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=echo_server.base_url, api_key=key, admin_api_key=key, max_retries=0)


def ask(client: openai.OpenAI) -> str:
    return client.chat.completions.create(model="echo", messages=MESSAGES).choices[0].message.content or ""


def test_projects_are_made_listed_changed_and_archived(client: openai.OpenAI, echo_server: Started) -> None:
    projects = client.admin.organization.projects
    made = projects.create(name="research")
    assert (made.object, made.status) == ("organization.project", "active")
    assert projects.retrieve(made.id).name == "research"
    assert projects.update(made.id, name="science").name == "science"
    assert [each.name for each in projects.list(limit=1)] == ["default", "science"], "the pages follow each other"
    account = projects.service_accounts.create(made.id, name="robot")
    assert account.api_key is not None
    robot = user_of(echo_server, account.api_key.value)
    assert ask(robot)
    assert projects.archive(made.id).status == "archived"
    with pytest.raises(openai.AuthenticationError):
        ask(robot)
    assert made.id not in [each.id for each in projects.list()]
    assert made.id in [each.id for each in projects.list(include_archived=True)]
    with pytest.raises(openai.ConflictError):
        projects.service_accounts.create(made.id, name="late")


def test_keys_are_listed_changed_rotated_and_deleted(client: openai.OpenAI, echo_server: Started) -> None:
    organization = client.admin.organization
    project = organization.projects.create(name="keys")
    account = organization.projects.service_accounts.create(project.id, name="robot", expires_in_seconds=3600)
    assert account.api_key is not None
    key_id, secret = account.api_key.id, account.api_key.value
    keys = organization.projects.api_keys
    [shown] = keys.list(project.id)
    assert (shown.id, shown.name, shown.owner.type) == (key_id, "robot", "service_account")
    assert shown.owner.service_account is not None
    assert shown.owner.service_account.id == account.id
    assert secret not in shown.redacted_value
    place = f"/organization/projects/{project.id}/api_keys/{key_id}"
    changed: Any = client.post(place, cast_to=object, body={"name": "robot 2", "allowed_models": ["other"]})
    assert changed["name"] == "robot 2"
    with pytest.raises(openai.NotFoundError):
        ask(user_of(echo_server, secret))
    client.post(place, cast_to=object, body={"allowed_models": None})
    rotated: Any = client.post(f"{place}/rotate", cast_to=object, body={"grace_seconds": 3600})
    assert rotated["id"] == key_id
    assert ask(user_of(echo_server, secret))
    assert ask(user_of(echo_server, rotated["value"]))
    again: Any = client.post(f"{place}/rotate", cast_to=object, body={})
    for ended in (secret, rotated["value"]):
        with pytest.raises(openai.AuthenticationError):
            ask(user_of(echo_server, ended))
    assert ask(user_of(echo_server, again["value"]))
    more = organization.projects.service_accounts.api_keys.create(account.id, project_id=project.id, name="second")
    assert ask(user_of(echo_server, more.value))
    assert keys.delete(key_id, project_id=project.id).deleted
    with pytest.raises(openai.AuthenticationError):
        ask(user_of(echo_server, again["value"]))
    with pytest.raises(openai.NotFoundError):
        keys.retrieve(key_id, project_id=project.id)
    assert organization.projects.service_accounts.delete(account.id, project_id=project.id).deleted
    with pytest.raises(openai.AuthenticationError):
        ask(user_of(echo_server, more.value))


def test_admin_keys_manage_the_organization_and_nothing_else(client: openai.OpenAI, echo_server: Started) -> None:
    made = client.admin.organization.admin_api_keys.create(name="terraform")
    manager = user_of(echo_server, made.value)
    assert made.id in [each.id for each in client.admin.organization.admin_api_keys.list(order="desc")]
    assert manager.admin.organization.projects.create(name="by terraform").status == "active"
    with pytest.raises(openai.PermissionDeniedError):
        ask(manager)
    with pytest.raises(openai.PermissionDeniedError):
        manager.get("/organizations", cast_to=object)
    assert client.admin.organization.admin_api_keys.delete(made.id).deleted
    with pytest.raises(openai.AuthenticationError):
        list(manager.admin.organization.projects.list())


def test_people_are_invited_given_roles_and_removed(client: openai.OpenAI, echo_server: Started) -> None:
    organization = client.admin.organization
    project = organization.projects.create(name="people")
    invite = organization.invites.create(
        email="ann@example.org", role="reader", projects=[{"id": project.id, "role": "member"}]
    )
    assert (invite.status, invite.role) == ("pending", "reader")
    token = invite.to_dict()["token"]
    body = {"token": token, "name": "Ann", "password": "correct horse battery"}
    session = httpx.post(f"{echo_server.base_url}/invites/accept", json=body).json()
    ann = user_of(echo_server, session["token"])
    assert ask(ann)
    with pytest.raises(openai.PermissionDeniedError):
        ann.admin.organization.projects.create(name="mine")
    user = organization.users.retrieve(session["user_id"])
    assert (user.email, user.role) == ("ann@example.org", "reader")
    assert user.projects is not None
    assert [each.id for each in user.projects.data] == [project.id]
    assert organization.invites.retrieve(invite.id).status == "accepted"
    [member] = organization.projects.users.list(project.id)
    assert (member.id, member.role) == (user.id, "member")
    assert organization.projects.users.update(user.id, project_id=project.id, role="owner").role == "owner"
    assert ann.admin.organization.projects.service_accounts.create(project.id, name="hers").id
    assert [each.id for each in ann.admin.organization.projects.list()] == [project.id]
    assert organization.projects.users.delete(user.id, project_id=project.id).deleted
    with pytest.raises(openai.PermissionDeniedError):
        ask(ann)
    assert organization.users.update(user.id, role="owner").role == "owner"
    with pytest.raises(openai.AuthenticationError):
        ask(ann)
    signed = {"email": "Ann@example.org", "password": "correct horse battery"}
    again = httpx.post(f"{echo_server.base_url}/sessions", json=signed).json()
    assert user_of(echo_server, again["token"]).admin.organization.users.list().data
    assert organization.users.delete(user.id).deleted
    assert httpx.post(f"{echo_server.base_url}/sessions", json=signed).status_code == 401
    with pytest.raises(openai.AuthenticationError):
        ask(user_of(echo_server, again["token"]))


def test_a_session_works_in_the_project_that_the_client_names(client: openai.OpenAI, echo_server: Started) -> None:
    projects = client.admin.organization.projects
    first, second = projects.create(name="first"), projects.create(name="second")
    places = [{"id": project.id, "role": "member"} for project in (first, second)]
    body = {"email": "eve@example.org", "password": "correct horse battery", "projects": places}
    client.post("/organization/users", cast_to=object, body=body)
    session = httpx.post(
        f"{echo_server.base_url}/sessions", json={name: body[name] for name in ("email", "password")}
    ).json()
    eve = openai.OpenAI(base_url=echo_server.base_url, api_key=session["token"], project=second.id, max_retries=0)
    answer = eve.chat.completions.with_raw_response.create(model="echo", messages=MESSAGES)
    account: Any = client.get(f"/organization/requests/{answer.headers['x-request-id']}", cast_to=object)
    assert (account["project_id"], account["api_key_id"]) == (second.id, session["user_id"])
    stranger = openai.OpenAI(
        base_url=echo_server.base_url, api_key=session["token"], project="proj_none", max_retries=0
    )
    with pytest.raises(openai.NotFoundError):
        ask(stranger)


def test_the_audit_log_tells_who_changed_what(client: openai.OpenAI) -> None:
    project = client.admin.organization.projects.create(name="audited")
    client.admin.organization.projects.update(project.id, name="audited 100%")
    logs = client.admin.organization.audit_logs
    found = list(logs.list(project_ids=[project.id], limit=1))
    assert [entry.type for entry in found] == ["project.updated", "project.created"]
    assert found[0].project_updated is not None
    assert found[0].project_updated.changes_requested is not None
    assert found[0].actor is not None
    assert found[0].actor.type == "api_key"
    assert [entry.type for entry in logs.list(event_types=["project.created"], resource_ids=[project.id])] == [
        "project.created"
    ]
    assert not list(logs.list(project_ids=[project.id], effective_at={"lt": found[1].effective_at}))
    assert list(logs.list(project_ids=[project.id], effective_at={"gte": found[1].effective_at}))
    text: Any = client.get("/organization/audit_logs?text=100%25", cast_to=object)
    assert [entry["type"] for entry in text["data"]] == ["project.updated"]


def test_roles_and_retention_have_their_shapes(client: openai.OpenAI) -> None:
    roles = list(client.admin.organization.roles.list())
    assert {role.name for role in roles} == {"owner", "reader", "member", "viewer"}
    project = client.admin.organization.projects.create(name="tidy")  # the others' tests need room in the default one
    assert client.admin.organization.projects.data_retention.retrieve(project.id).type == "none"
    place = f"/organization/projects/{project.id}"
    kept: Any = client.post(f"{place}/data_retention", cast_to=object, body={"days": {"responses": 30}})
    assert (kept["type"], kept["days"]["responses"], kept["days"]["files"]) == ("custom", 30, None)
    with pytest.raises(openai.BadRequestError):
        client.post(f"{place}/data_retention", cast_to=object, body={"days": {"dreams": 30}})
    stored: Any = client.post(f"{place}/storage", cast_to=object, body={"limit_bytes": 1_000_000})
    assert (stored["limit_bytes"], stored["used_bytes"]) == (1_000_000, 0)
