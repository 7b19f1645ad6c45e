"""The files of a batch under way: whatever a kill leaves of them, the answers come out whole, once and in order."""

import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dayspring.batches.folder import WorkFolder
from dayspring.batches.lines import check_input, read_chunk
from dayspring.batches.values import Outcome, Tally
from dayspring.store import failpoints

POINTS = ("batches.line-kept", "batches.before-chunk", "batches.after-chunk", "batches.before-file", "torn")


class Killed(BaseException):
    """What a kill does to this process's control flow."""


class Kills:
    """Stands in for the fail points: ends the work at the given arrivals, each once."""

    def __init__(self, plan: list[tuple[str, int]]) -> None:
        self.plan = plan
        self.seen: dict[str, int] = {}

    def hit(self, name: str) -> None:
        self.seen[name] = self.seen.get(name, 0) + 1
        if (name, self.seen[name]) in self.plan:
            self.plan.remove((name, self.seen[name]))
            raise Killed


def outcome(number: int, *, failed: bool) -> Outcome:
    tally = Tally(failed=1) if failed else Tally(completed=1, input_tokens=number, output_tokens=2)
    return Outcome(number, tally, b'{"n":%d}' % number)


class Work:
    """The batch's work on its files, as the steps do it, with the billing of the ledger: a key is charged once."""

    def __init__(self, path: Path, chunks: list[list[int]], failing: set[int]) -> None:
        self.folder = WorkFolder(path)
        self.chunks = chunks
        self.failing = failing
        self.billed: dict[int, int] = {}
        self.computed: dict[int, int] = {}

    def run(self) -> tuple[bytes, bytes, Tally]:
        total = Tally()
        for index, numbers in enumerate(self.chunks):
            journal = self.folder.chunk(index)
            tally = journal.finished()
            if tally is None:
                answered = journal.open()
                try:
                    for number in reversed(numbers):  # the order of answers is not that of lines
                        if number not in answered:
                            self.computed[number] = self.computed.get(number, 0) + 1
                            self.billed.setdefault(number, 1)
                            journal.add(outcome(number, failed=number in self.failing))
                finally:
                    journal.close()
                tally = journal.finish()
            total = total.plus(tally)
        made = self.folder.assemble(len(self.chunks))
        assert made.tally == total
        texts = [b"" if path is None else path.read_bytes() for path in (made.output, made.errors)]
        return texts[0], texts[1], total


def _tear(path: Path) -> None:
    """What a kill in the middle of a write leaves: half of the last line."""
    for journal in path.glob("*.part"):
        data = journal.read_bytes()
        if data:
            journal.write_bytes(data[:-3])


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    failing=st.sets(st.integers(1, 24), max_size=6),
    plan=st.lists(st.tuples(st.sampled_from(POINTS), st.integers(1, 12)), max_size=8),
)
def test_any_kills_between_the_fail_points_give_the_same_files_and_one_bill(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], failing: set[int], plan: list[tuple[str, int]]
) -> None:
    numbers = iter(range(1, 100))
    chunks = [[next(numbers) for _ in range(size)] for size in sizes]
    path = tmp_path_factory.mktemp("batch")
    work = Work(path, chunks, failing)
    kills = Kills([each for each in plan if each[0] != "torn"])
    torn = any(name == "torn" for name, _ in plan)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(failpoints, "hit", kills.hit)
        deaths = 0
        while True:
            try:
                output, errors, tally = work.run()
                break
            except Killed:
                deaths += 1
                if torn:
                    _tear(path)
    every = [number for chunk in chunks for number in chunk]
    assert output == b"".join(b'{"n":%d}\n' % number for number in every if number not in failing)
    assert errors == b"".join(b'{"n":%d}\n' % number for number in every if number in failing)
    assert work.billed == dict.fromkeys(every, 1)
    assert tally.completed + tally.failed == len(every)
    assert tally.input_tokens == sum(number for number in every if number not in failing)
    repeated = sum(work.computed.values()) - len(every)
    assert repeated <= (deaths if torn else 0), "an answer that was kept was computed again"


def test_an_unfinished_chunk_gives_what_its_journal_has(tmp_path: Path) -> None:
    folder = WorkFolder(tmp_path)
    journal = folder.chunk(0)
    journal.open()
    for number in (3, 1):
        journal.add(outcome(number, failed=False))
    journal.close()
    made = folder.assemble(1)
    assert made.output is not None
    assert made.output.read_bytes() == b'{"n":1}\n{"n":3}\n'
    assert made.errors is None
    assert made.tally.completed == 2


