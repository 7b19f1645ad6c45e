"""Where a batch's answers are until it is done: a folder with its input and one file for each chunk.

A chunk under way has a journal, to which each answer is appended as it comes. When all are there, they are written in
the order of the input to a file of its own, which takes its name at once, and the journal goes.

What holds: an answer that `add` took is not computed again after a kill; one whose writing a kill cut short is not
there. A chunk's file is whole, in order, and each line stands in it once. Journals reach the disk every SYNC_LINES
answers, chunk files before they have their name, so a power cut repeats at most those.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from functools import reduce
from io import FileIO
from pathlib import Path

import msgspec

from dayspring.batches.values import Outcome, Tally
from dayspring.store import failpoints

__all__ = ["SYNC_LINES", "Assembled", "ChunkJournal", "WorkFolder"]

SYNC_LINES = 64


class Assembled(msgspec.Struct, frozen=True):
    """A batch's two files, None for one without a line, and what all their lines come to."""

    output: Path | None
    errors: Path | None
    tally: Tally


class WorkFolder:
    """Of one batch. Every method blocks on the disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def input(self) -> Path:
        return self.path / "input.jsonl"

    def make(self, source: Path) -> None:
        """Makes the folder with its own name for the input, which a deletion of the user's file does not take away."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.input.unlink(missing_ok=True)
        try:
            self.input.hardlink_to(source)
        except OSError:  # another disk
            shutil.copyfile(source, self.input)

    def chunk(self, index: int) -> "ChunkJournal":
        return ChunkJournal(self.path, index)

    def assemble(self, chunks: int) -> "Assembled":
        """The output and the error file over all chunk files there are, in order."""
        tally = Tally()
        wanted = ("output.jsonl", "errors.jsonl")
        with ExitStack() as stack:
            output, errors = (stack.enter_context((self.path / f".{name}").open("wb")) for name in wanted)
            for index in range(chunks):
                for outcome in self.chunk(index).outcomes():
                    tally = tally.plus(outcome.tally)
                    (output if outcome.tally.completed else errors).write(outcome.text + b"\n")
            for file in (output, errors):
                file.flush()
                os.fsync(file.fileno())
            sizes = output.tell(), errors.tell()
        made: list[Path | None] = []
        for name, size in zip(wanted, sizes, strict=True):
            failpoints.hit("batches.before-file")
            made.append((self.path / f".{name}").replace(self.path / name) if size else None)
        return Assembled(made[0], made[1], tally)

    def size_bytes(self) -> int:
        """Of what it holds, the input apart, which is the user's file."""
        if not self.path.is_dir():
            return 0
        return sum(each.stat().st_size for each in self.path.iterdir() if each.is_file() and each != self.input)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


class ChunkJournal:
    """The answers of one chunk. One writer at a time."""

    def __init__(self, folder: Path, index: int) -> None:
        self._journal = folder / f"chunk-{index:05}.part"
        self._file = folder / f"chunk-{index:05}.done"
        self._stream: FileIO | None = None
        self._size = 0
        self._unsynced = 0

    def outcomes(self) -> Iterator[Outcome]:
        """In order of their lines: of the finished chunk, or as far as its journal goes."""
        if self._file.exists():
            with self._file.open("rb") as file:
                yield from map(_read, file)
        elif self._journal.exists():
            yield from map(_read, self._journaled())

    def finished(self) -> Tally | None:
        """What the chunk came to; None while it is not finished."""
        if not self._file.exists():
            return None
        counts = [outcome.tally for outcome in self.outcomes()]
        return reduce(Tally.plus, counts, Tally())

    def open(self) -> dict[int, Tally]:
        """Opens the journal for `add`. The lines that are answered already; what a kill cut off is taken out."""
        answered: dict[int, Tally] = {}
        good = 0
        stream = FileIO(self._journal, "a")
        with self._journal.open("rb") as written:  # FileIO would read its lines byte by byte
            for line in written:
                if not line.endswith(b"\n"):
                    break
                outcome = _read(line)
                answered[outcome.number] = outcome.tally
                good += len(line)
        stream.truncate(good)
        self._size = good
        self._stream = stream
        return answered

    def add(self, outcome: Outcome) -> None:
        """Keeps an answer; after this a kill does not lose it. One write to the system, no wait for the disk."""
        if self._stream is None:
            raise ValueError("the journal is not open")
        data = memoryview(_written(outcome))
        try:
            while data:
                data = data[self._stream.write(data) :]
        except OSError:
            self._stream.truncate(self._size)  # half a line would spoil the next
            raise
        self._size = self._stream.seek(0, os.SEEK_END)
        self._unsynced += 1
        failpoints.hit("batches.line-kept")

    @property
    def is_unsynced(self) -> bool:
        """Whether `sync` is due."""
        return self._unsynced >= SYNC_LINES

    def sync(self) -> None:
        if self._stream is not None:
            self._unsynced = 0
            os.fsync(self._stream.fileno())

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def finish(self) -> Tally:
        """Makes the chunk's file of what the journal has, and lets go of the journal. What the chunk came to."""
        self.close()
        waiting = self._file.with_suffix(".new")
        with waiting.open("wb") as file:
            file.writelines(self._journaled())
            file.flush()
            os.fsync(file.fileno())
        failpoints.hit("batches.before-chunk")
        waiting.replace(self._file)
        _sync_folder(self._file.parent)
        failpoints.hit("batches.after-chunk")
        self._journal.unlink()
        return self.finished() or Tally()

    def _journaled(self) -> Iterator[bytes]:
        """The journal's whole lines in the order of their numbers. One at a time: vectors make a line of megabytes."""
        with self._journal.open("rb") as stream:
            places, at = dict[int, int](), 0
            for line in stream:
                if line.endswith(b"\n"):
                    places[int(line[: line.index(b" ")])] = at
                at += len(line)
            for _, place in sorted(places.items()):
                stream.seek(place)
                yield stream.readline()


def _written(outcome: Outcome) -> bytes:
    """The number and the counts, a tab, the text."""
    numbers = (outcome.number, *msgspec.structs.astuple(outcome.tally))
    return " ".join(map(str, numbers)).encode() + b"\t" + outcome.text + b"\n"


def _read(line: bytes) -> Outcome:
    head, _, text = line.removesuffix(b"\n").partition(b"\t")
    number, *counts = map(int, head.split())
    return Outcome(number, Tally(*counts), text)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
