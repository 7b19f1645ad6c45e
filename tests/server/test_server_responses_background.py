"""Responses that are made in the background, or left by their client: gone on with, cancelled, ended by a crash."""

import asyncio
from pathlib import Path

import orjson
import pytest
from responses_kit import LONG, URL, count, events_of, make, slow, until
from server_house import served, settled
from sqlalchemy import Connection, select

from dayspring.chat.responses import stored
from dayspring.chat.responses.wire import ResponseObject
from dayspring.core.errors import Unavailable
from dayspring.ledger.requests import requests
from live import echo_model
from openai_events import check_stream, kinds


async def test_the_background_goes_on_when_its_client_has_left(tmp_path: Path) -> None:
    async with served(tmp_path, slow()) as house:
        made = await make(house, model="slow", background=True)
        assert (made["status"], made["background"], made["output"]) == ("queued", True, [])
        final = await until(house, made["id"], "completed")
        assert final["output"][0]["content"][0]["text"] == "one two three"
        assert final["usage"]["output_tokens"] == 3
        assert await count(house, requests) == 1
        events = events_of(await house.ask("GET", f"{URL}/{made['id']}?stream=true"))
        assert check_stream(events) == final
        assert kinds(events)[:3] == ["created", "queued", "in_progress"]
        late = events_of(await house.ask("GET", f"{URL}/{made['id']}?stream=true&starting_after=4"))
        assert late == events[5:]


async def test_a_stream_of_the_background_can_be_left_and_taken_up_again(tmp_path: Path) -> None:
    async with served(tmp_path, slow()) as house:
        body = orjson.dumps({"model": "slow", "input": "a b c d e f g h", "background": True, "stream": True})
        visit = house.visiting(URL, body)
        running = asyncio.ensure_future(visit.run())
        while b"output_text.delta" not in visit.answer.body:
            visit.sent.clear()
            await visit.sent.wait()
        visit.leave()
        await running
        seen = events_of(visit.answer)
        response_id = seen[0]["response"]["id"]
        again = await house.ask("GET", f"{URL}/{response_id}?stream=true&starting_after={seen[-1]['sequence_number']}")
        assert check_stream([*seen, *events_of(again)])["status"] == "completed"


async def test_a_foreground_stream_that_is_left_stops_and_is_not_kept(tmp_path: Path) -> None:
    async with served(tmp_path, slow()) as house:
        visit = house.visiting(URL, orjson.dumps({"model": "slow", "input": LONG, "stream": True}))
        running = asyncio.ensure_future(visit.run())
        while b"output_text.delta" not in visit.answer.body:
            visit.sent.clear()
            await visit.sent.wait()
        visit.leave()
        await running
        await settled(house)
        assert await count(house, stored.responses) == 0
        row = await house.house.db.read(lambda connection: connection.execute(select(requests)).one())
        assert row.status == "cancelled"
        assert row.output_tokens < 100


async def test_cancelling_stops_the_work_and_keeps_what_was_made(tmp_path: Path) -> None:
    async with served(tmp_path, slow()) as house:
        made = await make(house, LONG, model="slow", background=True)
        await until(house, made["id"], "in_progress")
        cancelled = (await house.ask("POST", f"{URL}/{made['id']}/cancel")).json
        ResponseObject.model_validate(cancelled)
        assert cancelled["status"] == "cancelled"
        assert cancelled["usage"]["output_tokens"] < 100
        assert (await house.ask("GET", f"{URL}/{made['id']}")).json == cancelled
        assert (await house.ask("POST", f"{URL}/{made['id']}/cancel")).json == cancelled
        events = events_of(await house.ask("GET", f"{URL}/{made['id']}?stream=true"))
        assert check_stream(events) == cancelled
        row = await house.house.db.read(lambda connection: connection.execute(select(requests)).one())
        assert (row.status, row.output_tokens) == ("cancelled", cancelled["usage"]["output_tokens"])
        refused = await house.ask("POST", f"{URL}/{(await make(house, model='slow'))['id']}/cancel")
        assert refused.status == 400