def test_a_large_journal_is_taken_up_quickly_and_a_line_at_a_time(tmp_path: Path) -> None:
    journal, lines, size = WorkFolder(tmp_path).chunk(0), 32, 1 << 20
    journal.open()
    for number in range(lines, 0, -1):
        journal.add(Outcome(number, Tally(completed=1), b"x" * size))
    journal.close()
    tracemalloc.start()
    try:
        begun = time.process_time()
        assert len(journal.open()) == lines
        journal.finish()
        used_s, most_bytes = time.process_time() - begun, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert used_s < 5  # byte by byte it takes a minute
    assert most_bytes < 8 * size
    assert [outcome.number for outcome in journal.outcomes()] == list(range(1, lines + 1))


def test_a_write_that_the_disk_refuses_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = WorkFolder(tmp_path).chunk(0)
    journal.open()
    journal.add(outcome(1, failed=False))
    stream = journal._stream
    assert stream is not None

    class Full:
        def write(self, data: bytes) -> int:
            if len(data) > 4:
                return stream.write(data[:4])
            raise OSError(28, "No space left on device")

        def __getattr__(self, name: str) -> object:
            return getattr(stream, name)

    monkeypatch.setattr(journal, "_stream", Full())
    with pytest.raises(OSError, match="No space"):
        journal.add(Outcome(2, Tally(completed=1), b"12345678901"[:7]))
    monkeypatch.setattr(journal, "_stream", stream)
    journal.add(outcome(3, failed=False))
    journal.close()
    assert [each.number for each in WorkFolder(tmp_path).chunk(0).outcomes()] == [1, 3]


@settings(max_examples=50, deadline=None)
@given(blanks=st.lists(st.integers(0, 2), min_size=1, max_size=600), last_end=st.booleans())
def test_chunks_hold_every_request_once_in_order_whatever_the_empty_lines(
    tmp_path_factory: pytest.TempPathFactory, blanks: list[int], last_end: bool
) -> None:
    line = b'{"custom_id":"%d","method":"POST","url":"/v1/embeddings","body":{"model":"m","input":"x"}}'
    rows: list[bytes] = []
    expected = []
    for number, empty in enumerate(blanks):
        rows += [b" " * empty] * empty
        rows.append(line % number)
        expected.append((len(rows), str(number)))
    path = tmp_path_factory.mktemp("input") / "in.jsonl"
    path.write_bytes(b"\n".join(rows) + (b"\n" if last_end else b""))
    checked = check_input(path, "/v1/embeddings", line_bytes=1000)
    assert checked.faults == ()
    assert checked.total == len(blanks)
    found = [request for chunk in checked.chunks for request in read_chunk(path, chunk)]
    assert [(request.number, request.custom_id) for request in found] == expected


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"", "empty_file"),
        (b"\n \n", "empty_file"),
        (b"{", "invalid_json_line"),
        (b"[]", "invalid_json_line"),
        (b'{"custom_id":"","method":"POST","url":"/v1/embeddings","body":{"model":"m"}}', "invalid_request"),
        (b'{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":[]}', "invalid_request"),
        (b'{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":{}}', "invalid_request"),
        (b'{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":{"model":"m"},"x":1}', "invalid_request"),
        (b'{"custom_id":"a","pad":"' + b"x" * 2000 + b'"}', "invalid_request"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: bytes, code: str) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(text)
    faults = check_input(path, "/v1/embeddings", line_bytes=1000).faults
    assert [fault.code for fault in faults] == [code]


def test_a_batch_too_long_is_refused_and_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dayspring.batches.lines.MAX_LINES", 3)
    monkeypatch.setattr("dayspring.batches.lines.MAX_INPUTS", 5)
    line = b'{"custom_id":"%d","method":"POST","url":"/v1/embeddings","body":{"model":"m","input":["x","y"]}}\n'
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"".join(line % number for number in range(5)))
    faults = check_input(path, "/v1/embeddings", line_bytes=1000).faults
    assert [(fault.code, fault.line) for fault in faults] == [("too_many_tasks", 3), ("too_many_tasks", 4)]
