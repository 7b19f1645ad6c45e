"""Files and uploads over HTTP: OpenAI's shapes, forms of every kind of wrong, and a stranger's walk."""

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest
from server_house import Served, served

from asgi import Answer, Visit
from dayspring.accounts.principals import Scope

JSONL = b'{"a": 1}\n'


def form(*parts: tuple[str, bytes, str | None], boundary: str = "b0undary", end: bool = True) -> bytes:
    body = b""
    for name, content, filename in parts:
        named = f'; filename="{filename}"' if filename is not None else ""
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode()
        body += content + b"\r\n"
    return body + (f"--{boundary}--\r\n".encode() if end else b"")


def cut(body: bytes, size: int = 11) -> list[bytes]:
    return [body[start : start + size] for start in range(0, len(body), size)]


async def send(house: Served, path: str, body: bytes, *, key: str | None = None, boundary: str = "b0undary") -> Answer:
    kind = {"content-type": f"multipart/form-data; boundary={boundary}"}
    return await house.ask("POST", path, key=key, body=cut(body), headers=kind)


async def add(house: Served, content: bytes = b"hello", name: str = "a.txt", key: str | None = None) -> dict[str, Any]:
    answer = await send(house, "/v1/files", form(("purpose", b"user_data", None), ("file", content, name)), key=key)
    assert answer.status == 200, answer.body
    made: dict[str, Any] = answer.json
    return made


def nothing_is_left(house: Served) -> bool:
    home = house.house.settings.home
    folders = (home / "blobs" / "incoming", home / "blobs" / "sha256", home / "uploads")
    return [file for folder in folders for file in folder.rglob("*") if file.is_file()] == []


async def test_a_file_is_stored_shown_listed_read_and_deleted(house: Served) -> None:
    made = await add(house)
    assert made["object"] == "file"
    assert (made["bytes"], made["filename"], made["purpose"]) == (5, "a.txt", "user_data")
    assert (made["status"], made["expires_at"], made["media_type"]) == ("processed", None, "text/plain")
    assert (await house.ask("GET", f"/v1/files/{made['id']}")).json == made
    page = (await house.ask("GET", "/v1/files?limit=1")).json
    assert (page["data"], page["first_id"], page["last_id"], page["has_more"]) == (
        [made], made["id"], made["id"], False
    )  # fmt: skip
    content = await house.ask("GET", f"/v1/files/{made['id']}/content")
    assert content.body == b"hello"
    assert content.headers["content-length"] == "5"
    assert content.headers["x-content-type-options"] == "nosniff"
    assert content.headers["content-disposition"].startswith('attachment; filename="a.txt"')
    gone = await house.ask("DELETE", f"/v1/files/{made['id']}")
    assert gone.json == {"id": made["id"], "object": "file", "deleted": True}
    for path in (f"/v1/files/{made['id']}", f"/v1/files/{made['id']}/content"):
        assert (await house.ask("GET", path)).status == 404
    await house.house.files.close()
    assert nothing_is_left(house)


async def test_the_fields_may_come_after_the_file_and_expire_it(house: Served) -> None:
    body = form(
        ("file", JSONL, "b.jsonl"), ("purpose", b"batch", None),
        ("expires_after[anchor]", b"created_at", None), ("expires_after[seconds]", b"3600", None),
    )  # fmt: skip
    made = (await send(house, "/v1/files", body)).json
    assert made["expires_at"] == made["created_at"] + 3600
    assert made["media_type"] == "application/jsonl"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nothing of a form",
        form(("purpose", b"user_data", None)),
        form(("file", b"x", "x.txt")),
        form(("purpose", b"user_data", None), ("file", b"x", None)),
        form(("purpose", b"user_data", None), ("file", b"", "x.txt")),
        form(("purpose", b"user_data", None), ("file", b"x", "x.txt"), ("file", b"y", "y.txt")),
        form(("purpose", b"user_data", None), ("other", b"x", "x.txt")),
        form(("purpose", b"joy", None), ("file", b"x", "x.txt")),
        form(("purpose", b"batch", None), ("file", b"no json", "x.jsonl")),
        form(("purpose", b"user_data", None), ("file", b"x" * 1000, "x.txt"), end=False),
        form(("purpose", b"user_data", None), ("file", b"x" * 1000, "x.txt"), end=False)[:-500],
        form(("purpose", b"user_data", None), ("file", b"x", "x.txt"), boundary="another"),
        form(("purpose", b"user_data", None), ("file", b"x", "n" * 10_000)),
        form(("purpose", b"user_data" * 500, None), ("file", b"x", "x.txt")),
        form(("purpose", b"user_data", None), ("expires_after[seconds]", b"3600", None), ("file", b"x", "x.txt")),
        form(
            ("purpose", b"user_data", None), ("expires_after[anchor]", b"created_at", None),
            ("expires_after[seconds]", b"-1", None), ("file", b"x", "x.txt"),
        ),
        form(
            ("purpose", b"user_data", None), ("expires_after[anchor]", b"created_at", None),
            ("expires_after[seconds]", b"60", None), ("file", b"x", "x.txt"),
        ),
    ],
)  # fmt: skip
async def test_a_form_that_is_none_is_refused_and_leaves_nothing(house: Served, body: bytes) -> None:
    answer = await send(house, "/v1/files", body)
    assert answer.status == 400
    assert answer.error["type"] == "invalid_request_error"
    await house.house.files.close()
    assert nothing_is_left(house)
    assert (await house.ask("GET", "/v1/files")).json["data"] == []


