"""Uploads in parts: any order, any repetition, one file."""

import asyncio
import hashlib
import random
from pathlib import Path

import msgspec
import pytest
from files_kit import JSONL, OWNER, STRANGER, Room
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select

from dayspring.core.errors import Busy, Conflict, DiskQuotaExceeded, InvalidRequest, Malformed, NotFound, TooLarge
from dayspring.files.parts import uploads
from dayspring.store import migrate
from dayspring.store.database import Database
from dayspring.testing.clock import FakeClock


async def begin(room: Room, data: bytes, purpose: str = "user_data") -> str:
    state = await room.uploads.create(OWNER, name="big.bin", purpose=purpose, size_bytes=len(data))
    return state.upload.id


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


async def test_parts_in_any_order_and_at_once_become_the_file(room: Room) -> None:
    data = random.Random(1).randbytes(40_000)
    upload_id = await begin(room, data)
    pieces = list(enumerate(cut(data, 3000)))
    random.Random(2).shuffle(pieces)
    ids = dict(await asyncio.gather(*(_numbered(room, upload_id, index, piece) for index, piece in pieces)))
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    done = await room.uploads.complete(OWNER, upload_id, [ids[index] for index in sorted(ids)], md5.upper())
    assert done.status == "completed"
    assert done.file is not None
    assert await room.read(done.file) == data
    assert room.stored() == [done.file.sha256]


async def _numbered(room: Room, upload_id: str, index: int, piece: bytes) -> tuple[int, str]:
    return index, await room.part(upload_id, piece)


async def test_what_has_arrived_can_be_asked_and_the_rest_sent_later(room: Room) -> None:
    pieces = cut(b"0123456789" * 100, 300)
    upload_id = await begin(room, b"".join(pieces))
    for number in (4, 1):
        await room.part(upload_id, pieces[number - 1], number)
    state = await room.uploads.get(OWNER, upload_id)
    assert [(part.number, part.size_bytes) for part in state.parts] == [(1, 300), (4, 100)]
    assert state.parts[0].md5 == hashlib.md5(pieces[0], usedforsecurity=False).hexdigest()
    missing = {1, 2, 3, 4} - {part.number for part in state.parts}
    for number in missing:
        await room.part(upload_id, pieces[number - 1], number)
    done = await room.uploads.complete(OWNER, upload_id)
    assert done.file is not None
    assert await room.read(done.file) == b"".join(pieces)
    assert await room.uploads.complete(OWNER, upload_id) == done


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), size=st.integers(1, 400), step=st.integers(1, 120))
def test_any_order_and_repetition_of_parts_gives_the_same_file(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, size: int, step: int
) -> None:
    content = random.Random(size * 1000 + step).randbytes(size)
    pieces = cut(content, step)
    order = data.draw(st.permutations(range(len(pieces))))
    again = data.draw(st.lists(st.sampled_from(range(len(pieces))), max_size=6))
    spoiled = data.draw(st.sampled_from([-1, *range(len(pieces))]))

    async def run() -> None:
        home = tmp_path_factory.mktemp("u")
        url = f"sqlite:///{home / 'test.db'}"
        migrate.upgrade(url)
        room = Room(Database.open(url), home)
        upload_id = await begin(room, content)
        if spoiled >= 0:  # another content under its number, replaced below
            await room.part(upload_id, b"?", spoiled + 1)
        for index in [*order, *again]:
            await room.part(upload_id, pieces[index], index + 1)
        done = await room.uploads.complete(OWNER, upload_id)
        assert done.file is not None
        assert await room.read(done.file) == content
        assert room.stored() == [done.file.sha256]
        room.database.close()

    asyncio.run(run())


async def test_completing_many_times_at_once_makes_one_file(room: Room) -> None:
    upload_id = await begin(room, b"abcdef")
    ids = [await room.part(upload_id, piece) for piece in (b"abc", b"def")]
    done = await asyncio.gather(*(room.uploads.complete(OWNER, upload_id, ids) for _ in range(5)))
    assert len({state.file.id for state in done if state.file}) == 1
    assert len((await room.files.list(OWNER)).data) == 1


