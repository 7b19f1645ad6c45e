"""Files: whole or not there, one's own alone, shared without anybody's learning of it."""

import asyncio
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from files_kit import JSONL, OWNER, PNG, STRANGER, Room, chunked, person
from sqlalchemy import text

from dayspring.accounts.principals import Scope
from dayspring.core.errors import (
    InvalidRequest,
    Malformed,
    NotFound,
    PermissionDenied,
    Refused,
    Unavailable,
)
from dayspring.files.records import FileQuery
from dayspring.store.database import Database
from dayspring.store.references import referenced_blobs
from dayspring.testing.clock import FakeClock

HOUR_NS = 3_600_000_000_000


async def test_a_file_comes_back_as_it_went_in(room: Room) -> None:
    data = os.urandom(3 << 20)
    file = await room.files.create(OWNER, name="a.bin", purpose="user_data", chunks=chunked(data, 70_001))
    assert (file.size_bytes, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert await room.read(file) == data
    assert (await room.files.path(OWNER, file.id)).read_bytes() == data
    assert await room.files.get(OWNER, file.id) == file
    assert room.stored() == [file.sha256]


async def test_a_stranger_finds_no_file_and_hears_what_nobody_s_file_says(room: Room) -> None:
    file = await room.add(b"private")
    for verb in (room.files.get, room.files.delete, room.files.content, room.files.path):
        with pytest.raises(NotFound) as theirs:
            await verb(STRANGER, file.id)
        with pytest.raises(NotFound) as nobody:
            await verb(STRANGER, "file_none")
        assert str(theirs.value).replace(file.id, "file_none") == str(nobody.value)
    with pytest.raises(NotFound):
        async for _ in room.files.lines(STRANGER, file.id):
            pass
    with pytest.raises(NotFound):
        await room.files.list(STRANGER, FileQuery(after=file.id))
    assert (await room.files.list(STRANGER)).data == []
    assert await room.read(file) == b"private"


async def test_a_manager_sees_the_organization_and_an_administrator_all(room: Room) -> None:
    mine = await room.add(b"one", person("proj_1", "org_1"))
    theirs = await room.add(b"two", person("proj_9", "org_1"))
    other = await room.add(b"three", STRANGER)
    manager = person("proj_3", "org_1", Scope.MANAGE)
    admin = person("proj_4", "org_4", Scope.ADMIN)
    assert {file.id for file in (await room.files.list(manager)).data} == {mine.id, theirs.id}
    assert {file.id for file in (await room.files.list(admin)).data} == {mine.id, theirs.id, other.id}
    with pytest.raises(NotFound):
        await room.files.get(manager, other.id)
    for verb in (room.files.list(person("proj_1", "org_1", Scope.USAGE)), room.files.begin(person("p", "o", "usage"))):
        with pytest.raises(PermissionDenied):
            await verb


async def test_two_projects_share_what_is_stored_and_neither_loses_it_to_the_other(room: Room) -> None:
    one, two = await room.add(b"the same"), await room.add(b"the same", STRANGER)
    assert one.id != two.id
    assert room.stored() == [one.sha256]
    await room.files.delete(OWNER, one.id)
    await room.files.close()
    assert await room.read(two, STRANGER) == b"the same"
    await room.files.delete(STRANGER, two.id)
    await room.files.close()
    assert room.stored() == []


async def test_the_same_content_again_is_written_as_if_it_were_new(room: Room) -> None:
    """What would differ is a time from which another project's files could be guessed."""
    first = await room.add(b"known content")
    before = (await room.files.path(OWNER, first.id)).stat().st_ino
    await room.add(b"known content", STRANGER)
    assert (await room.files.path(OWNER, first.id)).stat().st_ino != before


async def test_a_model_s_file_outlives_a_user_s_of_the_same_content(room: Room, database: Database) -> None:
    file = await room.add(b"weights")
    await database.write(
        lambda connection: (
            connection.execute(text("INSERT INTO models VALUES ('m', 'e', 's', '', 'l', 1, :body)"), {"body": b"{}"})
            and None
        )
    )
    await database.write(
        lambda connection: (
            connection.execute(text("INSERT INTO model_files VALUES ('m', 'w', :digest, 7)"), {"digest": file.sha256})
            and None
        )
    )
    await room.files.delete(OWNER, file.id)
    await room.files.close()
    assert room.blobs.has(file.sha256)


async def test_a_table_that_no_room_of_this_process_knows_keeps_its_files(room: Room, database: Database) -> None:
    file = await room.add(b"kept by a stranger")
    await database.write(
        lambda connection: connection.execute(text("CREATE TABLE newcomers (picture_sha256 VARCHAR(64))")) and None
    )
    await database.write(
        lambda connection: (
            connection.execute(text("INSERT INTO newcomers VALUES (:digest), (NULL), ('')"), {"digest": file.sha256})
            and None
        )
    )
    await room.files.delete(OWNER, file.id)
    await room.files.close()
    assert await database.read(referenced_blobs) == {file.sha256}
    assert room.blobs.has(file.sha256)
    assert room.blobs.collect(lambda: database.read_sync(referenced_blobs), -1).blobs == 0


async def test_who_reads_while_it_is_deleted_reads_to_the_end(room: Room) -> None:
    data = os.urandom(5 << 20)
    file = await room.add(data)
    readers = [await room.files.content(OWNER, file.id) for _ in range(4)]
    first = [await anext(chunks) for _, chunks in readers]
    await asyncio.gather(*(room.files.delete(OWNER, file.id) for _ in range(1)))
    await room.files.close()
    assert room.stored() == []
    for (_, chunks), begun in zip(readers, first, strict=True):
        assert begun + b"".join([chunk async for chunk in chunks]) == data
    with pytest.raises(NotFound):
        await room.files.content(OWNER, file.id)


async def test_of_many_deletions_one_finds_it(room: Room) -> None:
    file = await room.add(b"once")
    results = await asyncio.gather(*(room.files.delete(OWNER, file.id) for _ in range(8)), return_exceptions=True)
    assert sorted(type(each).__name__ for each in results) == ["NoneType"] + ["NotFound"] * 7


async def test_adding_and_deleting_the_same_content_side_by_side_loses_nothing(room: Room) -> None:
    async def one(turn: int) -> None:
        who = person(f"proj_{turn % 3}")
        for _ in range(6):
            file = await room.add(b"contested", who)
            assert await room.read(file, who) == b"contested"
            if turn % 2:
                await room.files.delete(who, file.id)

    await asyncio.gather(*(one(turn) for turn in range(6)))
    await room.files.close()
    left = (await room.files.list(person("p", "o", Scope.ADMIN))).data
    assert len(left) == 18
    room.blobs.verify(left[0].sha256)


async def test_a_damaged_file_is_not_read_to_its_end(room: Room) -> None:
    file = await room.add(os.urandom(3 << 20))
    place = await room.files.path(OWNER, file.id)
    place.chmod(0o644)
    with place.open("r+b") as stream:
        stream.seek(2 << 20)
        stream.write(b"x" * 64)
    _, chunks = await room.files.content(OWNER, file.id)
    with pytest.raises(Unavailable, match="damaged"):
        _ = [chunk async for chunk in chunks]


async def broken(data: bytes) -> AsyncIterator[bytes]:
    yield data
    raise ConnectionResetError


async def test_what_breaks_on_the_way_leaves_nothing(room: Room) -> None:
    with pytest.raises(ConnectionResetError):
        await room.files.create(OWNER, name="x", purpose="user_data", chunks=broken(b"half" * 1_000_000))
    with pytest.raises(InvalidRequest):
        await room.files.create(OWNER, name="x", purpose="pleasure", chunks=chunked(b"x"))
    with pytest.raises(InvalidRequest, match="empty"):
        await room.add(b"")
    with pytest.raises(InvalidRequest, match="expires"):
        await room.files.create(OWNER, name="x", purpose="user_data", chunks=chunked(b"x"), expires_after_s=3599)
    await room.files.close()
    assert room.stored() == []
    assert (await room.files.list(OWNER)).data == []


async def test_a_cancelled_sender_leaves_nothing(room: Room) -> None:
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * (1 << 20)
            begun.set()

    task = asyncio.create_task(room.files.create(OWNER, name="x", purpose="user_data", chunks=endless()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert room.stored() == []


@pytest.mark.parametrize(
    ("purpose", "data", "error", "match"),
    [
        ("batch", b"hello there\n", Malformed, "line 1 of the file is not JSON"),
        ("batch", PNG, Refused, "image/png"),
        ("batch", b'{"a": 1}\n{"a": \n', Malformed, "line 2"),
        ("batch", b'{"a": 1}\n[1]\n', Malformed, "line 2"),
        ("batch", b'[{"a": 1}]', Malformed, "line 1"),
        ("fine-tune", b"a,b\n1,2\n", Malformed, "line 1"),
        ("vision", JSONL, Refused, "application/jsonl, and a file for vision is an image"),
        ("vision", b"GIF89a is how it begins\n", Refused, "text/plain"),
        ("assistants", b"\x01\x02\x03" * 100, Refused, "application/octet-stream"),
        ("user_data", b"\x7fELF\x02\x01\x01" + bytes(100), Refused, "is a program"),
        ("user_data", b"MZ\x90\0" + bytes(200), Refused, "is a program"),
        ("vision", b"\xcf\xfa\xed\xfe" + bytes(100), Refused, "is a program"),
    ],
)
async def test_a_content_that_its_purpose_does_not_admit_is_refused_and_leaves_nothing(
    room: Room, purpose: str, data: bytes, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        await room.add(data, name="innocent.png", purpose=purpose)
    await room.files.close()
    assert room.stored() == []


async def test_a_name_makes_no_content(room: Room) -> None:
    file = await room.add(PNG, name="report.pdf")
    assert (file.name, file.media_type) == ("report.pdf", "image/png")
    assert (await room.add(PNG, name="p.gif", purpose="vision")).media_type == "image/png"
    assert (await room.add(JSONL, purpose="batch")).media_type == "application/jsonl"
    assert (await room.add(b'{"a": 1}', purpose="batch")).media_type == "application/jsonl"


async def test_lines_come_one_by_one_whatever_ends_them(room: Room) -> None:
    lines = [b'{"n": %d, "pad": "%s"}' % (n, b"x" * (n % 900)) for n in range(3000)]
    file = await room.add(b"\r\n".join(lines) + b"\n\n", purpose="batch")
    assert [line async for line in room.files.lines(OWNER, file.id)] == [*lines, b""]


async def test_a_line_without_end_is_refused(database: Database, tmp_path: Path) -> None:
    room = Room(database, tmp_path, max_body_bytes=1024)
    with pytest.raises(Malformed, match="line 2 of the file is longer than 1024"):
        await room.add(b'{"a": 1}\n{"a": "' + b"x" * 5000, purpose="batch")
    text_file = await room.add(b"short\n" + b"x" * 5000)
    got = []
    with pytest.raises(Malformed, match="longer"):  # noqa: PT012 - what came before the error counts
        async for line in room.files.lines(OWNER, text_file.id):
            got.append(line)  # noqa: PERF401
    assert got in ([], [b"short"])


async def test_what_a_job_made_becomes_a_file_once(room: Room, tmp_path: Path) -> None:
    made = tmp_path / "out.jsonl"
    made.write_bytes(JSONL)
    first = await room.files.adopt(OWNER, name="out.jsonl", purpose="batch_output", path=made, file_id="file_1")
    assert not made.exists()
    assert await room.read(first) == JSONL
    again = await room.files.adopt(OWNER, name="out.jsonl", purpose="batch_output", path=made, file_id="file_1")
    assert again == first
    made.write_bytes(JSONL)  # the step was done again
    assert await room.files.adopt(OWNER, name="o", purpose="batch_output", path=made, file_id="file_1") == first
    assert not made.exists()
    assert len((await room.files.list(OWNER)).data) == 1


async def test_pages_go_both_ways_and_end(room: Room) -> None:
    ids = [(await room.add(b"%d" % number)).id for number in range(5)]
    await room.add(JSONL, purpose="batch")
    query = FileQuery(purpose="user_data", limit=2, order="asc")
    seen: list[str] = []
    more = True
    while more:
        page = await room.files.list(OWNER, FileQuery("user_data", 2, seen[-1] if seen else "", query.order))
        seen += [file.id for file in page.data]
        more = page.has_more
    assert seen == ids
    assert [file.id for file in (await room.files.list(OWNER, FileQuery("user_data"))).data] == ids[::-1]
    for limit in (0, 10_001):
        with pytest.raises(InvalidRequest):
            await room.files.list(OWNER, FileQuery(limit=limit))


async def test_a_file_whose_time_is_over_is_not_there_and_goes(room: Room) -> None:
    clock = room.clock
    assert isinstance(clock, FakeClock)
    file = await room.files.create(
        OWNER, name="x", purpose="user_data", chunks=chunked(b"short-lived"), expires_after_s=3600
    )
    stays = await room.add(b"stays")
    batch = await room.add(JSONL, purpose="batch")
    assert batch.expires_at_ns == clock.time_ns() + 30 * 24 * HOUR_NS
    clock.advance(3600)
    with pytest.raises(NotFound):
        await room.files.get(OWNER, file.id)
    assert [each.id for each in (await room.files.list(OWNER)).data] == [batch.id, stays.id]
    assert await room.files.expire() == 1
    await room.files.close()
    assert room.stored() == sorted([stays.sha256, batch.sha256])


async def test_a_kill_at_any_instant_leaves_a_file_or_nothing(tmp_path: Path) -> None:
    """The process is killed while it adds files one after the other; what the database names is there and whole."""
    program = """
import asyncio, sys
from pathlib import Path
from files_kit import Room
from dayspring.store import migrate
from dayspring.store.database import Database

home = Path(sys.argv[1])
url = f"sqlite:///{home / 'test.db'}"
migrate.upgrade(url)

async def main():
    room = Room(Database.open(url), home)
    print("ready", flush=True)
    for number in range(100_000):
        await room.add(b"%d" % number * 5000)

asyncio.run(main())
"""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    for after_ms in (3, 17, 40, 90):
        process = subprocess.Popen(  # noqa: ASYNC220
            [sys.executable, "-c", program, str(tmp_path)], env=environment, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(after_ms / 1000)  # noqa: ASYNC251 - the instant is what is tried
        process.kill()
        process.wait()
        process.stdout.close()
        room = Room(Database.open(f"sqlite:///{tmp_path / 'test.db'}"), tmp_path)
        named = (await room.files.list(OWNER)).data
        for file in named:
            room.blobs.verify(file.sha256)
        room.blobs.collect(partial(room.database.read_sync, referenced_blobs), -10)
        assert sorted(room.stored()) == sorted({file.sha256 for file in named})
        room.database.close()
