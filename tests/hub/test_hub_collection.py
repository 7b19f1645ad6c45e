"""What a hub keeps when its process is killed, and what a collection may take."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from hub_files import content, gguf
from hub_kit import MakeHub
from sqlalchemy import text

from dayspring.blobs.disk import DiskBlobs
from dayspring.core.errors import Refused
from dayspring.store.database import Database
from loopback import Serve

ADD = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from hub_kit import ENGINES
from dayspring.blobs.disk import DiskBlobs
from dayspring.contracts.clock import SystemClock
from dayspring.core.settings import Settings
from dayspring.net.fetcher import Fetcher
from dayspring.hub.service import Hub
from dayspring.store.database import Database

async def main():
    home = Path(sys.argv[1])
    db = Database.open(f"sqlite:///{home / 'dayspring.db'}")
    hub = Hub(db, DiskBlobs(home / "blobs"), Settings(home=home), SystemClock(),
              fetcher=Fetcher(allow_loopback=True), engines=lambda: ENGINES)
    plan = await hub.plan(sys.argv[2])
    await hub.add(plan, progress=lambda progress: print(progress.done_bytes, flush=True))

asyncio.run(main())
"""


async def test_an_add_goes_on_after_kill_9(make_hub: MakeHub, serve: Serve, tmp_path: Path) -> None:
    whole = gguf(tensors=8, rows=20_000)
    half = len(whole) // 2
    gone = asyncio.Event()
    starts: list[int] = []

    async def give(request: web.Request) -> web.StreamResponse:
        asked = request.http_range
        start, stop = asked.start or 0, min(asked.stop or len(whole), len(whole))
        where = {"Content-Range": f"bytes {start}-{stop - 1}/{len(whole)}", "ETag": '"1"'}
        ranged = "Range" in request.headers
        if ranged and stop < len(whole):
            return web.Response(status=206, body=whole[start:stop], headers=where)
        starts.append(start)
        length = {"Content-Length": str(stop - start)}
        response = web.StreamResponse(status=206 if start else 200, headers={**where, **length})
        await response.prepare(request)
        if len(starts) == 1:
            await response.write(whole[:half])
            await gone.wait()
        else:
            await response.write(whole[start:])
        return response

    app = web.Application()
    app.router.add_get("/m.gguf", give)
    source = f"{await serve(app)}/m.gguf"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ADD, str(tmp_path / "home"), source, str(Path(__file__).parent),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert int(await process.stdout.readline()) > 0
    process.kill()
    await process.wait()
    gone.set()
    hub = make_hub()
    assert await hub.list() == []
    model = await hub.add(await hub.plan(source))
    assert content(model.path) == whole
    assert starts[0] == 0
    assert starts[1] >= 1 << 20, "the second try asked for the rest only"


async def test_collecting_sweeps_what_a_killed_process_left(make_hub: MakeHub, file: Path, tmp_path: Path) -> None:
    hub = make_hub()
    model = await hub.add(await hub.plan(f"file:{file}"))
    for left in ("scratch/left", "models/.new-left", "models/without-a-row"):
        (tmp_path / "home" / left).mkdir()
    (tmp_path / "home" / "models" / "without-a-row" / "w.gguf").write_bytes(b"a killed removal's")
    DiskBlobs(tmp_path / "home" / "blobs").put([b"nobody's"])
    assert await hub.collect(grace_s=3600) == 0
    assert await hub.collect(grace_s=-10) == len(b"nobody's")
    assert content(model.path) == gguf()
    assert [path.name for path in (tmp_path / "home" / "scratch").iterdir()] == []
    assert sorted(path.name for path in (tmp_path / "home" / "models").iterdir()) == [".lock", "tiny-chat"]


async def test_a_refused_file_that_somebody_keeps_stays_theirs(
    make_hub: MakeHub, database: Database, blobs: DiskBlobs, tmp_path: Path
) -> None:
    packed = tmp_path / "m.gguf"
    packed.write_bytes(b"PK\x03\x04 no weights")
    digest = blobs.put([packed.read_bytes()])
    await database.write(
        lambda connection: (
            connection.execute(text("CREATE TABLE theirs (sha256 VARCHAR(64))"))
            and connection.execute(text("INSERT INTO theirs VALUES (:digest)"), {"digest": digest})
            and None
        )
    )
    hub = make_hub()
    plan = await hub.plan(f"file:{packed}", licence="mit")
    with pytest.raises(Refused):
        await hub.add(msgspec.structs.replace(plan, refusals=()))
    assert blobs.has(digest)


async def test_what_is_added_from_an_old_file_while_a_collection_runs_stays(
    make_hub: MakeHub, blobs: DiskBlobs, file: Path
) -> None:
    digest = blobs.put([gguf()])
    os.utime(blobs.path(digest), (1, 1))
    hub = make_hub()
    plan = await hub.plan(f"file:{file}")
    plan = msgspec.structs.replace(plan, files=(msgspec.structs.replace(plan.files[0], sha256=digest),))
    assembled = hub._adder._assembler.assemble

    async def paused(*arguments: Any) -> Any:
        made = await assembled(*arguments)
        await hub.collect(grace_s=3600)
        return made

    hub._adder._assembler.assemble = paused  # type: ignore[method-assign]
    model = await hub.add(plan)
    assert blobs.has(digest)
    await hub.verify(model.id)