async def test_another_content_type_or_no_boundary_is_refused(house: Served) -> None:
    body = form(("purpose", b"user_data", None), ("file", b"x", "x.txt"))
    for kind in ("application/json", "multipart/form-data", "multipart/form-data; boundary=" + "b" * 71, "x"):
        answer = await house.ask("POST", "/v1/files", body=[body], headers={"content-type": kind})
        assert answer.status == 400, kind
    assert nothing_is_left(house)


async def test_a_client_that_leaves_in_the_middle_leaves_nothing(house: Served) -> None:
    body = form(("purpose", b"user_data", None), ("file", b"x" * 5000, "x.txt"))
    headers = house.bearer(None) | {"content-type": "multipart/form-data; boundary=b0undary"}
    visiting = Visit(house.app, "POST", "/v1/files", cut(body)[:200], headers, "127.0.0.1")
    receive = visiting._receive

    async def cut_off() -> Any:
        message = await receive()
        return {**message, "more_body": True} if message["type"] == "http.request" else message

    visiting._receive = cut_off  # type: ignore[method-assign]
    visiting.leave()
    assert (await visiting.run()).status == 0
    assert nothing_is_left(house)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../../etc/passwd", "passwd"),
        ("..\\\\..\\\\boot.ini", "boot.ini"),
        ("a%00b.txt", "a%00b.txt"),
        ('quote\\".txt', None),
        ("报告 2026.txt", "报告 2026.txt"),
        ("\u202egnp.exe", "gnp.exe"),
        ("x.txt%0d%0aSet-Cookie: a=b", "x.txt%0d%0aSet-Cookie: a=b"),
        ("", "file"),
        ("é" * 400, "é" * 255),
    ],
)
async def test_a_name_reaches_neither_the_disk_nor_another_header(house: Served, name: str, shown: str | None) -> None:
    made = await add(house, name=name)
    assert shown is None or made["filename"] == shown
    content = await house.ask("GET", f"/v1/files/{made['id']}/content")
    assert "set-cookie" not in content.headers
    assert content.headers["content-disposition"].isascii()
    home = house.house.settings.home
    assert not [file for file in home.rglob("*") if shown and file.name == shown]


async def test_a_name_with_line_ends_is_cleaned_where_json_brings_it(house: Served) -> None:
    body = {"bytes": 1, "filename": "a\r\nX-Evil: 1\u0000.txt", "purpose": "user_data", "mime_type": "text/plain"}
    upload = (await house.ask("POST", "/v1/uploads", json=body)).json
    assert upload["filename"] == "aX-Evil: 1.txt"
    part = (await send(house, f"/v1/uploads/{upload['id']}/parts", form(("data", b"x", "p")))).json
    done = (await house.ask("POST", f"/v1/uploads/{upload['id']}/complete", json={"part_ids": [part["id"]]})).json
    content = await house.ask("GET", f"/v1/files/{done['file']['id']}/content")
    assert "x-evil" not in content.headers


