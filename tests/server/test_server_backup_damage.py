"""Backups that are damaged, forged, or never were: refused before anything is changed."""

import random
import tarfile
from io import BytesIO
from pathlib import Path

import msgspec
import pytest

from dayspring.core.errors import Conflict, DayspringError, InvalidRequest, NotFound, Refused
from dayspring.server.backups.archive import ArchiveReader, ArchiveWriter
from dayspring.server.backups.checking import check_backup
from dayspring.server.backups.restoring import restore_backup
from server.backup_kit import (
    PASSPHRASE,
    Made,
    NewHome,
    all_rows,
    made,
    make,
    new_home,
    one_made,
    quiet,
)

assert made
assert new_home
assert one_made


def test_an_encrypted_backup_opens_with_its_passphrase_alone(made: Made, new_home: NewHome, tmp_path: Path) -> None:
    source, backup = made.settings, tmp_path / "b.sealed"
    manifest = make(source, backup, passphrase=PASSPHRASE)
    with pytest.raises(InvalidRequest, match="8 characters"):
        make(source, tmp_path / "c", passphrase="short")
    assert not (tmp_path / "c").exists()
    raw = backup.read_bytes()
    assert b"admin.key" not in raw
    assert (source.home / "admin.key").read_bytes().strip() not in raw
    assert check_backup(backup, PASSPHRASE, quiet) == manifest
    for passphrase, error in (("", InvalidRequest), ("another one", Refused), (PASSPHRASE + " ", Refused)):
        with pytest.raises(error):
            check_backup(backup, passphrase, quiet)
    numbers = random.Random(3)
    for _ in range(8):
        spoiled = bytearray(raw)
        spoiled[numbers.randrange(20, len(raw))] ^= 1 << numbers.randrange(8)
        (tmp_path / "spoiled").write_bytes(spoiled)
        with pytest.raises(DayspringError):
            check_backup(tmp_path / "spoiled", PASSPHRASE, quiet)
    for length in (0, 10, 30, 5000, len(raw) - 1):
        (tmp_path / "cut").write_bytes(raw[:length])
        with pytest.raises(DayspringError):
            check_backup(tmp_path / "cut", PASSPHRASE, quiet)
    target = new_home("sqlite")
    restore_backup(target, backup, passphrase=PASSPHRASE, progress=quiet)
    assert all_rows(target) == all_rows(source)
    plain = tmp_path / "plain"
    make(target, plain)
    with pytest.raises(InvalidRequest, match="not encrypted"):
        check_backup(plain, PASSPHRASE, quiet)


def test_no_bit_can_change_and_nothing_be_cut_off_unnoticed(made: Made, new_home: NewHome, tmp_path: Path) -> None:
    backup = made.backup
    raw = backup.read_bytes()
    check_backup(backup, "", quiet)
    spoiled = tmp_path / "spoiled"
    numbers = random.Random(5)
    target = new_home("sqlite")
    for turn in range(150):
        changed = bytearray(raw)
        changed[numbers.randrange(len(raw))] ^= 1 << numbers.randrange(8)
        spoiled.write_bytes(changed)
        with pytest.raises(DayspringError) as caught:
            check_backup(spoiled, "", quiet)
        if turn % 30 == 0:
            with pytest.raises(type(caught.value)):
                restore_backup(target, spoiled, progress=quiet)
            assert not target.home.exists()
    for length in sorted({0, 1, 511, 512, 513, len(raw) - 1, *(numbers.randrange(len(raw)) for _ in range(40))}):
        spoiled.write_bytes(raw[:length])
        with pytest.raises(DayspringError):
            check_backup(spoiled, "", quiet)
    spoiled.write_bytes(raw + b"\0")
    with pytest.raises(Refused, match="after its end"):
        check_backup(spoiled, "", quiet)
    with pytest.raises(NotFound):
        check_backup(tmp_path / "none", "", quiet)
    with pytest.raises(NotFound):
        restore_backup(target, tmp_path / "none", progress=quiet)
    assert not target.home.exists()


