"""Stored chat completions through the official client's shapes: listed, read, changed, deleted, isolated."""

from pathlib import Path
from typing import Any

import orjson
from openai.types.chat import ChatCompletion
from server_house import CHAT, HELLO, Served, served

from dayspring.chat.kept.wire import KeptCompletion
from dayspring.chat.responses import stored


async def make(house: Served, **fields: Any) -> dict[str, Any]:
    answer = await house.ask("POST", CHAT, json={**HELLO, "store": True, **fields})
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.json
    return found


async def test_what_was_sent_is_what_is_stored_whole_or_streamed(tmp_path: Path) -> None:
    async with served(tmp_path) as house:
        made = await make(house, metadata={"topic": "a"}, n=2)
        kept = (await house.ask("GET", f"{CHAT}/{made['id']}")).json
        assert kept == made | {"metadata": {"topic": "a"}}
        KeptCompletion.model_validate(kept)
        ChatCompletion.model_validate(kept)
        streamed = await house.ask("POST", CHAT, json={**HELLO, "store": True, "stream": True})
        lines = [line for line in streamed.body.split(b"\n\n") if line.startswith(b"data: {")]
        identifier = orjson.loads(lines[0][6:])["id"]
        kept = (await house.ask("GET", f"{CHAT}/{identifier}")).json
        KeptCompletion.model_validate(kept)
        assert kept["choices"][0]["message"]["content"] == "one two three"
        assert kept["usage"]["completion_tokens"] == 3


async def test_nothing_is_stored_unasked(tmp_path: Path) -> None:
    async with served(tmp_path) as house:
        made = (await house.ask("POST", CHAT, json=HELLO)).json
        assert (await house.ask("GET", f"{CHAT}/{made['id']}")).error["code"] == "not_found"
        assert (await house.ask("GET", CHAT)).json["data"] == []


async def test_the_list_is_paged_and_filtered(tmp_path: Path) -> None:
    async with served(tmp_path) as house:
        made = [(await make(house, metadata={"n": str(number % 2)}))["id"] for number in range(5)]
        first = (await house.ask("GET", f"{CHAT}?limit=3")).json
        rest = (await house.ask("GET", f"{CHAT}?limit=3&after={first['last_id']}")).json
        assert [each["id"] for each in first["data"] + rest["data"]] == made
        assert (first["has_more"], rest["has_more"]) == (True, False)
        newest = (await house.ask("GET", f"{CHAT}?limit=1&order=desc")).json
        assert newest["data"][0]["id"] == made[-1]
        odd = (await house.ask("GET", f"{CHAT}?metadata[n]=1")).json
        assert [each["id"] for each in odd["data"]] == made[1::2]
        assert (await house.ask("GET", f"{CHAT}?model=none")).json["data"] == []
        assert (await house.ask("GET", f"{CHAT}?after=none")).error["param"] == "after"


async def test_metadata_changes_and_messages_are_listed(tmp_path: Path) -> None:
    async with served(tmp_path) as house:
        messages = [{"role": "user", "content": [{"type": "text", "text": "a"}]}, {"role": "user", "content": "b"}]
        made = await make(house, messages=messages)
        changed = await house.ask("POST", f"{CHAT}/{made['id']}", json={"metadata": {"x": "y"}})
        assert changed.json == made | {"metadata": {"x": "y"}}
        assert (await house.ask("GET", f"{CHAT}/{made['id']}")).json == changed.json
        listed = (await house.ask("GET", f"{CHAT}/{made['id']}/messages")).json["data"]
        assert [(each["content"], each["content_parts"]) for each in listed] == [
            (None, messages[0]["content"]), ("b", None),
        ]  # fmt: skip
        assert (await house.ask("DELETE", f"{CHAT}/{made['id']}")).json["deleted"] is True
        assert (await house.ask("DELETE", f"{CHAT}/{made['id']}")).status == 404


async def test_a_stranger_finds_none_of_it(tmp_path: Path) -> None:
    async with served(tmp_path) as house:
        made = await make(house)
        table = stored.responses
        moved = table.update().values(project_id="proj_b", organization_id="org_b")
        await house.house.db.write(lambda connection: connection.execute(moved) and None)
        _, key = await house.new_key()
        body = {"metadata": {}}
        for method, path, sent in (
            ("GET", "", None),
            ("POST", "", body),
            ("DELETE", "", None),
            ("GET", "/messages", None),
        ):
            assert (await house.ask(method, f"{CHAT}/{made['id']}{path}", json=sent, key=key)).status == 404
        assert (await house.ask("GET", CHAT, key=key)).json["data"] == []
        # A response's route does not show a completion either.
        assert (await house.ask("GET", f"/v1/responses/{made['id']}")).status == 404


async def test_a_full_project_stores_no_more_and_pays_nothing_for_trying(tmp_path: Path) -> None:
    async with served(tmp_path, project_disk_bytes=100) as house:
        await make(house)
        for path, body in ((CHAT, {**HELLO, "store": True}), ("/v1/responses", {"model": "echo", "input": "x"})):
            refused = await house.ask("POST", path, json=body)
            assert (refused.status, refused.error["code"]) == (413, "disk_quota_exceeded")
        assert (
            await house.ask("POST", "/v1/responses", json={"model": "echo", "input": "x", "store": False})
        ).status == 200
        assert (await house.ask("POST", CHAT, json=HELLO)).status == 200
        assert len((await house.ask("GET", "/v1/organization/requests")).json["data"]) == 3