async def test_an_upload_goes_on_after_a_cut(house: Served) -> None:
    data = b"0123456789" * 50
    body = {"bytes": len(data), "filename": "n.txt", "purpose": "user_data", "mime_type": "text/plain"}
    upload = (await house.ask("POST", "/v1/uploads", json=body)).json
    assert (upload["object"], upload["status"], upload["parts"]) == ("upload", "pending", [])
    parts = f"/v1/uploads/{upload['id']}/parts"
    whole = form(("part_number", b"2", None), ("data", data[300:], "p"))
    assert (await send(house, parts, whole[:-60])).status == 400
    sent = (await send(house, parts, whole)).json
    assert (sent["object"], sent["part_number"], sent["upload_id"]) == ("upload.part", 2, upload["id"])
    again = (await send(house, parts, whole)).json
    state = (await house.ask("GET", f"/v1/uploads/{upload['id']}")).json
    assert [part["id"] for part in state["parts"]] == [again["id"]]
    await send(house, parts, form(("data", data[:300], "p"), ("part_number", b"1", None)))
    done = await house.ask(
        "POST",
        f"/v1/uploads/{upload['id']}/complete",
        json={"md5": hashlib.md5(data, usedforsecurity=False).hexdigest()},
    )
    assert (done.json["status"], done.json["file"]["bytes"]) == ("completed", len(data))
    content = await house.ask("GET", f"/v1/files/{done.json['file']['id']}/content")
    assert content.body == data
    assert (await house.ask("POST", f"/v1/uploads/{upload['id']}/complete", json={})).json == done.json
    for number in (b"x", b"0", b"-1", b"99999", "²".encode()):
        answer = await send(house, parts, form(("part_number", number, None), ("data", b"x", "p")))
        assert answer.status == 400, number


async def test_a_strangers_key_reads_and_writes_nothing_by_any_id(house: Served) -> None:
    other = await house.house.accounts.create_project("other")
    _, owner = await house.new_key(scopes=frozenset({Scope.INFERENCE}))
    _, stranger = await house.new_key(project_id=other.id, scopes=frozenset({Scope.INFERENCE}))
    file = await add(house, b"private words", "private-name.txt", owner)
    body = {"bytes": 3, "filename": "private-name", "purpose": "user_data", "mime_type": ""}
    upload = (await house.ask("POST", "/v1/uploads", key=owner, json=body)).json
    parts = f"/v1/uploads/{upload['id']}/parts"
    part = (await send(house, parts, form(("data", b"abc", "p")), key=owner)).json
    walk: list[tuple[str, str, Any]] = [
        ("GET", "/v1/files/{id}", None), ("GET", "/v1/files/{id}/content", None), ("DELETE", "/v1/files/{id}", None),
        ("GET", "/v1/files?after={id}", None),
        ("GET", "/v1/uploads/{up}", None), ("POST", "/v1/uploads/{up}/cancel", {}),
        ("POST", "/v1/uploads/{up}/complete", {"part_ids": [part["id"]]}),
    ]  # fmt: skip
    for method, path, sent in walk:
        theirs = await house.ask(method, path.format(id=file["id"], up=upload["id"]), key=stranger, json=sent)
        nobody = await house.ask(method, path.format(id="file_none", up="upload_none"), key=stranger, json=sent)
        assert (theirs.status, nobody.status) == (404, 404), path
        said = theirs.body.decode().replace(file["id"], "file_none").replace(upload["id"], "upload_none")
        assert said == nobody.body.decode()
    answer = await send(house, parts, form(("data", b"abc", "p")), key=stranger)
    assert answer.status == 404
    assert (await house.ask("GET", "/v1/files", key=stranger)).json["data"] == []
    assert (await house.ask("GET", f"/v1/files/{file['id']}/content", key=owner)).body == b"private words"
    assert (await house.ask("GET", f"/v1/uploads/{upload['id']}", key=owner)).json["parts"] == [part]
    _, reader = await house.new_key(scopes=frozenset({Scope.USAGE}))
    for method, path, sent in walk:
        assert (await house.ask(method, path.format(id="f", up="u"), key=reader, json=sent)).status == 403, path


async def test_without_a_key_no_byte_of_a_file_is_read(house: Served) -> None:
    for path in ("/v1/files", "/v1/uploads/upload_1/parts"):
        visiting = house.visiting(path, form(("file", b"x", "x")))
        visiting._scope["headers"] = []
        assert (await visiting.run()).status == 401
        assert len(visiting._pieces) == 1


