"""What a content is, and names that would like to be something else."""

import zipfile
from io import BytesIO
from pathlib import Path

import pytest
from files_kit import PNG
from hypothesis import given
from hypothesis import strategies as st

from dayspring.core.errors import Malformed
from dayspring.files.kinds import HEAD_BYTES, media_type
from dayspring.files.names import clean_name, disposition
from dayspring.files.purposes import split_lines


def _zip() -> bytes:
    made = BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("a.txt", "hello")
    return made.getvalue()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "application/x-empty"),
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(50), "image/jpeg"),
        (b"RIFF\x24\x00\x00\x00WEBPVP8 " + bytes(50), "image/webp"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(50), "audio/wav"),
        (b"GIF89a" + bytes(20), "image/gif"),
        (b"GIF89a is what it says", "text/plain"),
        (b"MZ is a nice pair of letters", "text/plain"),
        (b"MZ" + bytes(200), "application/x-executable"),
        (b"\x7fELF\x02" + bytes(200), "application/x-executable"),
        (b"\xca\xfe\xba\xbe\x00\x00\x00\x34" + bytes(60), "application/x-executable"),
        (b"\x00asm\x01\x00\x00\x00", "application/x-executable"),
        (b"%PDF-1.7\nplain", "application/pdf"),
        (b"{\\rtf1 hello}", "application/rtf"),
        (_zip(), "application/zip"),
        (b"\x80\x04\x95\x10\x00", "application/octet-stream"),
        (bytes(100), "application/octet-stream"),
        (b"plain words\n", "text/plain"),
        ("Ein schöner Text".encode(), "text/plain"),
        ("Ein schöner Text".encode("utf-16"), "text/plain"),
        ("Ein schöner Text".encode("latin-1"), "application/octet-stream"),
        (b'{"a": 1}', "application/json"),
        (b'{\n "a": 1\n}\n', "application/json"),
        (b"[1, 2]", "application/json"),
        (b'{"a": 1}\n{"b": 2}\n', "application/jsonl"),
        (b'{"a": 1}\r\n\r\n{"b": 2}', "application/jsonl"),
        (b'{"a": 1}\n{"b": \n', "text/plain"),
        (b"[1] is a reference\n", "text/plain"),
        (b"a,b\n1,2\n", "text/csv"),
        (b'a;"b;c"\n1;2\n', "text/csv"),
        (b"a,b\n1,2,3\n", "text/plain"),
        (b"<!DOCTYPE html><p>x", "text/html"),
        (b'<?xml version="1.0"?><svg xmlns="x"/>', "image/svg+xml"),
        (b'<?xml version="1.0"?><a/>', "application/xml"),
        (b"[" * 100_000, "text/plain"),
    ],
)
def test_a_content_is_what_its_bytes_are(data: bytes, kind: str) -> None:
    assert media_type(data[:HEAD_BYTES], len(data) <= HEAD_BYTES) in {
        kind,
        *(("application/json",) * (data[:2] == b"[[")),
    }


def test_a_long_text_is_told_by_its_head_wherever_that_cuts_it() -> None:
    for pad in range(4):
        text = ("x" * pad + "é" * HEAD_BYTES).encode()
        assert media_type(text[:HEAD_BYTES], whole=False) == "text/plain"
    lines = b'{"key": "value"}\n' * HEAD_BYTES
    assert media_type(lines[:HEAD_BYTES], whole=False) == "application/jsonl"
    one = b'{"key": "' + b"x" * HEAD_BYTES + b'"}'
    assert media_type(one[:HEAD_BYTES], whole=False) == "application/json"


@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_make_it_fail(data: bytes, whole: bool) -> None:
    assert "/" in media_type(data, whole)


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("notes.txt", "notes.txt"),
        ("../../etc/passwd", "passwd"),
        ("C:\\secret\\plan.doc", "plan.doc"),
        ("a\0b.txt", "ab.txt"),
        ("a\r\nSet-Cookie: x=1.txt", "aSet-Cookie: x=1.txt"),
        ("", "file"),
        ("..", "file"),
        ("/", "file"),
        ("   ", "file"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        ("报告.pdf", "报告.pdf"),
        ("e\u0301.txt", "é.txt"),
        ("x" * 10_000 + ".jsonl", "x" * 249 + ".jsonl"),
        ("\ud800.txt", ".txt"),
    ],
)
def test_a_name_loses_what_no_name_should_have(name: str, clean: str) -> None:
    assert clean_name(name) == clean


@given(st.text())
def test_any_name_is_harmless_in_a_header(name: str) -> None:
    clean = clean_name(name)
    assert 0 < len(clean) <= 255
    assert clean_name(clean) == clean
    header = disposition(clean)
    assert header.isascii()
    assert header.isprintable()
    assert header.count('"') == 2


@given(st.lists(st.binary(max_size=40).filter(lambda line: b"\n" not in line and not line.endswith(b"\r"))))
def test_lines_are_split_as_they_were_joined(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]) -> None:
    file: Path = tmp_path_factory.mktemp("l") / "f"
    file.write_bytes(b"".join(line + b"\n" for line in lines))
    assert list(split_lines(file, 40)) == lines
    if any(len(line) > 20 for line in lines):
        with pytest.raises(Malformed):
            list(split_lines(file, 20))