async def test_a_server_beside_this_one_completes_it_once(room: Room, database: Database, tmp_path: Path) -> None:
    beside = Room(database, tmp_path, room.clock)
    upload_id = await begin(room, b"abcdef")
    ids = [await room.part(upload_id, piece) for piece in (b"abc", b"def")]
    results = await asyncio.gather(
        *(each.uploads.complete(OWNER, upload_id, ids) for each in (room, beside)), return_exceptions=True
    )
    assert [each for each in results if isinstance(each, BaseException) and not isinstance(each, Conflict)] == []
    assert len((await room.files.list(OWNER)).data) == 1
    await asyncio.gather(room.files.close(), beside.files.close())
    assert len(room.stored()) == 1


async def test_what_does_not_fit_together_is_refused_and_can_be_mended(room: Room) -> None:
    upload_id = await begin(room, b"abcdef")
    one, two = [await room.part(upload_id, piece) for piece in (b"abc", b"def")]
    for part_ids, match in (([one], "3 bytes"), ([one, one], "twice"), (None, "part_ids")):
        with pytest.raises(InvalidRequest, match=match):
            await room.uploads.complete(OWNER, upload_id, part_ids)
    with pytest.raises(NotFound, match="part_none"):
        await room.uploads.complete(OWNER, upload_id, [one, "part_none"])
    with pytest.raises(InvalidRequest, match="MD5"):
        await room.uploads.complete(OWNER, upload_id, [two, one], hashlib.md5(b"abcdef").hexdigest())
    assert (await room.files.list(OWNER)).data == []
    done = await room.uploads.complete(OWNER, upload_id, [one, two], hashlib.md5(b"abcdef").hexdigest())
    assert done.status == "completed"


async def test_the_content_is_judged_when_it_is_whole(room: Room) -> None:
    upload_id = await begin(room, b"\x7fELF" + bytes(60))
    ids = [await room.part(upload_id, piece) for piece in (b"\x7fELF", bytes(60))]
    with pytest.raises(InvalidRequest, match="program"):
        await room.uploads.complete(OWNER, upload_id, ids)
    upload_id = await begin(room, JSONL[:-4] + b"oops", "batch")
    only = await room.part(upload_id, JSONL[:-4] + b"oops")
    with pytest.raises(Malformed, match="line 2"):
        await room.uploads.complete(OWNER, upload_id, [only])
    await room.files.close()
    assert (await room.files.list(OWNER)).data == []


async def test_a_part_of_another_upload_is_no_part_of_this_one(room: Room) -> None:
    mine, other = await begin(room, b"abc"), await begin(room, b"abc")
    foreign = await room.part(other, b"abc")
    with pytest.raises(NotFound):
        await room.uploads.complete(OWNER, mine, [foreign])


async def test_a_stranger_s_walk_reads_and_writes_nothing(room: Room) -> None:
    upload_id = await begin(room, b"abc")
    part = await room.part(upload_id, b"abc")
    tries = (
        room.uploads.get(STRANGER, upload_id),
        room.uploads.begin_part(STRANGER, upload_id),
        room.uploads.complete(STRANGER, upload_id, [part]),
        room.uploads.cancel(STRANGER, upload_id),
    )
    said = set()
    for each in tries:
        with pytest.raises(NotFound) as caught:
            await each
        said.add(caught.value.message)
    with pytest.raises(NotFound) as nobody:
        await room.uploads.get(STRANGER, "upload_none")
    assert {message.replace(upload_id, "upload_none") for message in said} == {nobody.value.message}
    incoming = await room.uploads.begin_part(OWNER, upload_id)
    await incoming.write(b"x")
    async with incoming:
        with pytest.raises(NotFound):
            await room.uploads.keep_part(STRANGER, upload_id, incoming)
    assert (await room.uploads.complete(OWNER, upload_id, [part])).status == "completed"


async def test_a_cancelled_upload_leaves_nothing_and_takes_nothing(room: Room) -> None:
    upload_id = await begin(room, b"abc")
    await room.part(upload_id, b"a")
    waiting = await room.uploads.begin_part(OWNER, upload_id)
    await waiting.write(b"b")
    assert (await room.uploads.cancel(OWNER, upload_id)).status == "cancelled"
    assert (await room.uploads.cancel(OWNER, upload_id)).status == "cancelled"
    async with waiting:
        with pytest.raises((InvalidRequest, NotFound)):
            await room.uploads.keep_part(OWNER, upload_id, waiting)
    with pytest.raises(InvalidRequest, match="cancelled"):
        await room.part(upload_id, b"b")
    with pytest.raises(InvalidRequest, match="cancelled"):
        await room.uploads.complete(OWNER, upload_id, [])
    assert room.stored() == []