def _evil() -> dict[str, bytes]:
    """Archives that a tar reader would follow to somewhere."""

    def archive(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.GNU_FORMAT, **pax: str) -> bytes:
        out = BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=form, pax_headers=pax) as tar:
            for info, data in members:
                tar.addfile(info, BytesIO(data))
        return out.getvalue()

    def member(
        name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 4
    ) -> tuple[tarfile.TarInfo, bytes]:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.size, info.mode = kind, link, size, 0o600
        return info, b"evil"[:size]

    huge = tarfile.TarInfo("home/x")
    huge.size, huge.mode = 1 << 60, 0o600
    return {
        "parent": archive(member("home/../../evil")),
        "absolute": archive(member("/etc/cron.d/evil")),
        "dots": archive(member("home/..")),
        "hidden": archive(member("home/.ssh/authorized_keys")),
        "database": archive(member("dayspring.db")),
        "deep": archive(member("home/a/b/c")),
        "symlink": archive(member("home/link", tarfile.SYMTYPE, "/etc/passwd", 0)),
        "hardlink": archive(member("home/link", tarfile.LNKTYPE, "/etc/passwd", 0)),
        "device": archive(member("home/device", tarfile.CHRTYPE, "", 0)),
        "fifo": archive(member("home/fifo", tarfile.FIFOTYPE, "", 0)),
        "folder": archive(member("home/folder", tarfile.DIRTYPE, "", 0)),
        "sparse": archive(member("home/sparse", tarfile.GNUTYPE_SPARSE)),
        "long name": archive(member("home/" + "x" * 200)),
        "pax": archive(member("home/x"), form=tarfile.PAX_FORMAT, comment="y" * 10_000),
        "huge": huge.tobuf(tarfile.GNU_FORMAT) + b"evil",
        "negative": huge.tobuf(tarfile.GNU_FORMAT).replace(b"\x80\0\0\0", b"\xff\xff\xff\xff"),
        "setuid": archive((lambda pair: (setattr(pair[0], "mode", 0o4755), pair)[1])(member("home/x"))),
        "no archive": b"hello",
        "empty": archive(),
        "zip": b"PK\x03\x04" + bytes(600),
    }  # fmt: skip


@pytest.mark.parametrize("name", list(_evil()))
def test_an_archive_of_tricks_is_refused_before_anything_is_changed(
    new_home: NewHome, tmp_path: Path, name: str
) -> None:
    evil = tmp_path / "evil.tar"
    evil.write_bytes(_evil()[name])
    target = new_home("sqlite")
    with pytest.raises(Refused):
        restore_backup(target, evil, progress=quiet)
    assert not target.home.exists()


def _rewritten(
    source: Path, target: Path, change: dict[str, bytes | None], more: dict[str, bytes] | None = None
) -> None:
    """The archive with some members changed, its manifest made to fit: what only a forger would do."""
    entries = {}
    with source.open("rb") as read, target.open("wb") as written:
        reader, writer = ArchiveReader(read), ArchiveWriter(written)
        manifest = None
        for name, _ in reader.members():
            content = b"".join(reader.chunks())
            if name == "manifest.json":
                manifest = msgspec.json.decode(content)
                continue
            if name == "manifest.sha256":
                continue
            content = change.get(name, content)  # type: ignore[assignment]
            if content is not None:
                entries[name] = writer.add(name, len(content), (content,)), len(content)
        for name, content in (more or {}).items():
            entries[name] = writer.add(name, len(content), (content,)), len(content)
        assert manifest is not None
        old = manifest["entries"]
        manifest["entries"] = {
            name: {"size_bytes": size, "sha256": digest, "rows": old.get(name, {}).get("rows")}
            for name, (digest, size) in entries.items()
        }
        for name in ("header.json",):
            if name in change:
                manifest["header"] = msgspec.json.decode(change[name] or b"{}")
        body = msgspec.json.encode(manifest)
        digest = writer.add("manifest.json", len(body), (body,))
        writer.add("manifest.sha256", 64, (digest.encode(),))
        writer.close()


def test_a_forged_archive_is_held_to_what_it_says(made: Made, new_home: NewHome, tmp_path: Path) -> None:
    backup = made.backup
    header = {"version": "99", "created_at_ns": 1, "dialect": "sqlite", "models": True}
    blob = next(entry for entry in check_backup(backup, "", quiet).entries if entry.startswith("blobs/"))
    cases: list[tuple[dict[str, bytes | None], dict[str, bytes], str]] = [
        ({blob: b"other"}, {}, "another content"),
        ({blob: None}, {}, "is not in it"),
        ({"tables/keys.jsonl.gz": b"no gzip"}, {}, "cannot be read"),
        ({}, {"tables/unknown_table.jsonl.gz": b""}, r"cannot be read|is not what"),
        ({"header.json": msgspec.json.encode(header | {"format": 2, "revision": "x"})}, {}, "format 2"),
        ({"header.json": b"{}"}, {}, "cannot be read"),
    ]
    target = new_home("sqlite")
    for change, more, match in cases:
        _rewritten(backup, tmp_path / "forged", change, more)
        with pytest.raises(DayspringError, match=match):
            restore_backup(target, tmp_path / "forged", progress=quiet)
        assert not target.home.exists() or list(target.home.iterdir()) == []


def test_a_newer_backup_is_refused_and_nothing_changed(made: Made, new_home: NewHome, tmp_path: Path) -> None:
    backup = made.backup
    header = msgspec.json.encode(
        {"format": 1, "version": "9.9.9", "revision": "2999_01_01_future", "created_at_ns": 1, "dialect": "sqlite",
         "models": True}
    )  # fmt: skip
    _rewritten(backup, tmp_path / "newer", {"header.json": header})
    target = new_home("sqlite")
    with pytest.raises(Conflict, match=r"newer Dayspring \(9\.9\.9\)"):
        restore_backup(target, tmp_path / "newer", progress=quiet)
    assert not target.home.exists()
