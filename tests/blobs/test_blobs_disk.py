"""The disk store: whole files or none, damage told, one writer, collected by reference."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dayspring.blobs.disk import DiskBlobs
from dayspring.contracts.blobs import Collected
from dayspring.core.errors import Conflict, NotFound, Refused, Unavailable


@pytest.fixture
def blobs(tmp_path: Path) -> DiskBlobs:
    return DiskBlobs(tmp_path / "blobs")


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_file_is_found_under_its_hash_with_two_levels_of_folders(blobs: DiskBlobs) -> None:
    digest = blobs.put([b"ab", b"c"])
    assert digest == sha(b"abc")
    assert blobs.path(digest).relative_to(blobs.root) == Path("sha256", digest[:2], digest[2:4], digest)
    assert b"".join(blobs.read(digest)) == b"abc"
    assert blobs.size(digest) == 3


def test_a_file_with_another_hash_than_expected_leaves_nothing(blobs: DiskBlobs) -> None:
    with pytest.raises(Refused):
        blobs.put([b"abc"], expected=sha(b"abd"))
    assert [file for file in blobs.root.rglob("*") if file.is_file()] == []


def test_a_source_that_breaks_leaves_nothing(blobs: DiskBlobs) -> None:
    def broken() -> object:
        yield b"abc"
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        blobs.put(broken())  # type: ignore[arg-type]
    assert [file for file in blobs.root.rglob("*") if file.is_file()] == []


@pytest.mark.parametrize("size", [3, 1 << 20, (2 << 20) + 5])
def test_damage_is_told_before_the_last_chunk(blobs: DiskBlobs, size: int) -> None:
    digest = blobs.put([b"x" * size])
    file = blobs.path(digest)
    file.chmod(0o644)
    file.write_bytes(b"x" * (size - 1) + b"y")
    got: list[bytes] = []
    with pytest.raises(Unavailable):
        got.extend(blobs.read(digest))
    assert sum(map(len, got)) < size
    with pytest.raises(Unavailable):
        blobs.verify(digest)


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 64, "a" * 63])
def test_a_name_that_is_no_hash_reaches_no_file(blobs: DiskBlobs, name: str) -> None:
    with pytest.raises(NotFound):
        blobs.path(name)


def test_a_partial_goes_on_where_it_stopped(blobs: DiskBlobs) -> None:
    with blobs.partial("key") as first:
        first.restart("etag-1")
        first.write(b"abc")
    with blobs.partial("key") as second:
        assert (second.size_bytes, second.tag) == (3, "etag-1")
        second.write(b"def")
        digest = second.finish(sha(b"abcdef"))
    assert b"".join(blobs.read(digest)) == b"abcdef"
    with blobs.partial("key") as third:
        assert (third.size_bytes, third.tag) == (0, "")


def test_a_partial_with_the_wrong_hash_starts_afresh(blobs: DiskBlobs) -> None:
    with blobs.partial("key") as partial:
        partial.write(b"abc")
        with pytest.raises(Refused):
            partial.finish(sha(b"other"))
    with blobs.partial("key") as partial:
        assert partial.size_bytes == 0


def test_a_partial_has_one_writer(blobs: DiskBlobs) -> None:
    with blobs.partial("key"), pytest.raises(Conflict):
        blobs.partial("key")


WRITER = """
import sys, pathlib, signal
from dayspring.blobs.disk import DiskBlobs
partial = DiskBlobs(pathlib.Path(sys.argv[1])).partial("key")
partial.restart("t")
partial.write(b"x" * (3 << 20))
partial._stream.flush()
print("written", flush=True)
signal.pause()
"""


def test_a_partial_survives_kill_9_and_frees_its_lock(blobs: DiskBlobs) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(blobs.root)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"written\n"
    with pytest.raises(Conflict):
        blobs.partial("key")
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    with blobs.partial("key") as partial:
        assert (partial.size_bytes, partial.tag) == (3 << 20, "t")
        assert blobs.has(partial.finish())


def test_collecting_keeps_what_is_referenced_young_or_being_written(blobs: DiskBlobs) -> None:
    kept, young, old = (blobs.put([name]) for name in (b"kept", b"young", b"old"))
    past = time.time() - 100
    for digest in (kept, old):
        os.utime(blobs.path(digest), (past, past))
    with blobs.partial("busy") as busy:
        busy.write(b"data")
        busy._stream.flush()
        os.utime(busy._file, (past, past))
        gone = blobs.collect(lambda: {kept}, grace_s=50)
        assert (gone.blobs, gone.bytes) == (1, 3)
        assert busy._file.exists()
    assert blobs.has(kept)
    assert blobs.has(young)
    assert not blobs.has(old)


def test_a_link_survives_the_removal_of_the_blob(blobs: DiskBlobs, tmp_path: Path) -> None:
    digest = blobs.put([b"abc"])
    blobs.link(digest, tmp_path / "model" / "readable.gguf")
    blobs.release({digest}, set)
    assert (tmp_path / "model" / "readable.gguf").read_bytes() == b"abc"
    assert not blobs.has(digest)


def test_adopting_moves_the_file(blobs: DiskBlobs) -> None:
    file = blobs.incoming / "made"
    file.write_bytes(b"made here")
    digest = blobs.adopt(file)
    assert digest == sha(b"made here")
    assert not file.exists()
    assert b"".join(blobs.read(digest)) == b"made here"


@settings(max_examples=30, deadline=None)
@given(chunks=st.lists(st.binary(max_size=64), max_size=8), stops=st.sets(st.integers(0, 7)))
def test_any_interruptions_give_the_same_file(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes], stops: set[int]
) -> None:
    blobs = DiskBlobs(tmp_path_factory.mktemp("b"))
    partial = blobs.partial("k")
    for index, chunk in enumerate(chunks):
        if index in stops:
            partial.close()
            partial = blobs.partial("k")
        partial.write(chunk)
    digest = partial.finish()
    partial.close()
    assert digest == sha(b"".join(chunks))
    assert b"".join(blobs.read(digest)) == b"".join(chunks)


def test_a_row_that_came_to_refer_to_an_old_file_before_the_lock_keeps_it(blobs: DiskBlobs) -> None:
    """Whoever adds it is `keeping` while the collection begins, and has its row in when it goes on."""
    digest = blobs.put([b"old"])
    os.utime(blobs.path(digest), (1, 1))
    rows: set[str] = set()
    collected: list[Collected] = []
    with blobs.keeping():
        other = threading.Thread(target=lambda: collected.append(blobs.collect(lambda: set(rows), grace_s=50)))
        other.start()
        rows.add(digest)
    other.join()
    assert collected == [Collected(0, 0)]
    assert blobs.has(digest)


def test_a_file_that_is_held_is_young_again(blobs: DiskBlobs) -> None:
    digest = blobs.put([b"old"])
    os.utime(blobs.path(digest), (1, 1))
    assert blobs.hold(digest)
    assert blobs.collect(set, grace_s=50) == Collected(0, 0)
    assert not blobs.hold("0" * 64)
