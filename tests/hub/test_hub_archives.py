"""Archives give what they declare, or nothing."""

import gzip
import io
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
from hub_files import zipped
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dayspring.core.errors import Refused
from dayspring.hub.fetching.archives import Limits, open_archive

DEFAULT = Limits()


def read_all(path: Path, limits: Limits = DEFAULT) -> dict[str, bytes]:
    with open_archive(path, path.name, limits) as archive:
        return {member.name: b"".join(archive.read(member.name)) for member in archive.members}


def tarred(*entries: tuple[tarfile.TarInfo, bytes], mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for info, data in entries:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data) if data else None)
    return out.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def keep(tmp_path: Path, data: bytes, name: str = "a.zip") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2"])
def test_a_plain_tar_gives_its_files(tmp_path: Path, mode: str) -> None:
    data = tarred((entry("d", tarfile.DIRTYPE), b""), (entry("./d/a"), b"abc"), (entry("b"), b"x" * 100_000), mode=mode)
    assert read_all(keep(tmp_path, data)) == {"d/a": b"abc", "b": b"x" * 100_000}


def test_a_plain_zip_gives_its_files(tmp_path: Path) -> None:
    members = {"d/a": b"abc", "b": b"x" * 100_000}
    assert read_all(keep(tmp_path, zipped(members))) == members


BAD_NAMES = ["../a", "/etc/a", "d/../../a", "C:/a", "d\\a", "a\nb", "~/a", "d//a"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_zip_with_a_name_that_leaves_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Refused, match="name"):
        read_all(keep(tmp_path, zipped({"good": b"a", name: b"b"})))


@pytest.mark.parametrize("name", ["../a", "/etc/a", "d/../../a"])
def test_a_tar_with_a_name_that_leaves_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Refused, match="name"):
        read_all(keep(tmp_path, tarred((entry(name), b"b"))))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.BLKTYPE])
def test_a_tar_with_a_link_or_device_is_refused(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(Refused, match="link, a device"):
        read_all(keep(tmp_path, tarred((entry("good"), b"a"), (entry("bad", kind, "/etc/passwd"), b""))))


def test_a_zip_with_a_link_is_refused(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(Refused, match="link"):
        read_all(keep(tmp_path, out.getvalue()))


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a", "1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a", "2")
    with pytest.raises(Refused, match="one name"):
        read_all(keep(tmp_path, out.getvalue()))
    with pytest.raises(Refused, match="one name"):
        read_all(keep(tmp_path, tarred((entry("a"), b"1"), (entry("a"), b"2"))))


def test_a_bomb_is_refused_while_it_unpacks(tmp_path: Path) -> None:
    path = keep(tmp_path, zipped({"bomb": bytes(64 << 20)}))
    seen: list[bytes] = []
    with open_archive(path, "a.zip", Limits(ratio=100)) as archive, pytest.raises(Refused, match="100 times"):
        seen.extend(archive.read("bomb"))
    assert sum(map(len, seen)) < 16 << 20


def test_a_bomb_that_declares_little_is_refused(tmp_path: Path) -> None:
    data = bytearray(zipped({"bomb": bytes(8 << 20)}))
    real, lie = struct.pack("<I", 8 << 20), struct.pack("<I", 10)
    assert data.count(real) == 2
    path = keep(tmp_path, bytes(data).replace(real, lie))
    seen: list[bytes] = []
    with open_archive(path, "a.zip") as archive, pytest.raises(Refused):
        seen.extend(archive.read("bomb"))
    assert sum(map(len, seen)) <= 10


def test_a_member_shorter_than_declared_is_refused(tmp_path: Path) -> None:
    data = zipped({"a": b"abc" * 1000})
    path = keep(tmp_path, data.replace(struct.pack("<I", 3000), struct.pack("<I", 4000)))
    with pytest.raises(Refused):
        read_all(path)


def test_too_many_members_and_too_many_bytes_are_refused(tmp_path: Path) -> None:
    path = keep(tmp_path, zipped({str(index): b"12345" for index in range(20)}))
    with pytest.raises(Refused, match="members"):
        read_all(path, Limits(members=19))
    with pytest.raises(Refused, match="bytes"):
        read_all(path, Limits(total_bytes=99))
    assert len(read_all(path, Limits(members=20, total_bytes=100))) == 20


def test_members_that_share_bytes_are_refused(tmp_path: Path) -> None:
    data = bytearray(zipped({"a": b"1" * 500, "b": b"2" * 500}, zipfile.ZIP_STORED))
    directory = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 4)
    data[directory + 42 : directory + 46] = struct.pack("<I", 10)
    with pytest.raises(Refused):
        read_all(keep(tmp_path, bytes(data)))


def test_a_tar_that_declares_more_than_its_packing_can_hold_is_refused_unread(tmp_path: Path) -> None:
    info = entry("huge")
    info.size = 1 << 40
    path = keep(tmp_path, gzip.compress(info.tobuf() + bytes(1024)), "a.tar.gz")
    with pytest.raises(Refused, match="declares"):
        read_all(path)


def test_a_tar_with_a_huge_extended_header_is_refused(tmp_path: Path) -> None:
    info = entry("././@PaxHeader", tarfile.XHDTYPE)
    info.size = 1 << 30
    with pytest.raises(Refused):
        read_all(keep(tmp_path, info.tobuf() + bytes(4096), "a.tar"))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), packed=st.sampled_from(["zip", "w", "w:gz"]))
def test_a_mutated_archive_is_read_or_refused(tmp_path: Path, data: st.DataObject, packed: str) -> None:
    members = {"d/a": b"abc" * 50, "b": b"x" * 1000}
    plain = zipped(members) if packed == "zip" else tarred(*((entry(n), d) for n, d in members.items()), mode=packed)
    raw = bytearray(plain)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del raw[data.draw(st.integers(1, len(raw))) :]
    try:
        for content in read_all(keep(tmp_path, bytes(raw))).values():
            assert len(content) <= 4 << 20
    except Refused:
        pass