async def test_after_its_hour_an_upload_is_over_and_swept_and_forgotten_a_day_later(room: Room) -> None:
    clock = room.clock
    assert isinstance(clock, FakeClock)
    upload_id, lives = await begin(room, b"abc"), await begin(room, b"xyz")
    part = await room.part(upload_id, b"abc")
    clock.advance(3600)
    fresh = await begin(room, b"abc")
    kept = await room.part(fresh, b"abc")
    assert (await room.uploads.get(OWNER, upload_id)).status == "expired"
    with pytest.raises(InvalidRequest, match="expired"):
        await room.uploads.complete(OWNER, upload_id, [part])
    await room.uploads.sweep()
    state = await room.uploads.get(OWNER, upload_id)
    assert (state.status, state.parts) == ("expired", [])
    assert [Path(name).name for name in room.on_the_way()] == [kept]
    clock.advance(24 * 3600)
    await room.uploads.sweep()
    for gone in (upload_id, lives):
        with pytest.raises(NotFound):
            await room.uploads.get(OWNER, gone)
    assert (await room.uploads.get(OWNER, fresh)).status == "expired"


async def test_however_many_are_to_be_forgotten_the_sweep_does_it(room: Room) -> None:
    """More than a statement of PostgreSQL takes as parameters."""
    clock = room.clock
    assert isinstance(clock, FakeClock)
    first = (await room.uploads.create(OWNER, name="n", purpose="user_data", size_bytes=1)).upload
    rows = [
        {**msgspec.structs.asdict(first), "id": f"upload_{number}", "status": "cancelled"} for number in range(70_000)
    ]
    await room.database.write(lambda connection: connection.execute(insert(uploads), rows) and None)
    clock.advance(26 * 3600)
    await room.uploads.sweep()
    left = await room.database.read(lambda connection: connection.execute(select(uploads.c.id)).all())
    assert left == []


async def test_parts_count_towards_the_quota_and_their_file_counts_once(database: Database, tmp_path: Path) -> None:
    room = Room(database, tmp_path, project_disk_bytes=1000)
    upload_id = await begin(room, b"x" * 900)
    first = await room.part(upload_id, b"x" * 600, 1)
    with pytest.raises(DiskQuotaExceeded):
        await room.part(upload_id, b"x" * 500, 2)
    with pytest.raises(DiskQuotaExceeded):
        await room.add(b"y" * 500)
    assert first != await room.part(upload_id, b"x" * 600, 1)  # in the place of the first
    await room.part(upload_id, b"x" * 300, 2)
    done = await room.uploads.complete(OWNER, upload_id)
    assert done.file is not None
    await room.add(b"y" * 100)
    with pytest.raises(DiskQuotaExceeded):
        await room.add(b"z")


async def test_sizes_and_numbers_have_bounds(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidRequest):
        await begin(room, b"")
    with pytest.raises(TooLarge):
        await room.uploads.create(OWNER, name="x", purpose="user_data", size_bytes=room.settings.max_file_bytes + 1)
    upload_id = await begin(room, b"abc")
    for number in (0, -1, 10_001):
        with pytest.raises(InvalidRequest, match="number"):
            await room.part(upload_id, b"a", number)
    with pytest.raises(InvalidRequest, match="empty"):
        await room.part(upload_id, b"")
    monkeypatch.setattr("dayspring.files.uploads.PART_BYTES", 10)
    with pytest.raises(InvalidRequest, match="at most 10 bytes"):
        await room.part(upload_id, b"x" * 11)
    await room.part(upload_id, b"x" * 10)
    with pytest.raises(InvalidRequest, match="more parts"):
        await room.part(upload_id, b"x" * 7)
    monkeypatch.setattr("dayspring.files.uploads._MOST_PENDING", 2)
    await begin(room, b"abc")
    with pytest.raises(Busy):
        await begin(room, b"abc")


async def test_a_damaged_part_is_told_by_its_id(room: Room) -> None:
    upload_id = await begin(room, b"abcdef")
    part = await room.part(upload_id, b"abcdef")
    (room.settings.home / "uploads" / upload_id / part).write_bytes(b"abcdeX")
    with pytest.raises(InvalidRequest, match=f"{part} is damaged"):
        await room.uploads.complete(OWNER, upload_id, [part])