async def test_large_files_pass_where_large_bodies_do_not(tmp_path: Path) -> None:
    async with served(tmp_path, max_body_bytes=4096, max_file_bytes=200_000) as house:
        made = await add(house, b"x" * 150_000)
        assert made["bytes"] == 150_000
        body = form(("purpose", b"user_data", None), ("file", b"x" * 200_001, "x"))
        answer = await send(house, "/v1/files", body)
        assert (answer.status, answer.error["code"]) == (413, "too_large")
        large = {"bytes": 1, "filename": "x", "purpose": "user_data", "mime_type": "x" * 5000}
        assert (await house.ask("POST", "/v1/uploads", json=large)).status == 413
        upload = (await house.ask("POST", "/v1/uploads", json=large | {"bytes": 90_000, "mime_type": ""})).json
        part = await send(house, f"/v1/uploads/{upload['id']}/parts", form(("data", b"x" * 90_000, "p")))
        assert part.status == 200
        done = f"/v1/uploads/{upload['id']}/complete"
        assert (await house.ask("POST", done, json={"part_ids": ["x" * 5000]})).status == 413
        assert (await house.ask("POST", done, json={"part_ids": [part.json["id"]]})).status == 200


async def test_the_project_s_own_quota_comes_before_the_general_one(tmp_path: Path) -> None:
    async with served(tmp_path, project_disk_bytes=1000) as house:
        who, key = await house.new_key()
        admin, _ = await house.new_key(scopes=frozenset({Scope.ADMIN}))
        await add(house, b"x" * 900, key=key)
        over = form(("purpose", b"user_data", None), ("file", b"y" * 200, "y"))
        answer = await send(house, "/v1/files", over, key=key)
        assert (answer.status, answer.error["code"]) == (413, "disk_quota_exceeded")
        await house.house.projects.set_quota(admin, who.project_id, 2000)
        assert (await send(house, "/v1/files", over, key=key)).status == 200


async def test_many_readers_and_a_deletion_at_once(house: Served) -> None:
    made = await add(house, b"0123456789" * 100_000)
    path = f"/v1/files/{made['id']}"
    reads = [asyncio.create_task(house.ask("GET", f"{path}/content")) for _ in range(10)]
    await asyncio.sleep(0)
    assert (await house.ask("DELETE", path)).status == 200
    for answer in await asyncio.gather(*reads):
        assert answer.status == 404 or answer.body == b"0123456789" * 100_000


@pytest.mark.parametrize(
    ("asked", "status", "span"),
    [
        ("bytes=0-3", 206, (0, 4)), ("bytes=4-", 206, (4, 2_500_000)), ("bytes=-5", 206, (2_499_995, 2_500_000)),
        ("bytes=1048570-2100000", 206, (1_048_570, 2_100_001)), ("bytes=2499999-9999999", 206, (2_499_999, 2_500_000)),
        ("bytes=-9999999", 206, (0, 2_500_000)), ("bytes=2500000-", 416, None), ("bytes=-0", 416, None),
        ("bytes=5-2", 200, None), ("bytes=-", 200, None), ("bytes=0-1,4-5", 200, None), ("lines=0-1", 200, None),
        ("bytes=x-1", 200, None), ("bytes=0-" + "9" * 30, 200, None),
    ],
)  # fmt: skip
async def test_a_part_of_a_file_can_be_asked_for(
    house: Served, asked: str, status: int, span: tuple[int, int] | None
) -> None:
    content = bytes(range(250)) * 10_000
    path = f"/v1/files/{(await add(house, content, 'a.bin'))['id']}/content"
    answer = await house.ask("GET", path, headers={"range": asked})
    assert answer.status == status
    if status == 416:
        assert (answer.error["code"], answer.headers["content-range"]) == ("out_of_range", "bytes */2500000")
        return
    start, stop = span or (0, len(content))
    assert answer.body == content[start:stop]
    assert int(answer.headers["content-length"]) == stop - start
    said = f"bytes {start}-{stop - 1}/{len(content)}" if span else None
    assert (answer.headers.get("content-range"), answer.headers["accept-ranges"]) == (said, "bytes")
    whole = await house.ask("GET", path, headers={"range": asked, "if-range": '"x"'})
    assert (whole.status, whole.body) == (200, content), "nothing to compare with: no part"
    assert (await house.ask("GET", path, key="", headers={"range": asked})).status == 401