async def test_what_fails_in_the_background_is_failed_and_costs_nothing(tmp_path: Path) -> None:
    async with served(tmp_path, echo_model("broken", fail_after=2)) as house:
        made = await make(house, model="broken", background=True)
        final = await until(house, made["id"], "failed")
        assert final["error"]["code"] == "server_error"
        row = await house.house.db.read(lambda connection: connection.execute(select(requests)).one())
        assert (row.status, row.price_nanos) == ("failed", 0)


async def test_the_background_is_refused_at_once_where_the_budget_does_not_cover_it(tmp_path: Path) -> None:
    async with served(tmp_path) as house:
        _, key = await house.new_key(budget_nanos=1)
        refused = await house.ask("POST", URL, json={"model": "echo", "input": "x", "background": True}, key=key)
        assert (refused.status, refused.error["code"]) == (429, "insufficient_quota")
        assert await count(house, stored.responses) == 0


async def test_deleting_what_is_being_made_stops_it(tmp_path: Path) -> None:
    async with served(tmp_path, slow()) as house:
        made = await make(house, LONG, model="slow", background=True)
        await until(house, made["id"], "in_progress")
        assert (await house.ask("DELETE", f"{URL}/{made['id']}")).status == 200
        assert (await house.ask("GET", f"{URL}/{made['id']}")).status == 404
        await settled(house)
        assert await count(house, stored.responses) == await count(house, stored.response_items) == 0


async def test_what_another_server_was_asked_to_cancel_stops_here(tmp_path: Path) -> None:
    async with served(tmp_path, slow()) as house:
        made = await make(house, LONG, model="slow", background=True)
        await until(house, made["id"], "in_progress")
        await house.house.db.write(lambda connection: stored.mark(connection, made["id"], "cancelled"))
        await house.app.state.responses.watch()
        final = (await house.ask("GET", f"{URL}/{made['id']}")).json
        assert final["status"] == "cancelled"
        assert final["usage"]["output_tokens"] < 100


async def test_a_stop_of_the_server_ends_the_background_with_its_reason(tmp_path: Path) -> None:
    async with served(tmp_path, slow()) as house:
        made = await make(house, LONG, model="slow", background=True)
        await until(house, made["id"], "in_progress")
    async with served(tmp_path, echo_model("other")) as house:
        final = (await house.ask("GET", f"{URL}/{made['id']}")).json
        assert final["status"] == "failed"
        assert "stopped" in final["error"]["message"]
        # Its single events are gone with the server; the last one has everything.
        events = events_of(await house.ask("GET", f"{URL}/{made['id']}?stream=true"))
        assert kinds(events) == ["created", "in_progress", "failed"]
        assert events[-1]["response"] == final
        late = events_of(await house.ask("GET", f"{URL}/{made['id']}?stream=true&starting_after=70"))
        assert [(event["type"], event["sequence_number"]) for event in late] == [("response.failed", 71)]


async def test_what_a_dead_server_worked_on_is_failed_at_the_next_start(tmp_path: Path) -> None:
    async with served(tmp_path) as house:
        made = await make(house)
        table = stored.responses
        crashed = table.update().values(status="in_progress", instance_id="srv_gone")
        await house.house.db.write(lambda connection: connection.execute(crashed) and None)
    async with served(tmp_path, echo_model("other")) as house:
        final = (await house.ask("GET", f"{URL}/{made['id']}")).json
        assert final["status"] == "failed"
        assert "ended before" in final["error"]["message"]


async def test_an_end_that_waits_for_the_database_is_stored_though_it_is_cancelled_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried, finish = asyncio.Event(), stored.finish
    loop = asyncio.get_running_loop()

    def away(_connection: Connection, _made: object) -> bool:
        loop.call_soon_threadsafe(tried.set)
        raise Unavailable("The database cannot be written now", "Try again.")

    async with served(tmp_path) as house:
        monkeypatch.setattr(stored, "finish", away)
        made = await make(house, background=True)
        await tried.wait()
        monkeypatch.setattr(stored, "finish", finish)
        cancelled = (await house.ask("POST", f"{URL}/{made['id']}/cancel")).json
        assert cancelled["status"] == "completed"
        row = await house.house.db.read(lambda connection: connection.execute(select(stored.responses)).one())
        assert (row.status, row.instance_id) == ("completed", "")
