"""Orders in the background: progress, pause, going on where it stopped, cancelling, and the death of the server."""

import asyncio
from pathlib import Path

import pytest
from aiohttp import web
from hub_files import gguf, sha256
from hub_kit import MakeHub

from dayspring.contracts.clock import SystemClock
from dayspring.core.errors import Conflict, NotFound, PermissionDenied
from dayspring.hub.downloads import Download, Downloads
from dayspring.hub.service import Hub
from dayspring.store.database import Database
from dayspring.store.downloads import set_download
from loopback import Serve

DATA = gguf(rows=80_000)
HALF = len(DATA) // 2


class Slow:
    """One large file, of which the second half comes when the gate is open."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.half_sent = asyncio.Event()
        self.starts: list[int] = []

    async def describe(self, _: web.Request) -> web.Response:
        entry = {"rfilename": "m.gguf", "size": len(DATA), "lfs": {"sha256": sha256(DATA), "size": len(DATA)}}
        return web.json_response({"sha": "c" * 40, "siblings": [entry], "cardData": {"license": "mit"}})

    async def give(self, request: web.Request) -> web.StreamResponse:
        start = request.http_range.start or 0
        stop = request.http_range.stop
        if stop is not None:
            part = {"Content-Range": f"bytes {start}-{stop - 1}/{len(DATA)}"}
            return web.Response(status=206, body=DATA[start:stop], headers=part)
        self.starts.append(start)
        whole = {"Content-Range": f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"} if start else {}
        answer = web.StreamResponse(status=206 if start else 200, headers=whole)
        answer.content_length = len(DATA) - start
        await answer.prepare(request)
        if start < HALF:
            await answer.write(DATA[start:HALF])
        self.half_sent.set()
        await self.gate.wait()
        await answer.write(DATA[max(start, HALF) :])
        return answer

    async def start(self, serve: Serve) -> str:
        app = web.Application()
        app.router.add_get("/api/models/owner/name/revision/main", self.describe)
        app.router.add_get(f"/owner/name/resolve/{'c' * 40}/m.gguf", self.give)
        return await serve(app)


def downloads(hub: Hub, database: Database, home: str = "here") -> Downloads:
    return Downloads(hub, database, SystemClock(), home)


async def until(orders: Downloads, download_id: str, *statuses: str) -> Download:
    async for seen in orders.watch(download_id):
        if seen.status in statuses:
            return seen
    return await orders.get(download_id)


async def half_way(orders: Downloads, download_id: str) -> None:
    async for seen in orders.watch(download_id):
        if seen.done_bytes >= HALF - (2 << 20) > 0:
            return


async def test_an_order_is_told_to_its_end(make_hub: MakeHub, serve: Serve, database: Database) -> None:
    slow = Slow()
    slow.gate.set()
    hub = make_hub(hf_endpoint=await slow.start(serve))
    orders = downloads(hub, database)
    order = await orders.order(await hub.plan("hf:owner/name"), "", None)
    seen = [each async for each in orders.watch(order.id)]
    assert seen[-1].status == "completed"
    assert {each.status for each in seen} >= {"queued", "downloading", "completed"}
    assert any(0 < each.done_bytes <= each.total_bytes == len(DATA) for each in seen)
    assert (await hub.get("name")).sha256 == sha256(DATA)
    assert [each.id for each in await orders.list("", 10)] == [order.id]
    for verb in (orders.pause, orders.cancel):
        with pytest.raises(Conflict, match="completed"):
            await verb(order.id)
    with pytest.raises(Conflict, match="completed"):
        await orders.resume(order.id, None)
    with pytest.raises(NotFound):
        await orders.get("dl_gone")


async def test_a_pause_keeps_what_came_and_resuming_fetches_the_rest(
    make_hub: MakeHub, serve: Serve, database: Database
) -> None:
    slow = Slow()
    hub = make_hub(hf_endpoint=await slow.start(serve))
    orders = downloads(hub, database)
    order = await orders.order(await hub.plan("hf:owner/name"), "", None)
    await slow.half_sent.wait()
    await half_way(orders, order.id)
    assert (await orders.pause(order.id)).status == "paused"
    assert (await orders.get(order.id)).status == "paused"
    slow.gate.set()
    await orders.resume(order.id, None)
    assert (await until(orders, order.id, "completed")).status == "completed"
    assert slow.starts[0] == 0
    assert slow.starts[1] >= HALF - (2 << 20), "it went on where it stopped"


async def test_an_order_outlives_the_server(make_hub: MakeHub, serve: Serve, database: Database) -> None:
    slow = Slow()
    endpoint = await slow.start(serve)
    hub = make_hub(hf_endpoint=endpoint)
    first = downloads(hub, database)
    order = await first.order(await hub.plan("hf:owner/name"), "", None)
    await slow.half_sent.wait()
    await half_way(first, order.id)
    await first.stop()
    assert (await first.get(order.id)).status == "queued"
    slow.gate.set()
    stranger = downloads(make_hub(hf_endpoint=endpoint), database, "another-folder")
    await stranger.start()
    with pytest.raises(Conflict, match="another server"):
        await stranger.pause(order.id)
    second = downloads(make_hub(hf_endpoint=endpoint), database)
    await second.start()
    assert (await until(second, order.id, "completed")).status == "completed"
    assert len(slow.starts) == 2
    assert slow.starts[1] > 0


async def test_an_order_whose_server_died_when_the_model_was_just_here_is_done(
    make_hub: MakeHub, serve: Serve, database: Database
) -> None:
    slow = Slow()
    slow.gate.set()
    hub = make_hub(hf_endpoint=await slow.start(serve))
    first = downloads(hub, database)
    order = await first.order(await hub.plan("hf:owner/name"), "", None)
    await until(first, order.id, "completed")
    await database.write(
        lambda connection: set_download(connection, order.id, "running", order.updated_at, allowed=("completed",))
    )
    second = downloads(hub, database)
    await second.start()
    assert (await until(second, order.id, "completed", "failed")).status == "completed"
    assert [model.id for model in await hub.list()] == ["name"]


async def test_a_cancelled_order_is_over(make_hub: MakeHub, serve: Serve, database: Database) -> None:
    slow = Slow()
    hub = make_hub(hf_endpoint=await slow.start(serve))
    orders = downloads(hub, database)
    order = await orders.order(await hub.plan("hf:owner/name"), "", None)
    await slow.half_sent.wait()
    assert (await orders.cancel(order.id)).status == "cancelled"
    with pytest.raises(Conflict, match="cancelled"):
        await orders.resume(order.id, None)
    assert await hub.list() == []
    slow.gate.set()


async def test_a_failure_is_told_and_can_be_tried_again(
    make_hub: MakeHub, serve: Serve, database: Database, tmp_path: Path
) -> None:
    hub = make_hub()
    file = tmp_path / "m.gguf"
    file.write_bytes(gguf())
    plan = await hub.plan(f"file:{file}")
    orders = downloads(hub, database)
    file.unlink()
    order = await orders.order(plan, "", None)
    failed = await until(orders, order.id, "failed")
    assert (failed.error_code, "cannot be read" in failed.error_message) == ("not_found", True)
    file.write_bytes(gguf())
    await orders.resume(order.id, None)
    assert (await until(orders, order.id, "completed")).error_code == ""


async def test_what_stands_against_it_is_told_before_anything_begins(
    make_hub: MakeHub, database: Database, tmp_path: Path
) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(gguf({"general.license": "cc-by-nc-4.0"}))
    hub = make_hub()
    orders = downloads(hub, database)
    plan = await hub.plan(f"file:{file}")
    with pytest.raises(PermissionDenied, match="accept_licence"):
        await orders.order(plan, "", None)
    assert await orders.list("", 10) == []
    order = await orders.order(plan, "user_1", None)
    await until(orders, order.id, "completed")
    (accepted,) = await hub.acceptances()
    assert accepted.accepted_by == "user_1"
    with pytest.raises(Conflict, match="already"):
        await orders.order(plan, "user_1", None)
