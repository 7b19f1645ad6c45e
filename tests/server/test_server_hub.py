"""The hub over HTTP: who may, plans, downloads, aliases, loading; and that a name leads to an answer."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from server_house import CHAT, HELLO, Served, served

from dayspring.accounts.principals import Scope
from hub.hub_files import gguf
from live import echo_model

ADMIN_ONLY = [
    ("GET", "/v1/hub/plan?source=smollm2-135m-instruct"), ("POST", "/v1/hub/models"), ("GET", "/v1/hub/models"),
    ("GET", "/v1/hub/downloads"), ("GET", "/v1/hub/downloads/dl_1"), ("GET", "/v1/hub/downloads/dl_1/events"),
    ("POST", "/v1/hub/downloads/dl_1/pause"), ("POST", "/v1/hub/downloads/dl_1/resume"),
    ("POST", "/v1/hub/downloads/dl_1/cancel"), ("GET", "/v1/hub/aliases"), ("POST", "/v1/hub/aliases/x"),
    ("DELETE", "/v1/hub/aliases/x"), ("POST", "/v1/models/echo/load"), ("POST", "/v1/models/echo/unload"),
    ("POST", "/v1/models/echo/pin"), ("POST", "/v1/models/echo/unpin"), ("DELETE", "/v1/models/echo"),
]  # fmt: skip


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Served]:
    closed = "http://127.0.0.1:9"
    async with served(
        tmp_path / "home",
        echo_model(),
        echo_model("other"),
        hf_endpoint=closed,
        modelscope_endpoint=closed,
        civitai_endpoint=closed,
        local_sources=True,
    ) as house:
        yield house


@pytest.mark.parametrize(("method", "path"), ADMIN_ONLY)
async def test_only_an_administrator_changes_or_sees_the_machine(house: Served, method: str, path: str) -> None:
    _, manager = await house.new_key(scopes=frozenset({Scope.MANAGE, Scope.INFERENCE, Scope.USAGE}))
    answer = await house.ask(method, path, key=manager)
    assert (answer.status, answer.error["code"]) == (403, "permission_denied")
    assert (await house.ask(method, path, key="")).status == 401


async def test_a_search_is_for_those_who_manage(house: Served) -> None:
    _, key = await house.new_key()
    assert (await house.ask("GET", "/v1/hub/search?query=x", key=key)).status == 403
    _, manager = await house.new_key(scopes=frozenset({Scope.MANAGE}))
    answer = await house.ask("GET", "/v1/hub/search?query=x&source=hf", key=manager)
    assert (answer.status, answer.json["data"]) == (200, [])
    assert [each["hub"] for each in answer.json["failures"]] == ["hf"]
    assert (await house.ask("GET", "/v1/hub/search?query=x&source=nowhere", key=manager)).status == 400
    assert (await house.ask("GET", "/v1/hub/search?query=", key=manager)).status == 400


async def test_a_model_is_planned_added_watched_and_deleted(house: Served, tmp_path: Path) -> None:
    file = tmp_path / "Tiny.gguf"
    file.write_bytes(gguf())
    planned = await house.ask("GET", f"/v1/hub/plan?source=file:{file}&id=lab/tiny")
    assert (planned.json["id"], planned.json["engine"], planned.json["refusals"]) == ("lab/tiny", "llamacpp", [])
    assert planned.json["licence"]["commercial_use"]["verdict"] == "yes"
    body = {"source": f"file:{file}", "id": "lab/tiny"}
    order = await house.ask("POST", "/v1/hub/models", json=body)
    assert (order.status, order.json["object"]) == (200, "hub.download")
    watched = await house.ask("GET", f"/v1/hub/downloads/{order.json['id']}/events")
    assert '"status":"completed"' in watched.body.decode().replace(" ", "")
    listed = await house.ask("GET", "/v1/hub/downloads")
    assert [(each["id"], each["status"]) for each in listed.json["data"]] == [(order.json["id"], "completed")]
    models = await house.ask("GET", "/v1/hub/models")
    (tiny,) = [each for each in models.json["data"] if each["id"] == "lab/tiny"]
    assert (tiny["state"]["state"], tiny["size_bytes"], "path" in tiny) == ("unloaded", len(gguf()), False)
    assert (await house.ask("POST", "/v1/hub/models", json=body)).error["code"] == "conflict"
    gone = await house.ask("DELETE", "/v1/models/lab/tiny")
    assert gone.json == {"id": "lab/tiny", "object": "model", "deleted": True}
    assert (await house.ask("GET", "/v1/models/lab/tiny")).status == 404
    assert (await house.ask("DELETE", "/v1/models/lab/tiny")).status == 404


async def test_the_servers_own_disk_is_not_looked_at_over_http(tmp_path: Path) -> None:
    file = tmp_path / "Tiny.gguf"
    file.write_bytes(gguf())
    async with served(tmp_path / "home") as house:
        answers = []
        for source in (f"file:{file}", "file:/nowhere", f" file:{file}", f"bundle:{tmp_path}"):
            answers.append(await house.ask("GET", f"/v1/hub/plan?source={source.replace(' ', '%20')}"))
            answers.append(await house.ask("POST", "/v1/hub/models", json={"source": source, "id": "lab/tiny"}))
        assert {answer.status for answer in answers} == {403}
        assert len({answer.body for answer in answers}) == 1, "the same whether it is there or not"


async def test_terms_are_accepted_by_whoever_sends_it(house: Served, tmp_path: Path) -> None:
    file = tmp_path / "nc.gguf"
    file.write_bytes(gguf({"general.license": "cc-by-nc-4.0"}))
    body: dict[str, Any] = {"source": f"file:{file}"}
    refused = await house.ask("POST", "/v1/hub/models", json=body)
    assert (refused.status, "accept_licence" in refused.error["message"]) == (403, True)
    order = await house.ask("POST", "/v1/hub/models", json=body | {"accept_licence": True})
    await house.ask("GET", f"/v1/hub/downloads/{order.json['id']}/events")
    (accepted,) = await house.house.hub.acceptances()
    assert accepted.accepted_by


async def test_a_download_that_is_not_there_is_not_found(house: Served) -> None:
    for method, path in ADMIN_ONLY:
        if "/dl_1" in path:
            assert (await house.ask(method, path)).status == 404, path


async def test_an_alias_is_listed_shown_asked_and_removed(house: Served) -> None:
    made = await house.ask("POST", "/v1/hub/aliases/team/best", json={"target": "other", "fallbacks": ["echo"]})
    assert (made.json["id"], made.json["models"]) == ("team/best", ["other", "echo"])
    (listed,) = (await house.ask("GET", "/v1/hub/aliases")).json["data"]
    assert listed["id"] == "team/best"
    shown = await house.ask("GET", "/v1/models/team/best")
    assert (shown.json["id"], shown.json["alias_of"]) == ("team/best", ["other", "echo"])
    ids = [each["id"] for each in (await house.ask("GET", "/v1/models")).json["data"]]
    assert ids == ["echo", "other", "team/best"]
    said = await house.ask("POST", CHAT, json=HELLO | {"model": "team/best"})
    assert (said.status, said.json["model"]) == (200, "other"), "the answer names the model that gave it"
    for method, path in (("DELETE", "/v1/models/team/best"), ("POST", "/v1/models/team/best/load")):
        refused = await house.ask(method, path)
        assert (refused.status, "alias" in refused.error["message"]) == (404, True)
    assert (await house.ask("DELETE", "/v1/hub/aliases/team/best")).json["deleted"] is True
    assert (await house.ask("POST", CHAT, json=HELLO | {"model": "team/best"})).status == 404


async def test_a_key_that_names_an_alias_may_use_it_and_nothing_else(house: Served) -> None:
    await house.ask("POST", "/v1/hub/aliases/best", json={"target": "other"})
    _, key = await house.new_key(allowed_models=frozenset({"best"}))
    assert (await house.ask("POST", CHAT, key=key, json=HELLO | {"model": "best"})).json["model"] == "other"
    assert (await house.ask("POST", CHAT, key=key, json=HELLO | {"model": "other"})).status == 404
    assert [each["id"] for each in (await house.ask("GET", "/v1/models", key=key)).json["data"]] == ["best"]
    _, without = await house.new_key(allowed_models=frozenset({"other"}))
    assert (await house.ask("POST", CHAT, key=without, json=HELLO | {"model": "best"})).status == 404


async def test_models_are_loaded_pinned_and_let_go_of(house: Served) -> None:
    loaded = await house.ask("POST", "/v1/models/echo/load")
    assert loaded.json["state"] == "ready"
    assert (await house.ask("POST", "/v1/models/echo/pin")).json["pinned"] is True
    listed = (await house.ask("GET", "/v1/hub/models")).json["data"]
    assert [(each["id"], each["state"]["state"]) for each in listed] == [("echo", "ready"), ("other", "unloaded")]
    assert (await house.ask("POST", "/v1/models/echo/unpin")).json["pinned"] is False
    assert (await house.ask("POST", "/v1/models/echo/unload")).json["state"] == "unloaded"
    assert (await house.ask("POST", "/v1/models/echo/unload")).status == 404
    assert (await house.ask("POST", "/v1/models/gone/load")).status == 404


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/hub/models", {}),
        ("/v1/hub/models", {"source": "nonsense"}),
        ("/v1/hub/models", {"source": "hf:a/../b"}),
        ("/v1/hub/models", {"source": "civitai:x", "what": 1}),
        ("/v1/hub/models", {"source": "file:/nowhere/at-all.gguf"}),
        ("/v1/hub/aliases/x", {}),
        ("/v1/hub/aliases/x", {"target": "gone"}),
        ("/v1/hub/aliases/..%2fx", {"target": "echo"}),
        ("/v1/hub/aliases/x", {"target": "echo", "fallbacks": ["echo"]}),
    ],
)
async def test_a_faulty_request_is_refused_in_the_one_shape(house: Served, path: str, body: dict[str, Any]) -> None:
    answer = await house.ask("POST", path, json=body)
    assert answer.status in (400, 404), answer.body
    assert set(answer.error) == {"message", "type", "param", "code"}
